"""What both stages train: the student, its projection to the teacher's width, and the logit scale."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.pooling import Dense
from distilcse_cli.models.ridge import cosine_map
from distilcse_cli.models.surgery import with_dense

PROJECTION_ROWS = 4096
"""Sentences to which a projection is fitted before training."""


class Scale(nn.Module):
    """The logit scale: cosines are multiplied by it, i.e. 1 / temperature.

    Args:
        start: its first value.
        limit: `clamp` keeps it within [1 / limit, limit].
        log: train its logarithm, so that it stays positive and moves by factors.
        learned: whether it is trained at all.
    """

    def __init__(self, start: float, limit: float, *, log: bool = True, learned: bool = True) -> None:
        super().__init__()
        self._log, self._limit = log, limit
        first = math.log(start) if log else float(start)
        self.value = nn.Parameter(torch.tensor(first), requires_grad=learned)

    def forward(self) -> Tensor:
        """The scale, a scalar."""
        return self.value.exp() if self._log else self.value

    @torch.no_grad()
    def clamp(self) -> None:
        """Keep the scale within its limits."""
        high = math.log(self._limit) if self._log else self._limit
        self.value.clamp_(-high if self._log else 1 / high, high)


class StudentModel(nn.Module):
    """Student, projection and scale: one parameter group for optimizer and clipping.

    Args:
        encoder: the student, of width H.
        scale: the logit scale.
        teacher_dim: D, the teacher's width; None without a teacher. Where it differs from H, a linear
            projection is added.
        keep_projection: whether the projection belongs to the finished student. Else it is dropped.
    """

    def __init__(
        self,
        encoder: SentenceEncoder,
        scale: Scale,
        teacher_dim: int | None = None,
        *,
        keep_projection: bool = False,
    ) -> None:
        super().__init__()
        encoder.require_trainable()
        self.scale = scale
        self.encoder = encoder
        width = encoder.embedding_dim
        self.projection = None if teacher_dim in (None, width) else nn.Linear(width, teacher_dim)
        self._keeps_projection = keep_projection

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) token ids and mask to (B, H) embeddings, neither normalized nor projected."""
        return self.encoder(input_ids, attention_mask)

    def projected(self, embeddings: Tensor) -> Tensor:
        """(B, H) embeddings to (B, D) rows in the teacher's space."""
        return embeddings if self.projection is None else self.projection(embeddings)

    @torch.no_grad()
    def fit_projection(self, embeddings: np.ndarray, teacher: np.ndarray) -> None:
        """Start the projection as the best linear map from the student's rows to the teacher's.

        A random projection would first pull the student in a random direction.

        Args:
            embeddings: (N, H) student rows, before training.
            teacher: (N, D) teacher rows of the same sentences.
        """
        if self.projection is None:
            return
        weight, bias = cosine_map(embeddings, teacher)
        self.projection.weight.copy_(torch.from_numpy(weight))
        self.projection.bias.copy_(torch.from_numpy(bias))

    @property
    def finished(self) -> SentenceEncoder:
        """The student as it is scored and saved: with the projection as its last dense layer, if that is kept."""
        encoder = self.encoder
        if self.projection is None or not self._keeps_projection:
            return encoder
        dense = [*(encoder.dense or ()), Dense(self.projection, "Identity")]
        return with_dense(encoder, dense, normalize=encoder.normalize).train(encoder.training)
