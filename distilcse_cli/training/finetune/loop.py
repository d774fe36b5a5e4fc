"""The training loop of stage 2, from top to bottom.

It reads token rows by number. Each process embeds its share of a step's triples, all embeddings
are put together, and each process scores its anchors against the keys of the whole global batch.
So any split of a batch, over processes or micro-batches, gives the gradient of the whole.

Shape letters: G triples of a global batch, C = 3 sentences of a triple (2 of a pair), M triples
and S = C M sentences of this process, H student width.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from distilcse_cli.data.tokens import TokenRows
from distilcse_cli.models.batching import token_budget_batches
from distilcse_cli.ranks import ALONE, Ranks, sum_gradients
from distilcse_cli.runtime import Runtime
from distilcse_cli.training.bank import MemoryBank
from distilcse_cli.training.batches import Plan
from distilcse_cli.training.contrast import pairs_of_same_text
from distilcse_cli.training.finetune.contrastive import TwoPassForward, contrastive_loss
from distilcse_cli.training.finetune.model import FinetuneModel
from distilcse_cli.training.settings import FinetuneSettings
from distilcse_cli.training.signals import stop_wishes
from distilcse_cli.training.state import TrainState, new_optimizer
from distilcse_cli.training.steps import StepRecord, Watcher, cosine_with_warmup, interrupted, require_finite
from distilcse_cli.training.teacher_rows import TeacherRows

PART_TOKENS = 8192
"""Most tokens of one forward pass: sentences of about one length together, hardly any padding."""
CHUNK_SCORES = 1 << 24
"""Scores of anchors against keys held at once; up to 2,896 triples need no second chunk."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a run trains on and with."""

    tokens: TokenRows
    """Token rows of the distinct sentences."""
    triples: np.ndarray
    """(N, C) numbers of the sentences of each triple to train on."""
    settings: FinetuneSettings
    runtime: Runtime
    teacher: TeacherRows | None = None
    """Gives the teacher rows of the distinct sentences, if the student is kept near them."""
    ranks: Ranks = ALONE


