"""`distilcse finetune`: stage 2, from a student and a table of triples to a better student."""

from typing import Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import options
from distilcse_cli.commands.defaults import in_processes
from distilcse_cli.commands.presets import Preset
from distilcse_cli.commands.settings_file import Config
from distilcse_cli.config import MachineSettings, TripletSettings
from distilcse_cli.jobs import train
from distilcse_cli.setting import DATA, MODELS
from distilcse_cli.training.settings import FinetuneSettings

EXAMPLES = """
distilcse finetune --student student --triplets triples.csv --out better
distilcse finetune --student student --teacher all-minilm-l6 --keep-teacher 0.5
"""
Triplets = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        rich_help_panel=DATA,
        help="Anchor, positive and, if there are any, hard negatives in each row: csv, tsv or JSON (each also packed),"
        " or parquet. Repeat it for several. Default: the NLI triples if they are downloaded.",
    ),
]


@options.with_settings
def finetune(
    *,
    student: options.Student,
    model_options: options.ModelOptions,
    teacher: Annotated[
        str | None,
        typer.Option(metavar="REF", rich_help_panel=MODELS, help="Model that --keep-teacher keeps the student near."),
    ] = None,
    teacher_options: options.TeacherOptions,
    triplets: Triplets = None,
    triplet_settings: TripletSettings,
    preset: Preset = None,  # noqa: ARG001  its callback does the work
    config: Config = None,  # noqa: ARG001  likewise
    settings: FinetuneSettings,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    machine: MachineSettings,
    out: options.StudentOut = None,
    json: options.Json = False,
) -> None:
    """Stage 2: fine-tune a student on triples of sentences."""
    report = train.finetune(
        student=student,
        triplets=triplets,
        teacher=teacher,
        out=out,
        model_options=model_options,
        teacher_options=teacher_options,
        triplet_settings=triplet_settings,
        settings=settings,
        machine=machine,
        resume=resume,
        overwrite=overwrite,
        on_checked=in_processes(machine),
    )
    if json:
        console.result_json(report.as_dict())
        return
    score = "" if report.dev_score is None else f", {report.dev_set} {report.dev_score:.2f}"
    before = "" if report.start_score is None else f" (before: {report.start_score:.2f})"
    console.result(
        f"{out or report.folder}: {report.num_steps:,} steps over {report.num_triples:,} triples"
        f" in {console.duration(report.seconds)}, loss {report.final_loss:.4f}{score}{before}"
    )
