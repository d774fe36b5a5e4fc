"""`distilcse export`: a student in the form that another program serves."""

from pathlib import Path
from typing import Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import options
from distilcse_cli.errors import UsageError
from distilcse_cli.outputs import require_new_folder
from distilcse_cli.setting import MODELS, OUTPUT

EXAMPLES = """
distilcse export student --asymmetric --teacher all-minilm-l6 --out both
"""
Student = Annotated[str, typer.Argument(metavar="STUDENT", help="Model to export: folder, catalogue name or hub id.")]
Teacher = Annotated[
    str | None,
    typer.Option(metavar="REF", rich_help_panel=MODELS, help="For --asymmetric: the model of the documents."),
]
Out = Annotated[Path, typer.Option(rich_help_panel=OUTPUT, help="Folder to write; must not exist or be empty.")]
Asymmetric = Annotated[
    bool,
    typer.Option(
        "--asymmetric",
        rich_help_panel=OUTPUT,
        help="A folder for sentence-transformers: queries through the student, documents through its teacher.",
    ),
]


@options.with_settings
def export(
    *,
    student: Student,
    asymmetric: Asymmetric = False,
    out: Out,
    model_options: options.ModelOptions,
    teacher: Teacher = None,
    teacher_options: options.TeacherOptions,
    json: options.Json = False,
) -> None:
    """Write a student in the form that another program serves."""
    if not asymmetric:
        raise UsageError("the form to export is not named", hint="--asymmetric")
    if teacher is None:
        raise UsageError("--asymmetric needs the model of the documents", hint="name it with --teacher REF")
    require_new_folder(out, student, teacher, model_options.base, model_options.tokenizer)

    from distilcse_cli.serving.router_folder import export_router

    report = export_router(model_options.of(student), teacher_options.of(teacher), out)
    if json:
        console.result_json(report)
        return
    console.result(f"{out}: queries through {student}, documents through {teacher}, {report['width']} numbers each")
