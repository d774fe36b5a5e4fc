"""Distillation losses.

Shape letters: B sentences of a batch, D teacher width, K rows of the memory bank.

Every loss here takes what the student says of B sentences, already projected to the teacher's
width, and the teacher's rows of the same sentences. Nothing of the teacher's side gets a gradient.
"""

import torch
from torch import Tensor
from torch.nn import functional

from distilcse_cli.training.contrast import FalseNegatives, log_sum_exp


def ckd_loss(
    student: Tensor,
    teacher: Tensor,
    bank: Tensor,
    *,
    scale: float | Tensor,
    own: Tensor | None = None,
    false_negatives: FalseNegatives | None = None,
) -> Tensor:
    """Contrastive knowledge distillation: InfoNCE from students to teachers.

    Every student row has to pick its own teacher row out of all teacher rows of the
    batch and of the memory bank (arXiv:2112.05638).

    Args:
        student: (B, D) student embeddings of any length.
        teacher: (B, D) teacher embeddings of the same B sentences, of any length. With `own` it
            may have more rows: those of a global batch that `student` is a part of.
        bank: (K, D) earlier teacher embeddings of length 1, more negatives. K may be 0. Their
            dtype is the one the products with them are computed in.
        scale: cosines are multiplied by it, i.e. 1 / temperature.
        own: (B,) int64 row of `teacher` that belongs to each student row; None: row by row.
        false_negatives: keys that do not count. Keys are numbered through `teacher`, then `bank`.

    Returns:
        Scalar, the mean over the students' rows, in nats.

    Raises:
        ValueError: the three widths differ, or student and teacher differ in rows.
    """
    mine = _own_rows(student, teacher, bank, own)
    student, teacher = _unit(student), _unit(teacher)
    positive = (student * teacher[mine]).sum(dim=1) * scale
    log_sum, _ = log_sum_exp(student, (teacher, bank), scale=scale, false_negatives=false_negatives)
    return (log_sum - positive).mean()


def kl_loss(
    student: Tensor,
    teacher: Tensor,
    bank: Tensor,
    *,
    scale: float | Tensor,
    own: Tensor | None = None,
    false_negatives: FalseNegatives | None = None,
) -> Tensor:
    """Match the teacher's softmax over the bank with the student's, as ConGen does.

    Both sides score the same teacher rows of batch and bank; the loss is the KL divergence of the
    student's distribution from the teacher's (Limkonchotiwat et al., Findings of EMNLP 2022).

    Args, Returns and Raises: as for `ckd_loss`.
    """
    mine = _own_rows(student, teacher, bank, own)
    student, teacher = _unit(student), _unit(teacher)
    asked = teacher[mine]
    with torch.no_grad():
        wanted, mean_key = log_sum_exp(asked, (teacher, bank), scale=scale, false_negatives=false_negatives)
        entropy_term = scale * (asked * mean_key).sum(dim=1) - wanted
    # sum p log(p / q) needs the scores only through their mean under p, which mean_key gives
    given, _ = log_sum_exp(student, (teacher, bank), scale=scale, false_negatives=false_negatives)
    return (entropy_term + given - scale * (student * mean_key).sum(dim=1)).mean()


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


def _own_rows(student: Tensor, teacher: Tensor, bank: Tensor, own: Tensor | None) -> Tensor:
    """The rows of `teacher` that belong to the students, after a look at all shapes."""
    if own is None:
        own = torch.arange(len(student), device=student.device)
        _check(student, teacher, bank)
    elif len(own) != len(student):
        raise ValueError(f"{len(own)} row numbers for student {tuple(student.shape)}")
    else:
        _check(student, teacher.new_empty(len(student), teacher.shape[1]), bank)
    return own


def _check(student: Tensor, teacher: Tensor, bank: Tensor | None) -> None:
    if student.shape != teacher.shape or (bank is not None and bank.shape[1] != student.shape[1]):
        shapes = f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}"
        raise ValueError(shapes + (f", bank {tuple(bank.shape)}" if bank is not None else ""))
