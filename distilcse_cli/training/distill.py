"""Stage 1 from the command's arguments to the student folder."""

import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distilcse_cli import __version__, console
from distilcse_cli.config import CorpusSettings, DistillSettings, EncodeSettings, data_home
from distilcse_cli.data.corpus import Corpus, prepare_corpus
from distilcse_cli.data.tokens import TokenStore, tokenize_corpus
from distilcse_cli.errors import DataError
from distilcse_cli.models.encoder import SentenceEncoder, load_encoder
from distilcse_cli.models.folder import save_student
from distilcse_cli.models.inference import embed_sentences
from distilcse_cli.runtime import Runtime, choose_runtime, set_seed
from distilcse_cli.teacher.agreement import Agreement, agreement
from distilcse_cli.teacher.extract import extract
from distilcse_cli.teacher.store import EmbeddingStore, open_store
from distilcse_cli.training.card import model_card
from distilcse_cli.training.loop import Inputs, NonFiniteLoss, StepRecord, train
from distilcse_cli.training.model import DistillModel
from distilcse_cli.training.teacher_rows import StoredTeacher


@dataclass(frozen=True, kw_only=True)
class DistillSources:
    """What stage 1 starts from."""

    teacher: str
    """Model reference of the teacher."""
    student: str
    """Model reference the student starts from."""
    corpus: tuple[str, ...]
    """Text files or hub data sets."""
    embeddings: Path | None = None
    """Folder that `distilcse extract` wrote for this teacher and corpus; None extracts into the data home."""
    keep_layers: tuple[int, ...] | None = None
    """Layers of the student reference to keep; None keeps all."""
    pooler: str | None = None
    """The student's pooling; None takes its folder's own."""
    teacher_pooler: str | None = None
    """The teacher's pooling; None takes its folder's own."""
    revision: str | None = None
    """Revision of the student reference on the hub."""
    teacher_revision: str | None = None
    """Revision of the teacher reference on the hub."""


@dataclass(frozen=True, kw_only=True)
class DistillReport:
    """What stage 1 made."""

    folder: Path
    num_sentences: int
    num_steps: int
    seconds: float
    final_loss: float
    logit_scale: float
    agreement: Agreement | None

    def as_dict(self) -> dict[str, Any]:
        """For `--json` and `distilcse.json`."""
        return asdict(self) | {"folder": str(self.folder)}


def run(
    sources: DistillSources,
    out: Path,
    settings: DistillSettings,
    *,
    corpus_settings: CorpusSettings,
    device: str | None = None,
    compute_dtype: str = "auto",
) -> DistillReport:
    """Distil a student and save it in `out`.

    Raises:
        DistilCSEError: input that does not fit, an `out` that is not empty, or a loss that is
            no longer finite; in that last case the last good student is kept beside `out`.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"--out {out} is not an empty folder", hint="choose another --out, or remove it first")
    runtime = choose_runtime(device, compute_dtype)
    console.log(f"computing on {runtime}")
    set_seed(settings.seed)

    student = load_encoder(
        sources.student, pooler=sources.pooler, revision=sources.revision, keep_layers=sources.keep_layers
    )
    corpus = prepare_corpus(sources.corpus, corpus_settings)
    store, teacher_facts = _teacher_rows(sources, corpus, runtime)
    # the student stands in for its teacher, so it hands out vectors of the same kind
    student.normalize = bool(store.manifest["normalized"])
    tokens = tokenize_corpus(corpus, student.tokenizer, min(settings.max_length, student.max_length))
    training_rows, held_out = hold_out(len(corpus), settings)

    model = DistillModel(student, store.embeddings.shape[1], settings).to(runtime.torch_device())
    if runtime.device == "cpu":
        # the backward pass of the fused kernel alone took 46 % of a step on a CPU
        student.set_attention("eager")
    started = time.monotonic()
    last = _train_aloud(model, tokens, store, training_rows, settings, runtime, out)
    seconds = time.monotonic() - started

    agreed = _held_out_agreement(student, corpus, store, held_out, runtime) if len(held_out) >= 3 else None
    if agreed:
        console.log(f"agreement with the teacher on {len(held_out):,} held-out sentences: {agreed}")
    report = DistillReport(
        folder=out,
        num_sentences=len(training_rows),
        num_steps=last.step,
        seconds=seconds,
        final_loss=last.loss,
        logit_scale=model.scale.item(),
        agreement=agreed,
    )
    facts = _resolved(sources, settings, corpus_settings, corpus, runtime, teacher_facts, report)
    save_student(student.cpu(), out, card=model_card(student, facts), settings=facts)
    return report


def _teacher_rows(sources: DistillSources, corpus: Corpus, runtime: Runtime) -> tuple[EmbeddingStore, dict[str, Any]]:
    """Open the store that is given, or make one; the teacher's weights are freed before training starts."""
    teacher = load_encoder(sources.teacher, pooler=sources.teacher_pooler, revision=sources.teacher_revision)
    facts = {
        "source": teacher.source,
        "num_parameters": teacher.num_parameters,
        "num_layers": teacher.num_layers,
        "embedding_dim": teacher.embedding_dim,
        "pooling": teacher.pooling,
    }
    if sources.embeddings is not None:
        return open_store(sources.embeddings, corpus=corpus, teacher=teacher), facts
    folder = data_home() / "embeddings" / f"{teacher.fingerprint[:16]}-{corpus.fingerprint[:16]}-{runtime.dtype}"
    return extract(teacher, corpus, folder, EncodeSettings(), runtime), facts


