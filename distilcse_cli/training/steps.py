"""Steps: which rows each one takes, its learning rate, its record, and how a run is asked to stop."""

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from distilcse_cli.errors import DistilCSEError
from distilcse_cli.signals import StopWish, end, handled

WINDOW_BATCHES = 64  # a window of 64 batches leaves under 3 % padding on news text


@dataclass
class Plan:
    """Which rows each step takes. It depends on the step's number alone, so a run can resume at any step."""

    lengths: np.ndarray
    """(N,) tokens of each training row."""
    batch_size: int
    """Rows of a step, over all processes."""
    epochs: int
    max_steps: int | None
    seed: int
    shuffle: bool
    _epoch: tuple[int, list[np.ndarray]] = field(default=(-1, []), init=False)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which each row is taken once."""
        return -(-len(self.lengths) // self.batch_size)

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        steps = self.epochs * self.steps_per_epoch
        return min(steps, self.max_steps or steps)

    def num_rows_of(self, steps: int) -> int:
        """Rows of the first `steps` steps. A row counts each time it is taken."""
        epochs, rest = divmod(steps, self.steps_per_epoch)
        return epochs * len(self.lengths) + min(rest * self.batch_size, len(self.lengths))

    def batch(self, step: int) -> np.ndarray:
        """Numbers of the rows that `step`, counted from 0, takes."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            batches = epoch_batches(
                self.lengths, batch_size=self.batch_size, seed=self.seed, epoch=epoch, shuffle=self.shuffle
            )
            self._epoch = epoch, batches
        return self._epoch[1][index]


def epoch_batches(lengths: np.ndarray, *, batch_size: int, seed: int, epoch: int, shuffle: bool) -> list[np.ndarray]:
    """Row numbers of every batch of an epoch. Each row appears exactly once.

    The rows are shuffled and cut into large windows. Inside a window they are sorted by length, so
    that a batch has hardly any padding. Then the batches of the epoch are shuffled, so that length
    and time are unrelated.

    Args:
        lengths: (N,) tokens of each row.
        batch_size: rows in a batch; the last one formed may have fewer.
        seed: decides the order together with `epoch`, and the same way on every machine.
        epoch: counted from 0; each has another order.
        shuffle: False keeps the order of the rows, as the golden runs do.

    Returns:
        Arrays of int64 row numbers, in the order of training.
    """
    rows = np.arange(len(lengths))
    if not shuffle:
        return _cut(rows, batch_size)
    generator = np.random.default_rng([seed, epoch])
    generator.shuffle(rows)
    batches = []
    for window in _cut(rows, batch_size * WINDOW_BATCHES):
        batches += _cut(window[np.argsort(lengths[window], kind="stable")], batch_size)
    order = generator.permutation(len(batches))
    return [batches[index] for index in order]


def _cut(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def cosine_with_warmup(step: int, *, num_steps: int, warmup_steps: float) -> float:
    """Factor of the highest learning rate to use in `step` (counted from 0).

    The first step uses 0, as in the published runs. `warmup_steps` need not be a whole number: the
    paper warms up for a tenth of one epoch, whatever the number of its steps.
    """
    if step < warmup_steps:
        return step / max(1.0, warmup_steps)
    progress = (step - warmup_steps) / max(1.0, num_steps - warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))


@dataclass(frozen=True)
class StepRecord:
    """One optimizer step. Scale and learning rate are those that it used."""

    step: int
    num_steps: int
    num_sentences: int
    num_tokens: int
    loss: float
    scale: float
    lr: float
    grad_norm: float
    num_hidden: int
    """Pairs of sentence and key left out as false negatives."""
    teacher_cosine: float | None = None
    """Mean cosine between the projected student rows and their teacher rows; None without a teacher."""
    positive_cosine: float | None = None
    """Mean cosine between anchors and their positives; None without positives."""


class NonFiniteLoss(DistilCSEError):
    """The loss or its gradient is not a finite number. The weights are those before that step."""


def require_finite(step: int, loss: float, grad_norm: float) -> None:
    """Check a step before it changes the weights.

    Raises:
        NonFiniteLoss: naming the step.
    """
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        raise NonFiniteLoss(
            f"step {step}: the loss is {loss}, its gradient's norm {grad_norm}",
            hint="lower --lr, or try --compute-dtype float32",
        )


class Interrupted(DistilCSEError):
    """The run was asked to stop, and its progress is saved."""

    def __init__(self, message: str, by: signal.Signals, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.by = by
        self.exit_code = 128 + by.value


@contextmanager
def stop_wishes() -> Iterator[StopWish]:
    """Catch the first signal in the block, for the loop to read after a step; another one ends the process.

    A second SIGHUP does not: a closed terminal may send two.
    """
    wish = StopWish()

    def note(number: signal.Signals) -> None:
        if wish.by is None:
            wish.by = number
        elif number != getattr(signal, "SIGHUP", None):
            end(number)

    with handled(note):
        yield wish


def interrupted(record: StepRecord, wish: StopWish) -> Interrupted:
    """The error that ends a run which was asked to stop."""
    return Interrupted(f"stopped after step {record.step:,} of {record.num_steps:,}", wish.by or signal.SIGINT)
