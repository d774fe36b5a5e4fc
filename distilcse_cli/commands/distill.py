"""`distilcse distill`: stage 1, from a teacher and a text file to a student folder."""

from pathlib import Path
from typing import Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import options
from distilcse_cli.commands.defaults import given, in_processes
from distilcse_cli.commands.presets import Preset
from distilcse_cli.commands.settings_file import Config
from distilcse_cli.config import CorpusSettings, MachineSettings
from distilcse_cli.jobs import train
from distilcse_cli.setting import DATA, MODELS
from distilcse_cli.training.settings import DistillSettings

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
    report = train.distill(
        student=student,
        teacher=teacher,
        corpus=corpus,
        embeddings=embeddings,
        out=out,
        student_options=student_options,
        teacher_options=teacher_options,
        corpus_settings=corpus_settings,
        settings=settings,
        machine=machine,
        resume=resume,
        overwrite=overwrite,
        given=given(context),
        on_checked=in_processes(machine),
    )
    if json:
        console.result_json(report.as_dict())
    else:
        console.result(
            f"{out or report.folder}: {report.num_steps:,} steps over {report.num_sentences:,} sentences"
            f" in {console.duration(report.seconds)}, loss {report.final_loss:.4f}"
        )
