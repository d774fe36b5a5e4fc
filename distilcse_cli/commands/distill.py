"""`distilcse distill`: stage 1, from a teacher and a text file to a student folder."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import defaults, options
from distilcse_cli.commands.outputs import require_student_out
from distilcse_cli.commands.presets import Preset, warn_of_unread
from distilcse_cli.commands.settings_file import Config
from distilcse_cli.config import CorpusSettings, MachineSettings
from distilcse_cli.errors import UsageError
from distilcse_cli.launcher import launch
from distilcse_cli.setting import DATA, MODELS
from distilcse_cli.training.settings import DistillSettings, require_one_choice

EXAMPLES = """
distilcse distill --teacher all-minilm-l6 --student all-minilm-l6 --layers 3
distilcse distill --teacher REF --student REF --corpus sentences.txt --out student --preset paper
distilcse distill --embeddings store --student REF
"""

Teacher = Annotated[
    str | None,
    typer.Option(
        metavar="REF",
        rich_help_panel=MODELS,
        help="The teacher: folder, catalogue name, hub id or file of weights."
        " Default: none, if --embeddings has its rows.",
    ),
]
Embeddings = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=DATA,
        help="Folder that `distilcse extract` or `import` wrote; its sentences are the default corpus."
        " Default: made now, and kept in the data home.",
    ),
]


@options.with_settings
def distill(
    *,
    context: typer.Context,
    teacher: Teacher = None,
    student: options.Student,
    student_options: options.StudentOptions,
    teacher_options: options.TeacherOptions,
    corpus: options.Corpus = None,
    corpus_settings: CorpusSettings,
    embeddings: Embeddings = None,
    preset: Preset = None,  # noqa: ARG001  its callback does the work
    config: Config = None,  # noqa: ARG001  likewise
    settings: DistillSettings,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    machine: MachineSettings,
    out: options.StudentOut = None,
    json: options.Json = False,
) -> None:
    """Stage 1: train a student on its teacher's embeddings."""
    require_one_choice(settings.layers, student_options.keep_layers)
    warn_of_unread(context, settings.loss)
    learner = student_options.of(student)
    model = teacher_options.of(teacher) if teacher is not None else None
    if model is None:
        _require_rows(embeddings, settings, teacher_options)
    if embeddings is not None and not corpus:
        from distilcse_cli.teacher.store import open_store

        corpus = [str(open_store(embeddings).folder)]
    inputs, corpus_settings = defaults.corpus_or_default(context, corpus, corpus_settings)
    named = defaults.short_name(model or options.ModelOptions().of(str(embeddings)))
    layers = "" if settings.layers is None else f"-{settings.layers}-layers"
    out = out or defaults.default_out(defaults.short_name(learner) + layers, "from", named)
    require_student_out(out, teacher, student, learner.base, learner.tokenizer, *inputs, embeddings)
    if launch(machine.nproc, sys.argv[1:], machine.device):
        return

    from distilcse_cli.training.distill import DistillSources, run

    report = run(
        DistillSources(teacher=model, student=learner, corpus=inputs, embeddings=embeddings),
        out,
        settings,
        corpus_settings=corpus_settings,
        device=machine.device,
        compute_dtype=machine.compute_dtype,
        rendezvous_timeout=machine.rendezvous_timeout,
        resume=resume,
        overwrite=overwrite,
    )
    if json:
        console.result_json(report.as_dict())
    else:
        console.result(
            f"{out}: {report.num_steps:,} steps over {report.num_sentences:,} sentences"
            f" in {console.duration(report.seconds)}, loss {report.final_loss:.4f}"
        )


def _require_rows(
    embeddings: Path | None, settings: DistillSettings, options_of_teacher: options.TeacherOptions
) -> None:
    """Check that a store alone can be the teacher.

    Raises:
        UsageError: there is none, or an option needs the teacher's model.
    """
    if embeddings is None:
        raise UsageError("no --teacher is given", hint="name a model, or a store of its rows with --embeddings")
    if settings.teacher_dropout or options_of_teacher != options.TeacherOptions():
        option = "--teacher-dropout" if settings.teacher_dropout else "an option of the teacher"
        raise UsageError(
            f"{option} needs the teacher's model, but {embeddings} has only its rows", hint="add --teacher"
        )
