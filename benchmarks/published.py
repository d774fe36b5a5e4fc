"""The published training loop of stage 1, re-stated from its description.

The teacher runs in every step, in fp32 and with its dropout on; every sentence is padded to the
length limit; the bank is copied to the device, put behind the batch in a new tensor, scored in
full by one cross-entropy, and made anew with the batch in front.
"""

import torch
from torch import Tensor
from torch.nn import functional

from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.training.model import StudentModel
from distilcse_cli.training.state import ADAM_BETAS, ADAM_EPS

Batch = tuple[Tensor, Tensor]
"""(B, T) token ids and mask."""


class PublishedLoop:
    """One process of it.

    Args:
        teacher: frozen.
        model: student, projection and scale.
        bank: (K, D) teacher rows of length 1 to begin with; K may be 0.
        bank_size: most rows kept.
        grad_clip: largest norm of the gradient.
        dropout: whether student and teacher run with theirs.
    """

    def __init__(
        self,
        teacher: SentenceEncoder,
        model: StudentModel,
        *,
        bank: Tensor,
        bank_size: int,
        grad_clip: float = 1.0,
        dropout: bool = True,
    ) -> None:
        self.teacher, self.model = teacher.train(dropout), model.train(dropout)
        self.bank, self.bank_size, self.grad_clip = bank, bank_size, grad_clip
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, betas=ADAM_BETAS, eps=ADAM_EPS, weight_decay=0.0)

    def step(self, for_teacher: Batch, for_student: Batch, lr: float) -> float:
        """Take a step; the loss before it."""
        with torch.no_grad():
            target = functional.normalize(self.teacher(*for_teacher), dim=1)
        student = functional.normalize(self.model.projected(self.model(*for_student)), dim=1)
        keys = torch.cat([target, self.bank.clone()])
        scores = self.model.scale() * student @ keys.T
        loss = functional.cross_entropy(scores, torch.arange(len(student)))
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.grad_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.bank = torch.cat([target, self.bank])[: self.bank_size].clone()
        return loss.item()
