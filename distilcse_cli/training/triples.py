"""Stage 2: anchors learn to pick their positives, in supervised contrastive fine-tuning on triples.

Each process embeds its share of a step's triples, all embeddings are put together, and each
process scores its anchors against the keys of the whole global batch. So any split of a batch,
over processes or micro-batches, gives the gradient of the whole.

Shape letters: G triples of a global batch, C = 3 sentences of a triple (2 of a pair), M triples
and S = C M sentences of this process, H student width.
"""

from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from distilcse_cli import console
from distilcse_cli.config import EncodeSettings, TripletSettings
from distilcse_cli.data.corpus import evenly_spread
from distilcse_cli.data.triplets import Triplets, open_triplets, prepare_triplets
from distilcse_cli.models.card import origins
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.ranks import Ranks
from distilcse_cli.rendezvous import MINUTES
from distilcse_cli.runtime import Runtime
from distilcse_cli.teacher.agreement import Agreement, agreement
from distilcse_cli.teacher.store import EmbeddingStore
from distilcse_cli.training.contrast import same_text_in_triples
from distilcse_cli.training.dev import LEAST_TRIPLES, DevSet, HeldOutTriples, hold_out
from distilcse_cli.training.losses import contrastive_loss
from distilcse_cli.training.model import PROJECTION_ROWS, Scale, StudentModel
from distilcse_cli.training.objective import Objective, tokens_of
from distilcse_cli.training.report import FinetuneReport
from distilcse_cli.training.run import models_as_typed
from distilcse_cli.training.run import run as run_objective
from distilcse_cli.training.settings import FinetuneSettings
from distilcse_cli.training.state import TrainState
from distilcse_cli.training.teacher_rows import StoredTeacher, Teacher, TeacherRows
from distilcse_cli.training.two_pass import TwoPassForward, parts_of_batch

CHUNK_SCORES = 1 << 24
"""Scores of anchors against keys held at once. Up to 2,896 triples need no second chunk."""


@dataclass(frozen=True, kw_only=True)
class FinetuneSources:
    """Models and data of stage 2."""

    student: ModelRef
    triplets: tuple[str, ...]
    """Tables of triples or pairs."""
    teacher: ModelRef | None = None
    """The teacher that the student is kept near; None without one."""

    def typed(self) -> dict[str, Any]:
        """What the user chose, under the names of the options."""
        return {
            "student": self.student.ref,
            "triplets": self.triplets,
            "teacher": self.teacher and self.teacher.ref,
            **models_as_typed(self.student, self.teacher),
        }


