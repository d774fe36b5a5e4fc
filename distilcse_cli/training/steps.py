"""What the loops of both stages have in common: the learning rate of a step, its record, and what ends a run."""

import math
import signal
from dataclasses import dataclass
from typing import Protocol

from distilcse_cli.errors import DistilCSEError
from distilcse_cli.training.signals import Interrupted, StopWish
from distilcse_cli.training.state import TrainState


@dataclass(frozen=True)
class StepRecord:
    """One optimizer step as it was taken: the scale and learning rate are those used in it."""

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
    """Mean cosine between the projected student's rows and their teacher rows; None without a teacher."""
    positive_cosine: float | None = None
    """Mean cosine between anchors and their positives; None in stage 1."""


class NonFiniteLoss(DistilCSEError):
    """The loss or its gradient is not a finite number; the weights are those before that step."""


class Watcher(Protocol):
    """What goes on beside the steps: scores, checkpoints, signs of life."""

    def start(self, state: TrainState) -> None:
        """Put a resumed run's state in place before the first step."""
        ...

    def after_step(self, state: TrainState, record: StepRecord, *, stop: bool) -> None:
        """Look at a step that was taken; `stop`: a process was asked to stop, and all know."""
        ...


def cosine_with_warmup(step: int, *, num_steps: int, warmup_steps: float) -> float:
    """Factor of the highest learning rate to use in `step` (counted from 0).

    The first step uses 0, as in the published runs. `warmup_steps` need not be whole: the
    paper's is a tenth of one epoch, whatever that comes to.
    """
    if step < warmup_steps:
        return step / max(1.0, warmup_steps)
    progress = (step - warmup_steps) / max(1.0, num_steps - warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))


def require_finite(step: int, loss: float, grad_norm: float) -> None:
    """Check a step of either stage before it changes the weights.

    Raises:
        NonFiniteLoss: naming the step.
    """
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        raise NonFiniteLoss(
            f"step {step}: the loss is {loss}, its gradient's norm {grad_norm}",
            hint="lower --lr, or try --compute-dtype float32",
        )


def interrupted(record: StepRecord, wish: StopWish) -> Interrupted:
    """What ends a run of either stage that was asked to stop, behind the step that it was taking."""
    return Interrupted(f"interrupted behind step {record.step:,} of {record.num_steps:,}", wish.by or signal.SIGINT)
