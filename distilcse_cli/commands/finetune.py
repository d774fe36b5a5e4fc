"""`distilcse finetune`: stage 2, from a student and a table of triples to a better student."""

import sys
from typing import Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import defaults, options
from distilcse_cli.commands.outputs import require_student_out
from distilcse_cli.commands.presets import Preset
from distilcse_cli.commands.settings_file import Config
from distilcse_cli.config import MachineSettings, TripletSettings
from distilcse_cli.errors import UsageError
from distilcse_cli.launcher import launch
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
    if (teacher is None) != (settings.keep_teacher == 0):
        raise UsageError("--teacher and --keep-teacher go together", hint="such as --teacher REF --keep-teacher 0.5")
    learner = model_options.of(student)
    tables = defaults.triplets_or_default(triplets)
    out = out or defaults.default_out(defaults.short_name(learner), "finetuned")
    require_student_out(out, student, teacher, learner.base, learner.tokenizer, *tables)
    if launch(machine.nproc, sys.argv[1:], machine.device):
        return

    from distilcse_cli.training.triples import FinetuneSources, run

    report = run(
        FinetuneSources(student=learner, triplets=tables, teacher=teacher_options.of(teacher) if teacher else None),
        out,
        settings,
        triplet_settings=triplet_settings,
        device=machine.device,
        compute_dtype=machine.compute_dtype,
        rendezvous_timeout=machine.rendezvous_timeout,
        resume=resume,
        overwrite=overwrite,
    )
    if json:
        console.result_json(report.as_dict())
        return
    score = "" if report.dev_score is None else f", {report.dev_set} {report.dev_score:.2f}"
    before = "" if report.start_score is None else f" (before: {report.start_score:.2f})"
    console.result(
        f"{out}: {report.num_steps:,} steps over {report.num_triples:,} triples"
        f" in {console.duration(report.seconds)}, loss {report.final_loss:.4f}{score}{before}"
    )