@dataclass(kw_only=True)
class Triples(Objective):
    """`losses.contrastive_loss` over triples, plus the distance to a teacher if the student is kept near one."""

    name = "finetune"
    unit = "triples"
    report_type = FinetuneReport

    settings: FinetuneSettings
    teacher: TeacherRows | None = None
    triplets: Triplets | None = None
    """All triples; None if nothing is held out of `rows`, and no projection fitted."""
    held_out: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Numbers of the triples to score on."""
    store: EmbeddingStore | None = None
    """The teacher's rows of all sentences."""
    start_score: float | None = None

    @property
    def cosines(self) -> tuple[str, ...]:
        """As `Objective.cosines`."""
        return ("positive_cosine", "teacher_cosine") if self.teacher else ("positive_cosine",)

    def begin(self, dev: DevSet | None) -> None:
        """Score the student before the first step: fine-tuning on the wrong triples makes it worse."""
        if dev is not None:
            self.start_score = self.ranks.decided(dev.evaluate(self.student)[0])
            console.log(f"before the first step: {dev.name} {self.start_score:.2f}")

    def new_model(self) -> StudentModel:
        """As `Objective.new_model`. Rank 0 fits the projection; the loop copies it to all processes."""
        settings = self.settings
        log, learned = settings.exponential_scale, settings.learn_logit_scale
        scale = Scale(settings.logit_scale, settings.max_logit_scale, log=log, learned=learned)
        model = StudentModel(self.student, scale, self.teacher.width if self.teacher else None)
        if self.triplets and self.store and model.projection is not None and self.ranks.is_main:
            rows = evenly_spread(len(self.store), PROJECTION_ROWS)
            embedder = Embedder(self.student, self.runtime, EncodeSettings(normalize=False))
            embeddings = embedder.sentences(self.triplets.sentences.take(rows))
            teacher = self.store.embeddings[rows].astype(np.float32)
            model.fit_projection(embeddings, teacher)
        return model.to(self.runtime.torch_device())

    def backward(self, state: TrainState, rows: np.ndarray) -> Tensor:
        """As `Objective.backward`, in parts that fit into memory. `rows` are (G, C)."""
        model, width, device = state.model, self.student.embedding_dim, self.runtime.torch_device()
        mine = self.ranks.share(np.arange(len(rows)))
        sentences = rows[mine].T.reshape(-1)  # (S,): first all anchors, then all positives, then all negatives
        parts, keep_graphs = parts_of_batch(self.tokens.lengths[sentences], self.settings.micro_batch_tokens)

        def forward(part: np.ndarray) -> Tensor:
            return self.forward(model, sentences[part])

        passes = TwoPassForward(forward, parts, width=width, runtime=self.runtime, keep_graphs=keep_graphs)
        everyone = torch.zeros(rows.shape[1], len(rows), width, device=device)  # (C, G, H)
        column = torch.from_numpy(mine).to(device)
        everyone[:, column] = passes.embeddings.view(rows.shape[1], len(mine), width)
        self.ranks.sum_(everyone)
        everyone.requires_grad_()
        sums = self._loss_backward(model, everyone, rows, mine)
        # None if this process has no triples of a small last batch
        gradient = torch.zeros_like(everyone) if everyone.grad is None else everyone.grad
        self.ranks.sum_(gradient)
        passes.backward(gradient[:, column].view(-1, width))
        return sums

    def _loss_backward(self, model: StudentModel, everyone: Tensor, rows: np.ndarray, mine: np.ndarray) -> Tensor:
        """Backward pass of this process's share of the loss, down to the embeddings of the whole global batch.

        Args:
            model: scale and projection get their gradients here.
            everyone: (C, G, H) embeddings. They get their gradient in `.grad`.
            rows: (G, C) sentences of the global batch.
            mine: (M,) which of them are this process's.

        Returns:
            As `Objective.backward`.
        """
        sums = torch.zeros(4, device=everyone.device)
        size = max(1, CHUNK_SCORES // max(1, (rows.shape[1] - 1) * len(rows)))
        for own in (mine[start : start + size] for start in range(0, len(mine), size)):
            anchors, positives, *negatives = everyone
            row = torch.from_numpy(own).to(everyone.device)
            hidden = same_text_in_triples(rows, own, everyone.device) if self.settings.mask_same_text else None
            loss = contrastive_loss(
                anchors[row],
                positives,
                torch.cat(negatives) if negatives else positives[:0],
                scale=model.scale(),
                own=row,
                hidden=hidden,
            )
            to_positive = functional.cosine_similarity(anchors[row].detach(), positives[row].detach())
            to_teacher = torch.zeros_like(to_positive)
            if self.teacher is not None:
                target = self.teacher.rows(rows[own].T.reshape(-1))
                near = functional.cosine_similarity(model.projected(everyone[:, row].flatten(0, 1)), target, dim=1)
                distances = 1 - near.view(rows.shape[1], len(own))
                loss = loss + self.settings.keep_teacher * distances.mean()
                to_teacher = 1 - distances.detach().mean(dim=0)
            loss = loss * (len(own) / len(rows))
            loss.backward()
            num_hidden = torch.tensor(len(hidden[0]) if hidden else 0, device=loss.device)
            sums += torch.stack([loss.detach(), num_hidden, to_positive.sum(), to_teacher.sum()])
        return sums

    def dev_fallback(self) -> DevSet | None:
        """Accuracy on the held-out triples."""
        if self.triplets is None or len(self.held_out) < LEAST_TRIPLES:
            return None
        return HeldOutTriples(self.triplets, self.held_out, self.student, self.runtime, self.ranks)

    def measured(self, student: SentenceEncoder) -> dict[str, Any]:
        """Number of triples, scores on the held-out ones, and agreement with the teacher."""
        accuracy = None
        if self.triplets and len(self.held_out) >= LEAST_TRIPLES:
            dev = HeldOutTriples(self.triplets, self.held_out, self.student, self.runtime)
            accuracy, _ = dev.evaluate(student)
        return {
            "num_triples": len(self.rows),
            "start_score": self.start_score,
            "held_out_accuracy": accuracy,
            "agreement": self._agreement(student),
        }

    def _agreement(self, student: SentenceEncoder) -> Agreement | None:
        """Agreement of the student with its teacher over the held-out anchors."""
        if not (self.triplets and self.store):
            return None
        anchors = np.unique(self.triplets.rows[self.held_out, 0])
        if len(anchors) < 3:
            return None
        embeddings = Embedder(student, self.runtime).sentences(self.triplets.sentences.take(anchors))
        return agreement(embeddings, self.store.embeddings[anchors])

    def log_result(self, report: FinetuneReport) -> None:
        """Log the scores, and warn of a student that has become worse."""
        if report.held_out_accuracy is not None:
            console.log(f"held-out anchors that pick their positive: {report.held_out_accuracy:.2f} %")
        if report.agreement:
            console.log(f"agreement with the teacher on held-out anchors: {report.agreement}")
        if report.setback:
            console.warn(report.setback)


def run(
    sources: FinetuneSources,
    out: Path,
    settings: FinetuneSettings,
    *,
    triplet_settings: TripletSettings,
    device: str | None = None,
    compute_dtype: str = "auto",
    rendezvous_timeout: float = MINUTES,
    resume: bool = False,
    overwrite: bool = False,
) -> FinetuneReport:
    """Fine-tune a student and save it in `out`.

    Args, Returns, Raises: as for `training.run.run`; `triplet_settings` says how rows become triples.
    """
    prepare = partial(_prepare, sources=sources, settings=settings, triplet_settings=triplet_settings)
    return run_objective(
        Triples,
        prepare,
        out,
        settings,
        typed={**sources.typed(), **asdict(triplet_settings)},
        device=device,
        compute_dtype=compute_dtype,
        rendezvous_timeout=rendezvous_timeout,
        resume=resume,
        overwrite=overwrite,
    )


def _prepare(
    runtime: Runtime,
    ranks: Ranks,
    *,
    sources: FinetuneSources,
    settings: FinetuneSettings,
    triplet_settings: TripletSettings,
) -> Triples:
    """Make or find the data, load the models, and make the objective. Every process calls it."""
    triplets = open_triplets(ranks.on_main(lambda: prepare_triplets(sources.triplets, triplet_settings).folder))
    student = ranks.main_first(sources.student.load)
    tokens = tokens_of(triplets.sentences, student, settings.max_length, ranks)
    store = facts = None
    if sources.teacher:
        teacher = Teacher(sources.teacher, ranks)
        store, facts = teacher.store(triplets.sentences, runtime), teacher.facts()
    rows, held_out = hold_out(len(triplets), settings)
    return Triples(
        settings=settings,
        runtime=runtime,
        ranks=ranks,
        student=student,
        tokens=tokens,
        rows=triplets.rows[rows],
        teacher=StoredTeacher(store.embeddings, runtime) if store else None,
        triplets=triplets,
        held_out=held_out,
        store=store,
        marks={
            "student": student.fingerprint,
            "triplets": triplets.fingerprint,
            "teacher": store and store.manifest["teacher_fingerprint"],
        },
        facts={
            "student": {"reference": sources.student.ref, "base": sources.student.base},
            "teacher": facts,
            "origins": origins(sources.student, sources.teacher),
            "triplets": {
                "inputs": list(sources.triplets),
                "num_triples": len(triplets),
                "have_hard_negatives": triplets.has_negatives,
                "num_sentences": len(triplets.sentences),
                "fingerprint": triplets.fingerprint,
                "settings": asdict(triplet_settings),
            },
        },
    )
