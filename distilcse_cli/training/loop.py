"""The training loop of stage 1, from top to bottom.

It reads token rows and teacher rows by number. No tokenizer runs in here.

Each process takes its share of a step's sentences and scores it against the teacher rows of the
whole global batch, which it knows by their numbers, and the bank. So any split of a batch, over
processes or micro-batches, gives the gradient of the whole.

Shape letters: G sentences of a global batch, B those of this process, M of a micro-batch,
D teacher width.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from distilcse_cli.data.tokens import TokenRows
from distilcse_cli.errors import UsageError
from distilcse_cli.models.batching import token_budget_batches
from distilcse_cli.ranks import ALONE, Ranks, sum_gradients
from distilcse_cli.runtime import Runtime
from distilcse_cli.training.bank import MemoryBank
from distilcse_cli.training.batches import Plan
from distilcse_cli.training.contrast import FalseNegatives, pairs_of_same_text
from distilcse_cli.training.losses import ckd_loss, cosine_loss, kl_loss, mse_loss
from distilcse_cli.training.model import DistillModel
from distilcse_cli.training.settings import DistillSettings
from distilcse_cli.training.signals import StopWish, stop_wishes
from distilcse_cli.training.state import TrainState, new_optimizer
from distilcse_cli.training.steps import StepRecord, Watcher, cosine_with_warmup, interrupted, require_finite
from distilcse_cli.training.teacher_rows import TeacherRows

CONTRASTIVE = ("ckd", "ckd+mse", "kl")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a run trains on and with."""

    tokens: TokenRows
    """The student's token rows of the whole corpus."""
    teacher: TeacherRows
    """Gives the teacher rows of the same corpus."""
    rows: np.ndarray
    """Numbers of the corpus rows to train on."""
    settings: DistillSettings
    runtime: Runtime
    ranks: Ranks = ALONE


def train(
    model: DistillModel,
    inputs: Inputs,
    on_step: Callable[[StepRecord], None],
    *,
    watcher: Watcher | None = None,
) -> TrainState:
    """Train `model` in place.

    Args:
        model: the student with its projection and scale, on the runtime's device.
        inputs: what it learns from.
        on_step: called after every optimizer step.
        watcher: evaluates and saves; None does neither.

    Returns:
        What training left.

    Raises:
        NonFiniteLoss: naming the step, on all processes; `model` keeps the weights from before it.
        Interrupted: behind a step, on all processes, when one was asked to stop.
    """
    settings, ranks = inputs.settings, inputs.ranks
    plan = plan_steps(inputs)
    warmup_steps = settings.warmup_epochs * len(inputs.rows) / plan.batch_size
    state = _start(model, inputs, watcher)
    with stop_wishes() as wish:
        while state.step < plan.num_steps and not state.selection.ended:
            batch = inputs.rows[plan.batch(state.step)]
            lr = settings.lr * cosine_with_warmup(state.step, num_steps=plan.num_steps, warmup_steps=warmup_steps)
            scale = model.scale.item()
            target = inputs.teacher.rows(batch)

            sums = _backward(state, batch, target, inputs)
            loss, cosine, num_hidden, stop = _over_ranks(state, sums, wish, ranks)
            grad_norm = torch.nn.utils.clip_grad_norm_(state.trained, settings.grad_clip).item()
            require_finite(state.step + 1, loss, grad_norm)
            state.take_step(lr)
            _remember(state.bank, batch, target, inputs)

            record = StepRecord(
                step=state.step,
                num_steps=plan.num_steps,
                num_sentences=len(batch),
                num_tokens=int(inputs.tokens.lengths[batch].sum()),
                loss=loss,
                scale=scale,
                lr=lr,
                grad_norm=grad_norm,
                num_hidden=int(num_hidden),
                teacher_cosine=cosine / len(batch),
            )
            on_step(record)
            if watcher:
                watcher.after_step(state, record, stop=bool(stop))
            if stop:
                raise interrupted(record, wish)
    return state


def plan_steps(inputs: Inputs) -> Plan:
    """Which rows each step takes."""
    settings = inputs.settings
    return Plan(
        lengths=inputs.tokens.lengths[inputs.rows],
        batch_size=settings.batch_size * inputs.ranks.world_size,
        epochs=settings.epochs,
        max_steps=settings.max_steps,
        seed=settings.seed,
        shuffle=settings.shuffle,
    )


def _start(model: DistillModel, inputs: Inputs, watcher: Watcher | None) -> TrainState:
    """The state before the first step of this sitting."""
    bank_is_shared = inputs.settings.bank == "shared" or inputs.ranks.world_size == 1
    state = TrainState(model, new_optimizer(model), _new_bank(inputs), bank_is_shared)
    if watcher:
        watcher.start(state)
    # nothing should depend on every machine's having loaded the same numbers
    inputs.ranks.copy_([tensor.detach() for tensor in model.state_dict().values()])
    model.train(inputs.settings.dropout)
    return state


