"""Training: distil a student from its teacher, and fine-tune it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distilcse_cli.config import CorpusSettings, MachineSettings, TripletSettings
from distilcse_cli.errors import UsageError
from distilcse_cli.jobs.defaults import Given, corpus_or_default, default_out, say, short_name, triplets_or_default
from distilcse_cli.models.options import ModelOptions, Ref, StudentOptions, TeacherOptions
from distilcse_cli.outputs import require_student_out
from distilcse_cli.setting import option_name, settings_of
from distilcse_cli.training.settings import (
    CONTRASTIVE_LOSSES,
    NEGATIVES,
    DistillSettings,
    FinetuneSettings,
    require_one_choice,
)

if TYPE_CHECKING:
    from distilcse_cli.models.reference import ModelRef
    from distilcse_cli.training.report import DistillReport, FinetuneReport


def distill(
    *,
    student: Ref,
    teacher: Ref | None = None,
    corpus: Sequence[str] | None = None,
    embeddings: Ref | None = None,
    out: Ref | None = None,
    student_options: StudentOptions,
    teacher_options: TeacherOptions,
    corpus_settings: CorpusSettings,
    settings: DistillSettings,
    machine: MachineSettings,
    resume: bool = False,
    overwrite: bool = False,
    given: Given,
    on_checked: Callable[[], None] = lambda: None,
) -> "DistillReport":
    """Stage 1: train a student on its teacher's embeddings, and save it as a folder.

    Args:
        student: The model that the student starts from: folder, catalogue name, hub id or file of weights.
        teacher: The model to learn from; None if `embeddings` is all that there is of it.
        corpus: Text. Default: the sentences of `embeddings`, else News-5m if downloaded, else those of news-articles.
        embeddings: Folder that `extract` or `import_vectors` wrote. Default: made now, and kept in the data home.
        out: Folder for the student; must not exist or be empty. Default: named after the models, in the working folder.
        resume: Continue an interrupted run; without one, start it. Of a finished run, return the report.
        overwrite: Replace the student in `out`, or start an interrupted run anew.

    Returns:
        The student's folder and the numbers of its training.

    Raises:
        DistilCSEError: A model, the text or a setting cannot be used, or the loss is no longer finite.
        KeyboardInterrupt: The run was interrupted, and `resume` continues it.
    """
    require_one_choice(settings.layers, student_options.keep_layers)
    _warn_of_unread(given, settings.loss)
    learner, model = student_options.of(student), None if teacher is None else teacher_options.of(teacher)
    store = None if embeddings is None else Path(embeddings)
    _require_rows(model, store, settings, teacher_options)
    inputs, corpus_settings = corpus_or_default(corpus or _sentences_of(store), corpus_settings, given)
    named = short_name(learner) + ("" if settings.layers is None else f"-{settings.layers}-layers")
    taught = short_name(model or ModelOptions().of(str(store)))
    folder = default_out(named, "from", taught) if out is None else Path(out)
    require_student_out(folder, teacher, student, learner.base, learner.tokenizer, *inputs, store)
    on_checked()

    from distilcse_cli.training.distill import DistillSources, run

    return run(
        DistillSources(teacher=model, student=learner, corpus=inputs, embeddings=store),
        folder,
        settings,
        corpus_settings=corpus_settings,
        device=machine.device,
        compute_dtype=machine.compute_dtype,
        rendezvous_timeout=machine.rendezvous_timeout,
        resume=resume,
        overwrite=overwrite,
    )


def _sentences_of(store: Path | None) -> list[str]:
    """The corpus that a store has; none without a store."""
    if store is None:
        return []
    from distilcse_cli.teacher.store import open_store

    return [str(open_store(store).folder)]


def _warn_of_unread(given: Given, loss: str) -> None:
    """Say which of the settings of this call the loss does not read."""
    unread = [name for name in NEGATIVES if given.get(name)]
    if unread and loss not in CONTRASTIVE_LOSSES:
        settings = settings_of(DistillSettings)
        options = ", ".join(option_name(name, settings[name]) for name in unread)
        say(f"--loss {loss} does not read {options}; --loss ckd does", warn=True)


def _require_rows(
    model: "ModelRef | None", embeddings: Path | None, settings: DistillSettings, teacher: TeacherOptions
) -> None:
    """Check, where no model is the teacher, that a store alone can be it.

    Raises:
        UsageError: there is none, or an option needs the teacher's model.
    """
    if model is not None:
        return
    if embeddings is None:
        raise UsageError("no --teacher is given", hint="name a model, or a store of its rows with --embeddings")
    if settings.teacher_dropout or teacher != TeacherOptions():
        option = "--teacher-dropout" if settings.teacher_dropout else "an option of the teacher"
        raise UsageError(
            f"{option} needs the teacher's model, but {embeddings} has only its rows", hint="add --teacher"
        )


def finetune(
    *,
    student: Ref,
    triplets: Sequence[str] | None = None,
    teacher: Ref | None = None,
    out: Ref | None = None,
    model_options: ModelOptions,
    teacher_options: TeacherOptions,
    triplet_settings: TripletSettings,
    settings: FinetuneSettings,
    machine: MachineSettings,
    resume: bool = False,
    overwrite: bool = False,
    on_checked: Callable[[], None] = lambda: None,
) -> "FinetuneReport":
    """Stage 2: fine-tune a student on triples of sentences, and save it as a folder.

    Args:
        student: The model to fine-tune: folder, catalogue name, hub id or file of weights.
        triplets: Anchor, positive and, if there are any, hard negatives in each row. Default: the NLI triples if they
            are downloaded.
        teacher: Model that `keep_teacher` keeps the student near.
        out: Folder for the student; must not exist or be empty. Default: named after the model, in the working folder.
        resume: Continue an interrupted run; without one, start it. Of a finished run, return the report.
        overwrite: Replace the student in `out`, or start an interrupted run anew.

    Returns:
        The student's folder and the numbers of its training.

    Raises:
        DistilCSEError, KeyboardInterrupt: As from `distill`.
    """
    if (teacher is None) != (settings.keep_teacher == 0):
        raise UsageError("--teacher and --keep-teacher go together", hint="such as --teacher REF --keep-teacher 0.5")
    learner = model_options.of(student)
    model = teacher_options.of(teacher) if teacher is not None else None
    tables = triplets_or_default(triplets)
    folder = default_out(short_name(learner), "finetuned") if out is None else Path(out)
    require_student_out(folder, student, teacher, learner.base, learner.tokenizer, *tables)
    on_checked()

    from distilcse_cli.training.triples import FinetuneSources, run

    return run(
        FinetuneSources(student=learner, triplets=tables, teacher=model),
        folder,
        settings,
        triplet_settings=triplet_settings,
        device=machine.device,
        compute_dtype=machine.compute_dtype,
        rendezvous_timeout=machine.rendezvous_timeout,
        resume=resume,
        overwrite=overwrite,
    )
