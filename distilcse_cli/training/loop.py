"""The training loop of stage 1, from top to bottom.

It reads token rows and teacher rows by number. No tokenizer and no teacher run in here.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distilcse_cli.config import DistillSettings
from distilcse_cli.data.tokens import TokenRows
from distilcse_cli.errors import DistilCSEError
from distilcse_cli.runtime import Runtime
from distilcse_cli.training.bank import MemoryBank
from distilcse_cli.training.batches import epoch_batches
from distilcse_cli.training.losses import ckd_loss, cosine_loss, kl_loss, mse_loss
from distilcse_cli.training.model import DistillModel
from distilcse_cli.training.schedule import cosine_with_warmup

ADAM_BETAS = (0.9, 0.98)
ADAM_EPS = 1e-8


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


class NonFiniteLoss(DistilCSEError):
    """The loss or its gradient is not a finite number; the weights are those before that step."""


def train(
    model: DistillModel,
    tokens: TokenRows,
    teacher: np.ndarray,
    rows: np.ndarray,
    settings: DistillSettings,
    runtime: Runtime,
    on_step: Callable[[StepRecord], None],
) -> MemoryBank:
    """Train `model` in place.

    Args:
        model: the student with its projection and scale, on the runtime's device.
        tokens: the student's token rows of the whole corpus.
        teacher: (N, D) teacher embeddings of the same corpus, usually a memory map.
        rows: numbers of the corpus rows to train on.
        settings: of stage 1.
        runtime: device and precision.
        on_step: called after every optimizer step.

    Returns:
        The memory bank as training left it.

    Raises:
        NonFiniteLoss: naming the step; `model` keeps the weights from before it.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.0, betas=ADAM_BETAS, eps=ADAM_EPS, weight_decay=0.0, fused=True)
    bank = MemoryBank(
        settings.bank_size if settings.loss in ("ckd", "ckd+mse", "kl") else 0,
        teacher.shape[1],
        device=runtime.torch_device(),
        dtype=getattr(torch, runtime.dtype),
    )
    steps_per_epoch = -(-len(rows) // settings.batch_size)
    num_steps = min(settings.epochs * steps_per_epoch, settings.max_steps or settings.epochs * steps_per_epoch)
    warmup_steps = settings.warmup_epochs * len(rows) / settings.batch_size
    lengths = tokens.lengths
    model.train(settings.dropout)
    step = 0
    for epoch in range(settings.epochs):
        plan = epoch_batches(
            lengths[rows],
            batch_size=settings.batch_size,
            seed=settings.seed,
            epoch=epoch,
            shuffle=settings.shuffle,
        )
        for chosen in plan[: num_steps - step]:
            batch = rows[chosen]
            ids, mask = (part.to(runtime.device) for part in tokens.pad(batch, model.encoder.pad_id))
            target = torch.from_numpy(teacher[batch].astype(np.float32)).to(runtime.device)

            lr = settings.lr * cosine_with_warmup(step, num_steps=num_steps, warmup_steps=warmup_steps)
            scale = model.scale.item()
            with runtime.autocast():
                student = model(ids, mask)
            loss = _loss(student, target, bank, model.scale, settings)
            loss.backward()
            grad_norm = torch.nn.utils.clip_grad_norm_(trained, settings.grad_clip)
            if not (loss.isfinite() and grad_norm.isfinite()):
                raise NonFiniteLoss(
                    f"step {step + 1}: the loss is {loss.item()}, its gradient's norm {grad_norm.item()}",
                    hint="lower --lr, or try --compute-dtype float32",
                )
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            model.clamp_scale()
            bank.push(torch.nn.functional.normalize(target, dim=1))

            step += 1
            on_step(
                StepRecord(
                    step=step,
                    num_steps=num_steps,
                    num_sentences=len(batch),
                    num_tokens=int(lengths[batch].sum()),
                    loss=loss.item(),
                    scale=scale,
                    lr=lr,
                    grad_norm=grad_norm.item(),
                )
            )
    return bank


def _loss(student: Tensor, teacher: Tensor, bank: MemoryBank, scale: Tensor, settings: DistillSettings) -> Tensor:
    match settings.loss:
        case "ckd":
            return ckd_loss(student, teacher, bank.rows, scale=scale)
        case "ckd+mse":
            squared_error = mse_loss(student, teacher, normalize=not settings.mse_raw)
            return ckd_loss(student, teacher, bank.rows, scale=scale) + squared_error
        case "mse":
            return mse_loss(student, teacher, normalize=not settings.mse_raw)
        case "cosine":
            return cosine_loss(student, teacher)
        case "kl":
            return kl_loss(student, teacher, bank.rows, scale=scale)
    raise ValueError(f"unknown loss {settings.loss!r}")
