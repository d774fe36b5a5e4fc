"""Softmax over short rows, where torch's own is slow on a CPU."""

from torch import Tensor

VECTOR = 16
"""fp32 numbers of a vector register. torch takes rows shorter than that one number at a time."""
_LEAST = -87.0
"""Near the lowest exponent whose power is a normal fp32 number; those below, -inf included, take far longer."""


def softmax_(scores: Tensor) -> Tensor:
    """Softmax of fp32 scores over the last dimension; what `scores` held is lost.

    Of 220,000 scores in rows of 12, torch's own took 4.3 ms on one core and these steps 0.5 ms.
    A score of -inf gets less than 1e-37, not 0, in the short rows.
    """
    if scores.shape[-1] >= VECTOR:
        return scores.softmax(-1)
    scores = scores.sub_(scores.amax(-1, keepdim=True)).clamp_(min=_LEAST).exp_()
    return scores.div_(scores.sum(-1, keepdim=True))
