"""`distilcse eval`: SentEval's STS and transfer tables of one or more models."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import defaults, options
from distilcse_cli.commands.defaults import in_processes
from distilcse_cli.commands.settings_file import Config
from distilcse_cli.config import MachineSettings
from distilcse_cli.errors import UsageError
from distilcse_cli.evaluation.settings import OUT_FORMATS, TASK_SETS, EvalSettings, check_out
from distilcse_cli.jobs import measure
from distilcse_cli.outputs import require_no_model_file, require_outside, require_writable
from distilcse_cli.setting import DATA, MODELS, OBJECTIVE, OUTPUT

if TYPE_CHECKING:
    from distilcse_cli.evaluation.report import Report

EXAMPLES = """
distilcse eval --model student --task-set sts
distilcse eval --model student --teacher all-minilm-l6 --tasks STS12,STS16,MR --out results.json
"""
CONTEXT = {"allow_extra_args": True}
"""In the authors' scripts `--tasks A B` has a blank between the names, which makes B an extra argument."""
Teacher = Annotated[
    str | None,
    typer.Option(
        metavar="REF", rich_help_panel=MODELS, help="Model to compare with: its row, and each difference to it."
    ),
]
TaskSet = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(TASK_SETS),
        rich_help_panel=OBJECTIVE,
        help="Tasks to run; na: those of --tasks.  [default: sts]",
    ),
]
Tasks = Annotated[
    list[str] | None, typer.Option(metavar="A,B", rich_help_panel=OBJECTIVE, help="Tasks to run, by name.")
]
Data = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=DATA,
        help="Folder that holds downstream/."
        " Default: $DISTILCSE_DATA/senteval, else datasets/senteval in the data home.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(rich_help_panel=OUTPUT, help="File to write the results to; with --format mteb a folder."),
]
OutFormat = Annotated[
    str, typer.Option("--format", metavar="|".join(OUT_FORMATS), rich_help_panel=OUTPUT, help="Form of --out.")
]
# the names of the authors' scripts, which keep working
AuthorsModel = Annotated[list[str] | None, typer.Option("--model_name_or_path", hidden=True)]
AuthorsTaskSet = Annotated[str | None, typer.Option("--task_set", hidden=True)]


@options.with_settings
def evaluate(
    *,
    context: typer.Context,
    model: options.Models = None,
    teacher: Teacher = None,
    model_options: options.ModelOptions,
    teacher_options: options.TeacherOptions,
    task_set: TaskSet = None,
    tasks: Tasks = None,
    data: Data = None,
    settings: EvalSettings,
    machine: MachineSettings,
    out: Out = None,
    out_format: OutFormat = "senteval",
    config: Config = None,  # noqa: ARG001  its callback does the work
    json: options.Json = False,
    authors_model: AuthorsModel = None,
    authors_task_set: AuthorsTaskSet = None,
) -> None:
    """Score models on SentEval. Results of earlier runs are re-used where model, data and settings are the same.

    Transfer tasks compute in float32 unless --compute-dtype says otherwise: their scores depend on the last digits.
    """
    check_out(out, out_format, settings)
    if out is not None:
        require_outside(out, data)
        require_writable(out / "file" if out_format == "mteb" else out)
    refs = [*(model or ()), *(authors_model or ())] or [defaults.model_or_default(None)]
    if out is not None:
        require_no_model_file(out, *refs, teacher, model_options.base, model_options.tokenizer)

    measure.evaluate(
        refs,
        teacher=teacher,
        tasks=_names(tasks, context.args),
        task_set=authors_task_set if task_set is None else task_set,
        data=data,
        model_options=model_options,
        teacher_options=teacher_options,
        settings=settings,
        machine=machine,
        on_checked=in_processes(machine),
        deliver=lambda report: _deliver(report, json, out, out_format),
    )


def _names(tasks: Sequence[str] | None, further: Sequence[str]) -> list[str]:
    """Names of tasks, including those that follow the option's first value."""
    if further and not tasks:
        raise UsageError(f"Got unexpected extra argument {further[0]!r}", hint="see distilcse eval --help")
    return [*(tasks or ()), *further]


def _deliver(report: "Report", json: bool, out: Path | None, out_format: str) -> None:
    """Print a report, and write it to `out` if there is one."""
    from distilcse_cli.evaluation.mteb import write_out

    for remark in report.remarks():
        console.log(remark)
    if json:
        console.result_json(report.as_dict())
    else:
        console.result(report.text())
    if out is not None:
        write_out(report, out, out_format)
