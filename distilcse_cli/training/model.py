"""What stage 1 trains: the student, its projection to the teacher's width, and the logit scale."""

import math

import torch
from torch import Tensor, nn

from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.pooling import Dense
from distilcse_cli.training.settings import DistillSettings


class DistillModel(nn.Module):
    """Student encoder, projection and logit scale: one parameter group for optimizer and clipping.

    Args:
        encoder: the student.
        teacher_dim: D. A linear projection is added where the student's width differs; it is
            dropped when training is over, unless `with_projection` is asked for.
        settings: gives the scale's starting value, its clamp, and whether it is learned.
    """

    def __init__(self, encoder: SentenceEncoder, teacher_dim: int, settings: DistillSettings) -> None:
        super().__init__()
        self.encoder = encoder
        same_width = encoder.embedding_dim == teacher_dim
        self.projection = None if same_width else nn.Linear(encoder.embedding_dim, teacher_dim)
        # the exponent is learned, not the scale, so that the scale stays positive and moves by factors
        exponent = torch.tensor(math.log(settings.logit_scale))
        self.log_scale = nn.Parameter(exponent, requires_grad=settings.learn_logit_scale and "ckd" in settings.loss)
        self._log_limit = math.log(settings.max_logit_scale)

    @property
    def scale(self) -> Tensor:
        """Scalar: what cosines are multiplied by."""
        return self.log_scale.exp()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) token ids and mask to (B, D) projected embeddings, not normalised."""
        pooled = self.encoder(input_ids, attention_mask)
        return pooled if self.projection is None else self.projection(pooled)

    def with_projection(self) -> SentenceEncoder:
        """An encoder that shares the student's weights and ends with the projection, in its teacher's space."""
        encoder = self.encoder
        if self.projection is None:
            return encoder
        return SentenceEncoder(
            encoder.backbone,
            encoder.tokenizer,
            pooling=encoder.pooling,
            dense=[*(encoder.dense or ()), Dense(self.projection, "Identity")],
            normalize=encoder.normalize,
            max_length=encoder.max_length,
            source=encoder.source,
        )

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Keep the scale within [1 / max_logit_scale, max_logit_scale]."""
        self.log_scale.clamp_(-self._log_limit, self._log_limit)
