"""The training loop of every objective, from top to bottom.

It reads token rows by number. No tokenizer runs in here.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from distilcse_cli.ranks import Ranks, sum_gradients
from distilcse_cli.signals import StopWish
from distilcse_cli.training.objective import Objective
from distilcse_cli.training.state import TrainState
from distilcse_cli.training.steps import (
    StepRecord,
    cosine_with_warmup,
    interrupted,
    require_finite,
    stop_wishes,
)


class Watcher(Protocol):
    """Looks at every step: scores, checkpoints, metrics."""

    def after_step(self, state: TrainState, record: StepRecord, *, stop: bool) -> None:
        """Called after each step. `stop`: a process was asked to stop, and all processes know."""
        ...


def train(
    objective: Objective, state: TrainState, on_step: Callable[[StepRecord], None], *, watcher: Watcher | None = None
) -> None:
    """Train `state.model` in place, from `state.step` to the last step of the plan.

    Args:
        objective: the data and the loss.
        state: new, or restored from a checkpoint; its model is on the runtime's device.
        on_step: called after every optimizer step.
        watcher: evaluates and saves; None does neither.

    Raises:
        NonFiniteLoss: on all processes, naming the step; the model keeps the weights from before it.
        Interrupted: on all processes, after a step, when one of them was asked to stop.
    """
    settings, ranks, plan, model = objective.settings, objective.ranks, objective.plan, state.model
    warmup_steps = settings.warmup_epochs * len(objective.rows) / plan.batch_size
    # another machine may have loaded other weights: all processes start from rank 0's
    ranks.copy_([tensor.detach() for tensor in model.state_dict().values()])
    model.train(settings.dropout)
    with stop_wishes() as wish:
        while state.step < plan.num_steps and not state.selection.ended:
            rows = objective.rows[plan.batch(state.step)]
            lr = settings.rate * cosine_with_warmup(state.step, num_steps=plan.num_steps, warmup_steps=warmup_steps)
            scale = model.scale().item()

            sums = objective.backward(state, rows)
            loss, num_hidden, positive_cosine, teacher_cosine, stop = _over_ranks(state, sums, wish, ranks)
            grad_norm = torch.nn.utils.clip_grad_norm_(state.trained, settings.grad_clip).item()
            require_finite(state.step + 1, loss, grad_norm)
            state.take_step(lr)
            objective.after_step(state, rows)

            record = StepRecord(
                step=state.step,
                num_steps=plan.num_steps,
                num_sentences=rows.size,
                num_tokens=int(objective.tokens.lengths[rows].sum()),
                loss=loss,
                scale=scale,
                lr=lr,
                grad_norm=grad_norm,
                num_hidden=int(num_hidden),
                positive_cosine=positive_cosine / len(rows) if "positive_cosine" in objective.cosines else None,
                teacher_cosine=teacher_cosine / len(rows) if "teacher_cosine" in objective.cosines else None,
            )
            on_step(record)
            if watcher:
                watcher.after_step(state, record, stop=bool(stop))
            if stop:
                raise interrupted(record, wish)


def _over_ranks(state: TrainState, sums: Tensor, wish: StopWish, ranks: Ranks) -> list[float]:
    """Sum gradients and `sums` over all processes, and append whether any process was asked to stop."""
    stop = sums.new_tensor([wish.by is not None])
    return sum_gradients(ranks, state.trained, torch.cat([sums, stop])).tolist()