def train(
    model: FinetuneModel,
    inputs: Inputs,
    on_step: Callable[[StepRecord], None],
    *,
    watcher: Watcher | None = None,
) -> TrainState:
    """Train `model` in place.

    Args:
        model: the student and the scale, on the runtime's device.
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
    warmup_steps = settings.warmup_epochs * len(inputs.triples) / plan.batch_size
    state = _new_state(model, inputs)
    if watcher:
        watcher.start(state)
    # nothing should depend on every machine's having loaded the same numbers
    ranks.copy_([tensor.detach() for tensor in model.state_dict().values()])
    model.train(settings.dropout)
    with stop_wishes() as wish:
        while state.step < plan.num_steps and not state.selection.ended:
            batch = inputs.triples[plan.batch(state.step)]
            lr = settings.lr * cosine_with_warmup(state.step, num_steps=plan.num_steps, warmup_steps=warmup_steps)
            scale = model.scale.item()

            sums = accumulate_gradient(model, batch, inputs)
            told = torch.cat([sums, sums.new_tensor([wish.by is not None])])
            loss, num_hidden, positive_cosine, teacher_cosine, stop = sum_gradients(ranks, state.trained, told).tolist()
            grad_norm = torch.nn.utils.clip_grad_norm_(state.trained, settings.grad_clip).item()
            require_finite(state.step + 1, loss, grad_norm)
            state.take_step(lr)

            record = StepRecord(
                step=state.step,
                num_steps=plan.num_steps,
                num_sentences=batch.size,
                num_tokens=int(inputs.tokens.lengths[batch].sum()),
                loss=loss,
                scale=scale,
                lr=lr,
                grad_norm=grad_norm,
                num_hidden=int(num_hidden),
                positive_cosine=positive_cosine / len(batch),
                teacher_cosine=teacher_cosine / len(batch) if inputs.teacher else None,
            )
            on_step(record)
            if watcher:
                watcher.after_step(state, record, stop=bool(stop))
            if stop:
                raise interrupted(record, wish)
    return state


def plan_steps(inputs: Inputs) -> Plan:
    """Which triples each step takes; those of about as many tokens go together."""
    settings = inputs.settings
    return Plan(
        lengths=inputs.tokens.lengths[inputs.triples].sum(axis=1),
        batch_size=settings.batch_size * inputs.ranks.world_size,
        epochs=settings.epochs,
        max_steps=settings.max_steps,
        seed=settings.seed,
        shuffle=settings.shuffle,
    )


def _new_state(model: FinetuneModel, inputs: Inputs) -> TrainState:
    no_bank = MemoryBank(0, model.encoder.embedding_dim, device=inputs.runtime.torch_device(), dtype=torch.float32)
    return TrainState(model, new_optimizer(model), no_bank)


def accumulate_gradient(model: FinetuneModel, batch: np.ndarray, inputs: Inputs) -> Tensor:
    """Add up this process's share of the gradient.

    Args:
        model: what is trained.
        batch: (G, C) sentences of the global batch.
        inputs: of the run.

    Returns:
        (4,) this process's share of the loss, of the masked pairs, and of two sums of cosines over triples: of
        anchor to positive, and of a triple's sentences to their teacher rows (0 without a teacher).
    """
    device = inputs.runtime.torch_device()
    mine = inputs.ranks.share(np.arange(len(batch)))
    sentences = batch[mine].T.reshape(-1)  # (S,): first all anchors, then all positives, then all negatives
    parts, keep_graphs = _parts(inputs.tokens.lengths[sentences], inputs.settings.micro_batch_tokens)

    def forward(part: np.ndarray) -> Tensor:
        ids, mask = inputs.tokens.pad(sentences[part], model.encoder.pad_id)
        return model(ids.to(device), mask.to(device))

    width = model.encoder.embedding_dim
    passes = TwoPassForward(forward, parts, width=width, runtime=inputs.runtime, keep_graphs=keep_graphs)

    everyone = torch.zeros(batch.shape[1], len(batch), width, device=device)  # (C, G, H)
    column = torch.from_numpy(mine).to(device)
    everyone[:, column] = passes.embeddings.view(batch.shape[1], len(mine), width)
    inputs.ranks.sum_(everyone)
    everyone.requires_grad_()
    sums = _loss_backward(model, everyone, batch, mine, inputs)
    # None where this process had no triples of a small last batch
    gradient = torch.zeros_like(everyone) if everyone.grad is None else everyone.grad
    inputs.ranks.sum_(gradient)
    passes.backward(gradient[:, column].view(-1, width))
    return sums


def _parts(lengths: np.ndarray, budget: int | None) -> tuple[list[np.ndarray], bool]:
    """Parts of sentences of about one length, and whether all of them fit into the budget at once."""
    parts = token_budget_batches(lengths, min(PART_TOKENS, budget or PART_TOKENS))
    num_padded = sum(int(lengths[part].max()) * len(part) for part in parts)
    return parts, budget is None or num_padded <= budget


def _loss_backward(
    model: FinetuneModel, everyone: Tensor, batch: np.ndarray, mine: np.ndarray, inputs: Inputs
) -> Tensor:
    """Backward of this process's share of the loss, down to the embeddings of the whole global batch.

    Args:
        model: for scale and projection, which get their gradients here.
        everyone: (C, G, H) embeddings; its `.grad` is what comes out.
        batch: (G, C) sentences of the global batch.
        mine: (M,) rows of `batch` that are this process's.
        inputs: of the run.

    Returns:
        As `accumulate_gradient`.
    """
    settings = inputs.settings
    sums = torch.zeros(4, device=everyone.device)
    for own in _chunks(mine, CHUNK_SCORES // max(1, (len(batch.T) - 1) * len(batch))):
        anchors, positives, *negatives = everyone
        row = torch.from_numpy(own).to(everyone.device)
        hidden = _same_text(batch, own, everyone.device) if settings.mask_same_text else None
        loss = contrastive_loss(
            anchors[row],
            positives,
            negatives[0] if negatives else positives[:0],
            scale=model.scale,
            own=row,
            hidden=hidden,
        )
        to_positive = functional.cosine_similarity(anchors[row].detach(), positives[row].detach())
        to_teacher = torch.zeros_like(to_positive)
        if inputs.teacher is not None:
            distances = _distances(model, everyone[:, row], batch[own], inputs.teacher)
            loss = loss + settings.keep_teacher * distances.mean()
            to_teacher = 1 - distances.detach().mean(dim=0)
        loss = loss * (len(own) / len(batch))
        loss.backward()
        num_hidden = torch.tensor(len(hidden[0]) if hidden else 0, device=loss.device)
        sums += torch.stack([loss.detach(), num_hidden, to_positive.sum(), to_teacher.sum()])
    return sums


def _chunks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), max(1, size)):
        yield rows[start : start + max(1, size)]


def _same_text(batch: np.ndarray, own: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Pairs of anchor (numbered within `own`) and key whose text is the anchor's or its positive's own."""
    keys = batch[:, 1:].T.reshape(-1)
    pairs = [pairs_of_same_text(batch[own, role], keys, own) for role in (0, 1)]
    numbers = [torch.cat(both).to(device) for both in zip(*pairs, strict=True)]
    return numbers[0], numbers[1]


def _distances(model: FinetuneModel, embeddings: Tensor, sentences: np.ndarray, teacher: TeacherRows) -> Tensor:
    """1 - cos between student and teacher.

    Args:
        model: projects the student's rows.
        embeddings: (C, M, H) the student's.
        sentences: (M, C) their numbers.
        teacher: gives the rows of these numbers.

    Returns:
        (C, M)
    """
    target = teacher.rows(sentences.T.reshape(-1))
    cosines = functional.cosine_similarity(model.projected(embeddings.flatten(0, 1)), target, dim=1)
    return 1 - cosines.view(embeddings.shape[:2])
