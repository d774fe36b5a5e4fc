"""`distilcse export`: a student in the form that another program serves."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from distilcse_cli import console
from distilcse_cli.commands import options
from distilcse_cli.errors import UsageError
from distilcse_cli.jobs import export as jobs
from distilcse_cli.serving.settings import OnnxSettings
from distilcse_cli.setting import DATA, KEEPING, MODELS, OUTPUT

EXAMPLES = """
distilcse export student --to onnx --int8
distilcse export student --web page
distilcse export student --asymmetric --teacher all-minilm-l6 --out both
"""
Student = Annotated[
    str,
    typer.Argument(
        metavar="STUDENT", help="Model to export: folder, catalogue name or hub id; --to onnx needs a folder."
    ),
]
Teacher = Annotated[
    str | None,
    typer.Option(metavar="REF", rich_help_panel=MODELS, help="For --asymmetric: the model of the documents."),
]
To = Annotated[
    str | None,
    typer.Option(
        metavar="onnx", rich_help_panel=OUTPUT, help="onnx: a graph, onnx/model.onnx in the student's folder."
    ),
]
Web = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        rich_help_panel=OUTPUT,
        help="A page that searches sentences in the browser. npm fetches its parts.",
    ),
]
Sentences = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=DATA,
        metavar="FILE",
        help="Sentences, one a line: --to onnx checks the graph on the first 64, --web takes the first 256."
        " Default: English ones of the package's own.",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", rich_help_panel=KEEPING, help="For --to onnx: replace the graphs that are there."),
]
Out = Annotated[
    Path | None,
    typer.Option(rich_help_panel=OUTPUT, help="For --asymmetric: folder to write; must not exist or be empty."),
]
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
    to: To = None,
    web: Web = None,
    asymmetric: Asymmetric = False,
    out: Out = None,
    settings: OnnxSettings,
    sentences: Sentences = None,
    overwrite: Overwrite = False,
    model_options: options.ModelOptions,
    teacher: Teacher = None,
    teacher_options: options.TeacherOptions,
    json: options.Json = False,
) -> None:
    """Write a student in the form that another program serves."""
    if [to is not None, web is not None, asymmetric].count(True) != 1:
        raise UsageError("name one form to export", hint="--to onnx, --web DIR or --asymmetric")
    if asymmetric:
        _refuse({"--int8": settings.int8, "--sentences": sentences, "--overwrite": overwrite}, "--to onnx or --web")
        if teacher is None:
            raise UsageError("--asymmetric needs the model of the documents", hint="name it with --teacher REF")
        if out is None:
            raise UsageError("--asymmetric writes a new folder", hint="name it with --out DIR")
        report = jobs.export_asymmetric(
            student, teacher=teacher, out=out, model_options=model_options, teacher_options=teacher_options
        )
        text = f"{out}: queries through {student}, documents through {teacher}, {report['width']} numbers each"
        return console.result_json(report) if json else console.result(text)
    _refuse({"--out": out, "--teacher": teacher}, "--asymmetric")
    if to not in (None, "onnx"):
        raise UsageError(f"--to is {to!r}, but must be onnx")

    if web is not None:
        _refuse({"--overwrite": overwrite}, "--to onnx")
        report = jobs.export_web(student, out=web, sentences=sentences, model_options=model_options, settings=settings)
        address = f"python -m http.server -d {web} shows it at http://localhost:8000"
        lines = [f"{web}: a page of {report['num_bytes'] / 1e6:,.1f} MB; {address}"]
    else:
        report = jobs.export_onnx(
            student, sentences=sentences, overwrite=overwrite, model_options=model_options, settings=settings
        )
        lines = list(_graphs(student, report))
    return console.result_json(report) if json else console.result("\n".join(lines))


def _graphs(student: str, report: dict[str, Any]) -> Iterator[str]:
    """A line for each graph."""
    whole, quantized = report["float32"], report["int8"]
    yield (
        f"{student}/{whole['file']}: {whole['num_bytes'] / 1e6:,.1f} MB in float32, opset {report['opset']},"
        f" within {whole['max_difference']:.0e} of torch on {report['num_checked']} sentences"
    )
    if quantized is not None:
        yield (
            f"{student}/{quantized['file']}: {quantized['num_bytes'] / 1e6:,.1f} MB in int8,"
            f" cosine to torch {quantized['mean_cosine']:.4f} in the mean, {quantized['least_cosine']:.4f} at least"
        )


def _refuse(given: dict[str, object], form: str) -> None:
    """Check that no option of another form is given."""
    for option, value in given.items():
        if value:
            raise UsageError(f"{option} goes with {form} only", hint="leave it out")
