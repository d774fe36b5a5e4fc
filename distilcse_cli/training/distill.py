"""Stage 1 from its inputs to the student folder: the data is made or found, the layers chosen, the student trained."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.corpus import Corpus, open_corpus, prepare_corpus
from distilcse_cli.errors import ModelError, NetworkError
from distilcse_cli.models.card import origins
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.layers import require_layers
from distilcse_cli.models.readers import warn_of_readers
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.models.surgery import cut_layers
from distilcse_cli.models.vocabulary import cut_to_corpus
from distilcse_cli.ranks import Ranks
from distilcse_cli.rendezvous import MINUTES
from distilcse_cli.runtime import Runtime
from distilcse_cli.teacher.space import space_of_store
from distilcse_cli.teacher.store import MANIFEST, EmbeddingStore, read_manifest
from distilcse_cli.training.dev import hold_out
from distilcse_cli.training.distillation import Distillation
from distilcse_cli.training.layers import choose_layers
from distilcse_cli.training.objective import tokens_of
from distilcse_cli.training.report import DistillReport
from distilcse_cli.training.run import models_as_typed
from distilcse_cli.training.run import run as run_objective
from distilcse_cli.training.run_folder import RunFolder
from distilcse_cli.training.settings import DistillSettings, require_one_choice
from distilcse_cli.training.teacher_rows import LiveTeacher, StoredTeacher, Teacher, TeacherRows, teacher_of


@dataclass(frozen=True, kw_only=True)
class DistillSources:
    """Models and data of stage 1."""

    teacher: ModelRef | None
    """None if `embeddings` is all that there is of it."""
    student: ModelRef
    corpus: tuple[str, ...]
    """Text files, hub data sets or folders of stores."""
    embeddings: Path | None = None
    """A store of this teacher and corpus; None extracts one into the data home."""

    def typed(self) -> dict[str, Any]:
        """What the user chose, under the names of the options."""
        return {
            "teacher": self.teacher and self.teacher.ref,
            "student": self.student.ref,
            "corpus": self.corpus,
            "embeddings": self.embeddings,
            "keep_layers": self.student.keep_layers,
            **models_as_typed(self.student, self.teacher),
        }


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
    require_one_choice(settings.layers, sources.student.keep_layers)
    kept_by_name = sources.student.keep_layers
    settings = settings.with_rate(settings.layers if kept_by_name is None else len(kept_by_name))

    def prepare(runtime: Runtime, ranks: Ranks) -> Distillation:
        # a resumed run keeps its layers, even if another choice would be made today
        kept = ranks.on_main(lambda: _layers_of_run(RunFolder(out))) if resume and settings.layers else None
        objective = _prepare(
            runtime, ranks, sources=sources, settings=settings, corpus_settings=corpus_settings, kept_layers=kept
        )
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


def _layers_of_run(folder: RunFolder) -> tuple[int, ...] | None:
    """The layers that the interrupted run has chosen; None without one."""
    checkpoint = folder.checkpoints.latest()
    layers = checkpoint.facts["identity"].get("kept_layers") if checkpoint else None
    return None if layers is None else tuple(layers)


def _student(sources: DistillSources, *, static: bool) -> SentenceEncoder:
    """Load the model that the student starts from, or a table of its token vectors."""
    try:
        return replace(sources.student, static=static).load()
    except (ModelError, NetworkError) as error:
        ref, store = sources.student.ref, sources.embeddings
        if sources.teacher is None and store and read_manifest(store / MANIFEST).get("teacher") == ref:
            message = f"no student can be cut from {ref}: of this teacher there are only the vectors in {store}"
            raise ModelError(message, hint="start from a model, such as --student all-minilm-l6") from error
        raise


def _prepare(
    runtime: Runtime,
    ranks: Ranks,
    *,
    sources: DistillSources,
    settings: DistillSettings,
    corpus_settings: CorpusSettings,
    kept_layers: tuple[int, ...] | None = None,
) -> Distillation:
    """Make or find the data, load the models, and make the objective. Every process calls it.

    With `--layers` rank 0 chooses them, unless the resumed run has done so: `kept_layers`.
    """
    student = ranks.main_first(lambda: _student(sources, static=settings.layers == 0))
    warn_of_readers(student)  # before hours of training
    if settings.layers:
        require_layers(student, settings.layers)
    corpus = open_corpus(ranks.on_main(lambda: prepare_corpus(sources.corpus, corpus_settings).folder))
    model = teacher_of(sources.teacher, sources.embeddings, ranks)
    store = model.store(corpus, runtime, sources.embeddings)
    # the student replaces its teacher, so its vectors are normalized if the teacher's are
    student.normalize = bool(store.manifest["normalized"])
    layers = () if settings.layers == 0 else sources.student.keep_layers
    if settings.layers:
        layers = kept_layers or ranks.on_main(lambda: choose_layers(student, corpus, store, settings, runtime))
        cut_layers(student.backbone, layers)
    vocabulary = {}
    if settings.vocab_size is not None:
        cut = cut_to_corpus(student, corpus, settings.vocab_size, max_length=settings.max_length, ranks=ranks)
        vocabulary = {"vocabulary": cut.as_dict()}
    tokens = tokens_of(corpus, student, settings.max_length, ranks)
    rows, held_out = hold_out(len(corpus), settings)
    return Distillation(
        settings=settings,
        runtime=runtime,
        ranks=ranks,
        student=student,
        tokens=tokens,
        rows=rows,
        teacher=_teacher_rows(model, store, corpus, settings, runtime, ranks),
        held_out_sentences=corpus.take(held_out),
        held_out_rows=store.embeddings[held_out],
        marks={
            # a name does not tell vectors from others of the same name
            "teacher": store.manifest.get("rows_sha256", store.manifest["teacher_fingerprint"]),
            "student": student.fingerprint,
            "corpus": corpus.fingerprint,
            **({"kept_layers": layers and list(layers)} if settings.layers else {}),
        },
        kept_layers=layers,
        space=space_of_store(store.manifest),
        chosen={"keep_layers": layers, "layers": None} if settings.layers else {},
        facts={
            "teacher": model.facts(),
            "student": _student_facts(sources.student, layers) | vocabulary,
            "corpus": _corpus_facts(corpus, sources, corpus_settings),
            "origins": origins(sources.student, sources.teacher),
        },
    )


def _teacher_rows(
    model: Teacher, store: EmbeddingStore, corpus: Corpus, settings: DistillSettings, runtime: Runtime, ranks: Ranks
) -> TeacherRows:
    if not settings.teacher_dropout:
        return StoredTeacher(store.embeddings, runtime)
    encoder = model.encoder()
    return LiveTeacher(encoder, tokens_of(corpus, encoder, settings.max_length, ranks), runtime, ranks)


def _student_facts(student: ModelRef, layers: tuple[int, ...] | None) -> dict[str, Any]:
    return {"reference": student.ref, "base": student.base, "keep_layers": layers and list(layers)}


def _corpus_facts(corpus: Corpus, sources: DistillSources, settings: CorpusSettings) -> dict[str, Any]:
    return {
        "inputs": list(sources.corpus),
        "num_sentences": len(corpus),
        "fingerprint": corpus.fingerprint,
        "settings": asdict(settings),
    }