def _new_bank(inputs: Inputs) -> MemoryBank:
    settings, runtime, width = inputs.settings, inputs.runtime, inputs.teacher.width
    # never more than all rows of the run
    size = min(settings.bank_size, len(inputs.rows) * settings.epochs) if settings.loss in CONTRASTIVE else 0
    try:
        return MemoryBank(size, width, device=runtime.torch_device(), dtype=getattr(torch, runtime.dtype))
    except (RuntimeError, MemoryError) as error:
        raise UsageError(f"no memory for --bank-size {size} of {width} numbers each", hint="lower it") from error


def _backward(state: TrainState, batch: np.ndarray, target: Tensor, inputs: Inputs) -> Tensor:
    """Add up this process's share of the gradient, a micro-batch at a time.

    Returns:
        (3,) this process's share of the loss, of the cosines' sum, and of the hidden pairs.
    """
    settings, tokens = inputs.settings, inputs.tokens
    mine = inputs.ranks.share(np.arange(len(batch)))
    sums = torch.zeros(3, device=target.device)
    for part in _micro_batches(tokens.lengths[batch[mine]], settings.micro_batch_tokens):
        own = mine[part]
        ids, mask = tokens.pad(batch[own], state.model.encoder.pad_id)
        with inputs.runtime.autocast():
            student = state.model(ids.to(target.device), mask.to(target.device))
        if settings.bank == "per-rank":
            loss, num_hidden = _loss(student, target[mine], batch[mine], part, state, settings)
        else:
            loss, num_hidden = _loss(student, target, batch, own, state, settings)
        loss = loss * (len(own) / len(batch))
        loss.backward()
        with torch.no_grad():
            cosines = functional.cosine_similarity(student.float(), target[own])
            sums += torch.stack([loss.detach(), cosines.sum(), torch.as_tensor(num_hidden, device=loss.device)])
    return sums


def _micro_batches(lengths: np.ndarray, budget: int | None) -> list[np.ndarray]:
    if budget is None:
        return [np.arange(len(lengths))] if len(lengths) else []
    return token_budget_batches(lengths, budget)


def _loss(
    student: Tensor,
    teacher: Tensor,
    sentences: np.ndarray,
    own: np.ndarray,
    state: TrainState,
    settings: DistillSettings,
) -> tuple[Tensor, int | Tensor]:
    """Mean loss of a micro-batch, and how many of its keys were left out.

    Args:
        student: (M, D) projected students.
        teacher: (G, D) teacher rows that they choose among, beside the bank.
        sentences: (G,) numbers of those rows' sentences.
        own: (M,) which of those rows belong to the students.
        state: for bank and scale.
        settings: which loss.
    """
    row = torch.from_numpy(own).to(student.device)
    match settings.loss:
        case "mse":
            return mse_loss(student, teacher[row], normalize=not settings.mse_raw), 0
        case "cosine":
            return cosine_loss(student, teacher[row]), 0
    hidden = _false_negatives(teacher, sentences, own, state, settings)
    contrast = kl_loss if settings.loss == "kl" else ckd_loss
    loss = contrast(student, teacher, state.bank.rows, scale=state.model.scale, own=row, false_negatives=hidden)
    if settings.loss == "ckd+mse":
        loss = loss + mse_loss(student, teacher[row], normalize=not settings.mse_raw)
    return loss, hidden.num_hidden if hidden else 0


def _false_negatives(
    teacher: Tensor, sentences: np.ndarray, own: np.ndarray, state: TrainState, settings: DistillSettings
) -> FalseNegatives | None:
    """The keys among batch and bank that are no negatives of a micro-batch; None if there are none to look for."""
    nothing = torch.empty(0, dtype=torch.int64)
    pairs = (nothing, nothing)
    if settings.mask_same_text:
        keys = np.concatenate([sentences, state.bank.texts])
        pairs = pairs_of_same_text(sentences[own], keys, own)
    if not len(pairs[0]) and settings.false_negative_cosine is None:
        return None
    device = teacher.device
    row = torch.from_numpy(own).to(device)
    positives = functional.normalize(teacher[row], dim=1)
    return FalseNegatives(
        row, pairs[0].to(device), pairs[1].to(device), positives=positives, max_cosine=settings.false_negative_cosine
    )


def _over_ranks(state: TrainState, sums: Tensor, wish: StopWish, ranks: Ranks) -> list[float]:
    """Sum gradients and `sums` over all processes; with them goes whether anybody was asked to stop."""
    stop = sums.new_tensor([wish.by is not None])
    return sum_gradients(ranks, state.trained, torch.cat([sums, stop])).tolist()


def _remember(bank: MemoryBank, batch: np.ndarray, target: Tensor, inputs: Inputs) -> None:
    """Put the step's teacher rows into the bank: all of them, or in a bank of one's own those of this process."""
    if inputs.settings.bank == "per-rank":
        mine = inputs.ranks.share(np.arange(len(batch)))
        batch, target = batch[mine], target[mine]
    bank.push(functional.normalize(target, dim=1), batch)
