"""Distillation losses.

Shape letters: B sentences of a batch, D teacher width, K rows of the memory bank.

Every loss here takes what the student says of B sentences, already projected to the teacher's
width, and the teacher's rows of the same sentences. Nothing of the teacher's side gets a gradient.
"""

import torch
from torch import Tensor
from torch.nn import functional


def ckd_loss(student: Tensor, teacher: Tensor, bank: Tensor, *, scale: float | Tensor) -> Tensor:
    """Contrastive knowledge distillation: InfoNCE from students to teachers.

    Every student row has to pick its own teacher row out of all teacher rows of the
    batch and of the memory bank (arXiv:2112.05638).

    Args:
        student: (B, D) student embeddings of any length.
        teacher: (B, D) teacher embeddings of the same B sentences, of any length.
        bank: (K, D) earlier teacher embeddings of length 1, more negatives. K may be 0. Their
            dtype is the one the products with them are computed in.
        scale: cosines are multiplied by it, i.e. 1 / temperature.

    Returns:
        Scalar, the mean over the batch, in nats.

    Raises:
        ValueError: the three widths differ, or student and teacher differ in rows.
    """
    _check(student, teacher, bank)
    student, teacher = _unit(student), _unit(teacher)
    positive = (student * teacher).sum(dim=1) * scale
    log_sum = torch.logsumexp(student @ teacher.T * scale, dim=1)
    if len(bank):
        # two sums instead of one over a concatenated bank: a copy of the bank each step would
        # cost more than the products themselves
        in_bank = (student.to(bank.dtype) @ bank.T).float() * scale
        log_sum = torch.logaddexp(log_sum, torch.logsumexp(in_bank, dim=1))
    return (log_sum - positive).mean()


def kl_loss(student: Tensor, teacher: Tensor, bank: Tensor, *, scale: float | Tensor) -> Tensor:
    """Match the teacher's softmax over the bank with the student's, as ConGen does.

    Both sides score the same B + K teacher rows; the loss is the KL divergence of the
    student's distribution from the teacher's (Limkonchotiwat et al., Findings of EMNLP 2022).

    Args, Returns and Raises: as for `ckd_loss`.
    """
    _check(student, teacher, bank)
    student, teacher = _unit(student), _unit(teacher)
    keys = torch.cat([teacher.to(bank.dtype), bank]) if len(bank) else teacher
    with torch.no_grad():
        wanted = torch.log_softmax((teacher.to(keys.dtype) @ keys.T).float() * scale, dim=1)
    given = torch.log_softmax((student.to(keys.dtype) @ keys.T).float() * scale, dim=1)
    return functional.kl_div(given, wanted, reduction="batchmean", log_target=True)


def mse_loss(student: Tensor, teacher: Tensor, *, normalize: bool) -> Tensor:
    """Mean squared error between student and teacher rows.

    Args:
        student: (B, D) projected student embeddings.
        teacher: (B, D) teacher embeddings.
        normalize: scale both sides to length 1 first and sum over D, which makes the loss
            2 - 2 cos. Otherwise the mean over B and D of the raw rows, as the paper's code has it.

    Returns:
        Scalar, the mean over the batch.

    Raises:
        ValueError: the two shapes differ.
    """
    _check(student, teacher, None)
    if not normalize:
        return functional.mse_loss(student.float(), teacher.float())
    return (_unit(student) - _unit(teacher)).square().sum(dim=1).mean()


def cosine_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cos between student and teacher rows, the mean over the batch.

    Raises:
        ValueError: the two shapes differ.
    """
    _check(student, teacher, None)
    return 1 - functional.cosine_similarity(student.float(), teacher.float(), dim=1).mean()


def _unit(rows: Tensor) -> Tensor:
    """Rows of length 1, in fp32 whatever came in: norms lose too many digits in bf16."""
    return functional.normalize(rows.float(), dim=1)


def _check(student: Tensor, teacher: Tensor, bank: Tensor | None) -> None:
    if student.shape != teacher.shape or (bank is not None and bank.shape[1] != student.shape[1]):
        shapes = f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}"
        raise ValueError(shapes + (f", bank {tuple(bank.shape)}" if bank is not None else ""))
