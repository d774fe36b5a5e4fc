"""Which sentences go into which training step.

An epoch is a seeded shuffle of all rows, cut into large windows. Inside a window rows are
sorted by length, so that a batch holds sentences of about one length and hardly any padding;
then all batches of the epoch are shuffled, so that the lengths seen say nothing about time.
"""

from dataclasses import dataclass, field

import numpy as np

WINDOW_BATCHES = 64  # a window of 64 batches leaves under 3 % padding on news text


@dataclass
class Plan:
    """Which rows each step takes: a function of the step's number, so that a run may go on from any step."""

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
        """Rows of the first so many steps; each time that a row is taken counts."""
        epochs, rest = divmod(steps, self.steps_per_epoch)
        return epochs * len(self.lengths) + min(rest * self.batch_size, len(self.lengths))

    def batch(self, step: int) -> np.ndarray:
        """Numbers of the rows that `step`, counted from 0, takes."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            batches = epoch_batches(
                self.lengths, batch_size=self.batch_size, seed=self.seed, epoch=epoch, shuffle=self.shuffle
            )
            self._epoch = epoch, batches
        return self._epoch[1][place]


def epoch_batches(lengths: np.ndarray, *, batch_size: int, seed: int, epoch: int, shuffle: bool) -> list[np.ndarray]:
    """Row numbers of every batch of an epoch; each row appears exactly once.

    Args:
        lengths: (N,) tokens of each row.
        batch_size: rows in a batch; the last one formed may have fewer.
        seed: with `epoch` decides the order, on every machine alike.
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
