"""Stage 1: a student learns to pick out its teacher's embeddings, or to come near them.

Each process takes its share of a step's sentences and scores it against the teacher rows of the
whole global batch, which it knows by their numbers, and the bank. So any split of a batch, over
processes or micro-batches, gives the gradient of the whole.

Shape letters: G sentences of a global batch, B those of this process, M of a micro-batch,
D teacher width, K rows of the bank.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from distilcse_cli import console
from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.corpus import open_corpus, prepare_corpus
from distilcse_cli.errors import UsageError
from distilcse_cli.models.batching import token_budget_batches
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.models.vocabulary import cut_to_corpus
from distilcse_cli.ranks import Ranks
from distilcse_cli.rendezvous import MINUTES
from distilcse_cli.runtime import Runtime
from distilcse_cli.teacher.agreement import agreement
from distilcse_cli.training.bank import MemoryBank
from distilcse_cli.training.contrast import FalseNegatives
from distilcse_cli.training.dev import DevSet, HeldOutDev, hold_out
from distilcse_cli.training.losses import LOSSES, Targets
from distilcse_cli.training.model import Scale, StudentModel
from distilcse_cli.training.objective import Objective, tokens_of
from distilcse_cli.training.report import DistillReport
from distilcse_cli.training.run import models_as_typed
from distilcse_cli.training.run import run as run_objective
from distilcse_cli.training.settings import CONTRASTIVE_LOSSES, DistillSettings
from distilcse_cli.training.state import TrainState
from distilcse_cli.training.teacher_rows import LiveTeacher, StoredTeacher, Teacher, TeacherRows


@dataclass(frozen=True, kw_only=True)
class DistillSources:
    """Models and data of stage 1."""

    teacher: ModelRef
    student: ModelRef
    corpus: tuple[str, ...]
    """Text files or hub data sets."""
    embeddings: Path | None = None
    """Folder that `distilcse extract` wrote for this teacher and corpus; None extracts into the data home."""

    def typed(self) -> dict[str, Any]:
        """What the user chose, under the names of the options."""
        return {
            "teacher": self.teacher.ref,
            "student": self.student.ref,
            "corpus": self.corpus,
            "embeddings": self.embeddings,
            "keep_layers": self.student.keep_layers,
            **models_as_typed(self.student, self.teacher),
        }


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
    _target: Tensor = field(init=False)
    """(G, D) teacher rows of the last batch."""

    def new_model(self) -> StudentModel:
        """As `Objective.new_model`, with a projection if the widths differ."""
        settings = self.settings
        learned = settings.learn_logit_scale and LOSSES[settings.loss].learns_scale
        scale = Scale(settings.logit_scale, settings.max_logit_scale, learned=learned)
        return StudentModel(self.student, scale, self.teacher.width).to(self.runtime.torch_device())

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

    def saved(self, model: StudentModel) -> SentenceEncoder:
        """The student, with its projection if that is kept."""
        return model.in_teacher_space() if self.settings.keep_projection else model.encoder

    def measured(self) -> dict[str, Any]:
        """Number of sentences, and agreement with the teacher on the held-out ones."""
        agreed = None
        if len(self.held_out_sentences) >= 3:
            embeddings = Embedder(self.student, self.runtime).sentences(self.held_out_sentences)
            agreed = agreement(embeddings, self.held_out_rows)
        return {"num_sentences": len(self.rows), "agreement": agreed, "vocab_size": self.settings.vocab_size}

    def log_result(self, report: DistillReport) -> None:
        """Log the agreement."""
        if report.agreement:
            held_out = f"{len(self.held_out_sentences):,} held-out sentences"
            console.log(f"agreement with the teacher on {held_out}: {report.agreement}")


def run(
    sources: DistillSources,
    out: Path,
    settings: DistillSettings,
    *,
    corpus_settings: CorpusSettings,
    device: str | None = None,
    compute_dtype: str = "auto",
    rendezvous_timeout: float = MINUTES,
    resume: bool = False,
    overwrite: bool = False,
    on_prepared: Callable[[], None] = lambda: None,
) -> DistillReport:
    """Distil a student and save it in `out`.

    Args, Returns, Raises: as for `training.run.run`; `corpus_settings` says how lines become sentences, and
    `on_prepared` is called once the teacher's rows are there, before the first step.
    """

    def prepare(runtime: Runtime, ranks: Ranks) -> Distillation:
        objective = _prepare(runtime, ranks, sources=sources, settings=settings, corpus_settings=corpus_settings)
        on_prepared()
        return objective

    return run_objective(
        Distillation,
        prepare,
        out,
        settings,
        typed={**sources.typed(), **asdict(corpus_settings)},
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
    sources: DistillSources,
    settings: DistillSettings,
    corpus_settings: CorpusSettings,
) -> Distillation:
    """Make or find the data, load the models, and make the objective. Every process calls it."""
    student = ranks.main_first(sources.student.load)
    corpus = open_corpus(ranks.on_main(lambda: prepare_corpus(sources.corpus, corpus_settings).folder))
    model = Teacher(sources.teacher, ranks)
    store = model.store(corpus, runtime, sources.embeddings)
    # the student replaces its teacher, so its vectors are normalized if the teacher's are
    student.normalize = bool(store.manifest["normalized"])
    teacher: TeacherRows = StoredTeacher(store.embeddings, runtime)
    if settings.teacher_dropout:
        encoder = model.encoder()
        teacher = LiveTeacher(encoder, tokens_of(corpus, encoder, settings.max_length, ranks), runtime, ranks)
    cut = None
    if settings.vocab_size is not None:
        cut = cut_to_corpus(student, corpus, settings.vocab_size, max_length=settings.max_length, ranks=ranks)
    tokens = tokens_of(corpus, student, settings.max_length, ranks)
    rows, held_out = hold_out(len(corpus), settings)
    layers = sources.student.keep_layers
    return Distillation(
        settings=settings,
        runtime=runtime,
        ranks=ranks,
        student=student,
        tokens=tokens,
        rows=rows,
        teacher=teacher,
        held_out_sentences=corpus.take(held_out),
        held_out_rows=store.embeddings[held_out],
        marks={
            "teacher": store.manifest["teacher_fingerprint"],
            "student": student.fingerprint,
            "corpus": corpus.fingerprint,
        },
        facts={
            "teacher": model.facts(),
            "student": {
                "reference": sources.student.ref,
                "base": sources.student.base,
                "keep_layers": layers and list(layers),
                **({"vocabulary": cut.as_dict()} if cut else {}),
            },
            "corpus": {
                "inputs": list(sources.corpus),
                "num_sentences": len(corpus),
                "fingerprint": corpus.fingerprint,
                "settings": asdict(corpus_settings),
            },
        },
    )
