"""What stage 2 trains: the student, the logit scale, and a projection where a teacher of another width is kept near."""

import math

import torch
from torch import Tensor, nn

from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.training.settings import FinetuneSettings


class FinetuneModel(nn.Module):
    """Student encoder and logit scale: one parameter group for optimizer and clipping.

    Args:
        encoder: the student.
        settings: gives the scale's starting value, its clamp, and how it is learned.
        teacher_dim: D of the teacher that the student is kept near; None without one. A linear
            projection is added where the student's width differs, and dropped afterwards.
    """

    def __init__(self, encoder: SentenceEncoder, settings: FinetuneSettings, teacher_dim: int | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        width = encoder.embedding_dim
        self.projection = None if teacher_dim is None or teacher_dim == width else nn.Linear(width, teacher_dim)
        self._exponential = settings.exponential_scale
        start = math.log(settings.logit_scale) if self._exponential else settings.logit_scale
        self.scale_value = nn.Parameter(torch.tensor(start), requires_grad=settings.learn_logit_scale)
        self._limit = settings.max_logit_scale

    @property
    def scale(self) -> Tensor:
        """Scalar: what cosines are multiplied by."""
        return self.scale_value.exp() if self._exponential else self.scale_value

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) token ids and mask to (B, H) embeddings, not normalized and not projected."""
        return self.encoder(input_ids, attention_mask)

    def projected(self, embeddings: Tensor) -> Tensor:
        """(B, H) embeddings to (B, D) in the teacher's space."""
        return embeddings if self.projection is None else self.projection(embeddings)

    @torch.no_grad()
    def start_projection(self, embeddings: Tensor, teacher: Tensor) -> None:
        """Let the projection start as the least-squares map from the student's rows to the teacher's.

        From random numbers it would first pull the student to nowhere in particular.

        Args:
            embeddings: (N, H) the student's, before training.
            teacher: (N, D) of the same sentences.
        """
        if self.projection is None:
            return
        center, target = embeddings.mean(dim=0), teacher.mean(dim=0)
        # gelsd takes rank-deficient rows, of which fewer sentences than columns is one case
        weight = torch.linalg.lstsq(embeddings - center, teacher - target, driver="gelsd").solution.T
        self.projection.weight.copy_(weight)
        self.projection.bias.copy_(target - weight @ center)

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Keep the scale within [1 / max_logit_scale, max_logit_scale]."""
        bounds = 1 / self._limit, self._limit
        low, high = map(math.log, bounds) if self._exponential else bounds
        self.scale_value.clamp_(low, high)
