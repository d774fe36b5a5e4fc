"""The losses of both stages, and the table of those that stage 1 can choose from.

Shape letters: B sentences of a batch, D teacher width, K rows of the memory bank; A anchors,
P positives, N hard negatives.

A distillation loss takes the student's rows of B sentences, already projected to the teacher's
width, and the teacher's rows of the same sentences. The teacher's side gets no gradient.
"""

from collections.abc import Callable
from dataclasses import dataclass

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

    Args, Returns, Raises: as for `ckd_loss`.
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
            2 - 2 cos. Otherwise take the mean over B and D of the raw rows, as the paper's code does.

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


def contrastive_loss(
    anchors: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    scale: float | Tensor,
    own: Tensor | None = None,
    hidden: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Supervised InfoNCE of stage 2: pick the own positive out of all positives and all hard negatives.

    In one direction only, from anchors to keys (arXiv:2104.08821, equation 5, and stage 2 of
    arXiv:2112.05638).

    Args:
        anchors: (A, D) embeddings of any length.
        positives: (P, D); without `own`, row i belongs to anchor i.
        negatives: (N, D) hard negatives; N may be 0.
        scale: cosines are multiplied by it, i.e. 1 / temperature.
        own: (A,) int64 row of `positives` that belongs to each anchor, if the anchors are only a part
            of the batch.
        hidden: numbers of anchors and of keys, pair by pair, that do not count. Keys are numbered
            through `positives`, then `negatives`.

    Returns:
        Scalar, the mean over the anchors, in nats.

    Raises:
        ValueError: the widths differ, or not every anchor has a positive.
    """
    num_own = len(positives) if own is None else len(own)
    if not anchors.shape[1] == positives.shape[1] == negatives.shape[1] or len(anchors) != num_own:
        shapes = [tuple(rows.shape) for rows in (anchors, positives, negatives)]
        raise ValueError(f"anchors {shapes[0]}, positives {shapes[1]}, negatives {shapes[2]}, {num_own} own")
    if own is None:
        own = torch.arange(len(anchors), device=anchors.device)
    keys = functional.normalize(torch.cat([positives.float(), negatives.float()]), dim=1)
    scores = functional.normalize(anchors.float(), dim=1) @ keys.T * scale
    if hidden is not None:
        scores = scores.index_put(hidden, scores.new_tensor(-torch.inf))
    return functional.cross_entropy(scores, own)


@dataclass(frozen=True)
class Targets:
    """What the loss of a micro-batch compares the student's rows with. G: rows of the global batch."""

    teacher: Tensor
    """(G, D) teacher rows."""
    own: Tensor
    """(B,) int64 row of `teacher` that belongs to each student row."""
    bank: Tensor
    """(K, D) earlier teacher rows."""
    scale: Tensor
    """The logit scale."""
    false_negatives: FalseNegatives | None = None
    mse_raw: bool = False
    """Whether squared errors are those of un-normalized rows."""


@dataclass(frozen=True)
class Loss:
    """A loss that `--loss` can name.

    A new one needs its function, a row below, and its name in `settings.LOSSES`; one that reads the `bank` also
    in `settings.CONTRASTIVE_LOSSES`, else it gets no bank.
    """

    compute: Callable[[Tensor, Targets], Tensor]
    """From the (B, D) student rows to the mean over them."""
    learns_scale: bool = False
    """Whether the logit scale may be trained."""


def _ckd(student: Tensor, to: Targets) -> Tensor:
    own, hidden = to.own, to.false_negatives
    return ckd_loss(student, to.teacher, to.bank, scale=to.scale, own=own, false_negatives=hidden)


def _kl(student: Tensor, to: Targets) -> Tensor:
    own, hidden = to.own, to.false_negatives
    return kl_loss(student, to.teacher, to.bank, scale=to.scale, own=own, false_negatives=hidden)


def _mse(student: Tensor, to: Targets) -> Tensor:
    return mse_loss(student, to.teacher[to.own], normalize=not to.mse_raw)


LOSSES = {
    "ckd": Loss(_ckd, learns_scale=True),
    "mse": Loss(_mse),
    "ckd+mse": Loss(lambda student, to: _ckd(student, to) + _mse(student, to), learns_scale=True),
    "cosine": Loss(lambda student, to: cosine_loss(student, to.teacher[to.own])),
    # the scale multiplies both sides of kl: learned, it could lower the loss without a better student
    "kl": Loss(_kl),
}
"""The losses of stage 1 by the names in `settings.LOSSES`."""


def _unit(rows: Tensor) -> Tensor:
    """Rows of length 1, in fp32 for every input dtype: norms lose too many digits in bf16."""
    return functional.normalize(rows.float(), dim=1)


def _own_rows(student: Tensor, teacher: Tensor, bank: Tensor, own: Tensor | None) -> Tensor:
    """Check all shapes; return which rows of `teacher` belong to the students."""
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