def hold_out(num_sentences: int, settings: DistillSettings) -> tuple[np.ndarray, np.ndarray]:
    """Split row numbers into those trained on and those kept to score agreement, both ascending."""
    num_held_out = min(settings.num_held_out, num_sentences // 20)
    chosen = np.random.default_rng(settings.seed).permutation(num_sentences)
    return np.sort(chosen[num_held_out:]), np.sort(chosen[:num_held_out])


def _train_aloud(
    model: DistillModel,
    tokens: TokenStore,
    store: EmbeddingStore,
    rows: np.ndarray,
    settings: DistillSettings,
    runtime: Runtime,
    out: Path,
) -> StepRecord:
    """Train with a progress line; on a non-finite loss keep the last good student beside `out`."""
    records: list[StepRecord] = []
    num_planned = min(
        settings.epochs * len(rows), (settings.max_steps or settings.epochs * len(rows)) * settings.batch_size
    )
    with console.Progress("distill", num_planned, "sentences") as progress:

        def on_step(record: StepRecord) -> None:
            records[:] = [record]
            progress.update(
                record.num_sentences, f"loss {record.loss:.4f}, lr {record.lr:.2e}, scale {record.scale:.2f}"
            )

        try:
            teacher = StoredTeacher(store.embeddings, runtime)
            inputs = Inputs(tokens=tokens, teacher=teacher, rows=rows, settings=settings, runtime=runtime)
            train(model, inputs, on_step)
        except NonFiniteLoss as error:
            rescued = out.with_name(out.name + ".last-good")
            shutil.rmtree(rescued, ignore_errors=True)
            save_student(model.encoder.cpu(), rescued, card=f"Stopped: {error.message}\n", settings={})
            raise NonFiniteLoss(f"{error.message}; the last good student is in {rescued}", hint=error.hint) from error
    return records[0]


def _held_out_agreement(
    student: SentenceEncoder, corpus: Corpus, store: EmbeddingStore, rows: np.ndarray, runtime: Runtime
) -> Agreement:
    embeddings = embed_sentences(student, corpus.take(rows), runtime, EncodeSettings())
    return agreement(embeddings, store.embeddings[rows])


def _resolved(
    sources: DistillSources,
    settings: DistillSettings,
    corpus_settings: CorpusSettings,
    corpus: Corpus,
    runtime: Runtime,
    teacher: dict[str, Any],
    report: DistillReport,
) -> dict[str, Any]:
    """All that is needed to run this again, and what came of it, for `distilcse.json` and the card."""
    import transformers

    return {
        "stage": "distill",
        "versions": {"distilcse": __version__, "torch": torch.__version__, "transformers": transformers.__version__},
        "teacher": teacher,
        "student": {"reference": sources.student, "keep_layers": sources.keep_layers and list(sources.keep_layers)},
        "corpus": {
            "inputs": list(sources.corpus),
            "num_sentences": len(corpus),
            "fingerprint": corpus.fingerprint,
            "settings": asdict(corpus_settings),
        },
        "settings": asdict(settings),
        "runtime": {"device": runtime.device, "dtype": runtime.dtype, "reason": runtime.reason},
        "result": report.as_dict(),
    }
