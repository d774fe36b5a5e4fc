"""The objective of stage 1: a student learns to pick out its teacher's embeddings, or to come near them.

Each process takes its share of a step's sentences and scores it against the teacher rows of the
whole global batch, which it knows by their numbers, and the bank. So any split of a batch, over
processes or micro-batches, gives the gradient of the whole.

Shape letters: G sentences of a global batch, B those of this process, M of a micro-batch,
D teacher width, K rows of the bank.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from distilcse_cli import console
from distilcse_cli.config import EncodeSettings
from distilcse_cli.data.corpus import evenly_spread
from distilcse_cli.errors import UsageError
from distilcse_cli.models.batching import token_budget_batches
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.teacher.agreement import agreement
from distilcse_cli.teacher.space import Space
from distilcse_cli.training.bank import MemoryBank
from distilcse_cli.training.contrast import FalseNegatives
from distilcse_cli.training.dev import DevSet, HeldOutDev
from distilcse_cli.training.losses import LOSSES, Targets
from distilcse_cli.training.model import PROJECTION_ROWS, Scale, StudentModel
from distilcse_cli.training.objective import Objective
from distilcse_cli.training.report import DistillReport
from distilcse_cli.training.settings import CONTRASTIVE_LOSSES, DistillSettings
from distilcse_cli.training.state import TrainState
from distilcse_cli.training.teacher_rows import TeacherRows


@dataclass(kw_only=True)
class Distillation(Objective):
    """One of `losses.LOSSES` between student and teacher rows, with a memory bank if it is contrastive."""

    name = "distill"
    report_type = DistillReport
    cosines = ("teacher_cosine",)

    settings: DistillSettings
    teacher: TeacherRows
    held_out_sentences: list[str] = field(default_factory=list)
    held_out_rows: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    """Teacher rows of the held-out sentences."""
    kept_layers: tuple[int, ...] | None = None
    """Of the model that the student was cut from; None: all."""
    space: Space | None = None
    """The teacher's; None where nobody has named it."""
    _target: Tensor = field(init=False)
    """(G, D) teacher rows of the last batch."""

    def new_model(self) -> StudentModel:
        """As `Objective.new_model`, with a projection where there is one. Rank 0 fits it; the loop copies it."""
        settings = self.settings
        learned = settings.learn_logit_scale and LOSSES[settings.loss].learns_scale
        scale = Scale(settings.logit_scale, settings.max_logit_scale, learned=learned)
        model = StudentModel(
            self.student,
            scale,
            self.teacher.width,
            keep_projection=settings.space == "teacher",
        )
        if model.projection is not None:
            rows = self.rows[evenly_spread(len(self.rows), PROJECTION_ROWS)]
            teacher = self.teacher.rows(rows).cpu().numpy()  # on all processes: a teacher in the loop is shared
            if self.ranks.is_main:
                embedder = Embedder(self.student, self.runtime, EncodeSettings(normalize=False))
                model.fit_projection(embedder.rows(self.tokens.take(rows)), teacher)
        return model.to(self.runtime.torch_device())

    def new_bank(self) -> MemoryBank | None:
        """As `Objective.new_bank`. Only contrastive losses have one."""
        settings, width = self.settings, self.teacher.width
        if settings.loss not in CONTRASTIVE_LOSSES:
            return None
        size = min(settings.bank_size, len(self.rows) * settings.epochs)  # the run has no more rows
        device, dtype = self.runtime.torch_device(), getattr(torch, self.runtime.dtype)
        is_shared = settings.bank == "shared" or self.ranks.world_size == 1
        try:
            return MemoryBank(size, width, device=device, dtype=dtype, is_shared=is_shared)
        except (RuntimeError, MemoryError) as error:
            raise UsageError(f"no memory for --bank-size {size} of {width} numbers each", hint="lower it") from error

    def backward(self, state: TrainState, rows: np.ndarray) -> Tensor:
        """As `Objective.backward`, a micro-batch at a time."""
        target = self._target = self.teacher.rows(rows)
        mine = self.ranks.share(np.arange(len(rows)))
        sums = torch.zeros(4, device=target.device)
        for part in self._micro_batches(rows[mine]):
            own = mine[part]
            with self.runtime.autocast():
                student = state.model.projected(self.forward(state.model, rows[own]))
            if self.settings.bank == "per-rank":
                loss, num_hidden = self._loss(state, student, target[mine], rows[mine], part)
            else:
                loss, num_hidden = self._loss(state, student, target, rows, own)
            loss = loss * (len(own) / len(rows))
            loss.backward()
            with torch.no_grad():
                cosine = functional.cosine_similarity(student.float(), target[own]).sum()
                hidden = torch.as_tensor(num_hidden, device=loss.device)
                sums += torch.stack([loss.detach(), hidden, torch.zeros_like(cosine), cosine])
        return sums

    def _micro_batches(self, sentences: np.ndarray) -> list[np.ndarray]:
        budget = self.settings.micro_batch_tokens
        if budget is None:
            return [np.arange(len(sentences))] if len(sentences) else []
        return token_budget_batches(self.tokens.lengths[sentences], budget)

    def _loss(
        self, state: TrainState, student: Tensor, teacher: Tensor, sentences: np.ndarray, own: np.ndarray
    ) -> tuple[Tensor, int | Tensor]:
        """Mean loss of a micro-batch, and the number of its keys that were left out.

        Args:
            state: bank and scale.
            student: (M, D) projected student rows.
            teacher: (G, D) teacher rows to choose from, beside the bank.
            sentences: (G,) numbers of their sentences.
            own: (M,) which of these rows belong to the students.
        """
        settings, bank, hidden = self.settings, state.bank, None
        if bank is not None:
            keys = np.concatenate([sentences, bank.sentences]) if settings.mask_same_text else None
            hidden = FalseNegatives.among(teacher, own, keys, settings.false_negative_cosine)
        targets = Targets(
            teacher=teacher,
            own=torch.from_numpy(own).to(student.device),
            bank=teacher[:0] if bank is None else bank.rows,
            scale=state.model.scale(),
            false_negatives=hidden,
            mse_raw=settings.mse_raw,
        )
        loss = LOSSES[settings.loss].compute(student, targets)
        return loss, hidden.num_hidden if hidden else 0

    def after_step(self, state: TrainState, rows: np.ndarray) -> None:
        """Put the step's teacher rows into the bank: all of them, or this process's into a bank per rank."""
        if state.bank is None:
            return
        target = self._target
        if self.settings.bank == "per-rank":
            mine = self.ranks.share(np.arange(len(rows)))
            rows, target = rows[mine], target[mine]
        state.bank.push(functional.normalize(target, dim=1), rows)

    def dev_fallback(self) -> DevSet | None:
        """Agreement with the teacher on at least three held-out sentences."""
        sentences, rows = self.held_out_sentences, self.held_out_rows
        return HeldOutDev(sentences, rows, self.student, self.runtime, self.ranks) if len(sentences) >= 3 else None

    def measured(self, student: SentenceEncoder) -> dict[str, Any]:
        """Number of sentences, and agreement with the teacher on the held-out ones."""
        agreed = None
        if len(self.held_out_sentences) >= 3:
            embeddings = Embedder(student, self.runtime).sentences(self.held_out_sentences)
            agreed = agreement(embeddings, self.held_out_rows)
        is_shared = self.settings.space == "teacher" or not self._is_projected
        return {
            "num_sentences": len(self.rows),
            "agreement": agreed,
            "vocab_size": self.settings.vocab_size,
            "kept_layers": None if self.kept_layers is None else list(self.kept_layers),
            "space": self.space.as_dict() if self.space and is_shared else None,
        }

    @property
    def _is_projected(self) -> bool:
        """Whether the loss compares a projection of the student's vectors with the teacher's."""
        return self.student.embedding_dim != self.teacher.width

    def log_result(self, report: DistillReport) -> None:
        """Log the agreement."""
        if report.agreement:
            held_out = f"{len(self.held_out_sentences):,} held-out sentences"
            console.log(f"agreement with the teacher on {held_out}: {report.agreement}")
