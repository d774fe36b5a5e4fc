"""`distilcse align`: a student whose vectors can be compared with the rows of a store."""

from pathlib import Path
from typing import Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import options
from distilcse_cli.commands.settings_file import Config
from distilcse_cli.jobs import serve
from distilcse_cli.serving.settings import AlignSettings, QueryMachine
from distilcse_cli.setting import DATA, OUTPUT

EXAMPLES = """
distilcse align student --to rows --out aligned
"""
Student = Annotated[str, typer.Argument(metavar="STUDENT", help="Model to align: folder, catalogue name or hub id.")]
Store = Annotated[
    Path, typer.Option("--to", rich_help_panel=DATA, metavar="STORE", help="Embedding store of the teacher.")
]
Out = Annotated[
    Path, typer.Option(rich_help_panel=OUTPUT, help="Folder for the aligned student; must not exist or be empty.")
]


@options.with_settings
def align(
    *,
    student: Student,
    to: Store,
    out: Out,
    model_options: options.ModelOptions,
    settings: AlignSettings,
    machine: QueryMachine,
    config: Config = None,  # noqa: ARG001  its callback does the work
    json: options.Json = False,
) -> None:
    """Fit one linear map behind a student, so that it can query its teacher's index.

    If the map does not help, nothing is written, and the exit code is 7.
    """
    report = serve.align(student, to=to, out=out, model_options=model_options, settings=settings, machine=machine)
    console.result_json(report.as_dict()) if json else console.result(f"{out}: {report}")
