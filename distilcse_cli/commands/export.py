"""`distilcse export`: a student in the form that another program serves."""

from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from distilcse_cli import console
from distilcse_cli.commands import options
from distilcse_cli.commands.outputs import require_file, require_new_folder, require_writable
from distilcse_cli.errors import DataError, UsageError
from distilcse_cli.paths import expanded
from distilcse_cli.serving.settings import OnnxSettings
from distilcse_cli.setting import DATA, KEEPING, MODELS, OUTPUT

EXAMPLES = """
distilcse export student --to onnx --int8
distilcse export student --web page
distilcse export student --asymmetric --teacher all-minilm-l6 --out both
"""
Student = Annotated[str, typer.Argument(metavar="STUDENT", help="Model to export: folder, catalogue name or hub id.")]
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
        _refuse({"--int8": settings.int8, "--sentences": sentences, "--overwrite": overwrite}, "a graph")
        return _asymmetric(student, teacher, out, model_options, teacher_options, json=json)
    _refuse({"--out": out, "--teacher": teacher}, "--asymmetric")
    if to not in (None, "onnx"):
        raise UsageError(f"--to is {to!r}, but must be onnx")
    if web is not None:
        _refuse({"--overwrite": overwrite}, "--to onnx")
        require_new_folder(web, student, sentences, model_options.base, model_options.tokenizer)

    from distilcse_cli.serving.onnx_export import FLOAT, NUM_CHECKED, export_onnx, require_new_graphs
    from distilcse_cli.serving.onnx_graph import require_onnx
    from distilcse_cli.serving.sample import SENTENCES, uneven

    require_onnx()
    if web is None:
        require_new_graphs(expanded(student), overwrite=overwrite)
        require_writable(expanded(student) / FLOAT)
        texts = uneven(NUM_CHECKED) if sentences is None else _texts(sentences, NUM_CHECKED)
        report = export_onnx(model_options.of(student), texts, settings)
        folder = student
    else:
        from distilcse_cli.serving.web import MOST_SENTENCES, export_web, require_npm

        require_npm()
        texts = list(SENTENCES) if sentences is None else _texts(sentences, MOST_SENTENCES)
        report = export_web(model_options.of(student), web, texts, settings)
        console.log(f"python -m http.server -d {web} shows the page at http://localhost:8000")
        folder = str(web)
    _show(folder, report, json=json)
    return None


def _show(folder: str, report: dict[str, Any], *, json: bool) -> None:
    if json:
        return console.result_json(report)
    whole, quantized = report["float32"], report["int8"]
    console.result(
        f"{folder}: {whole['file']}, {whole['num_bytes'] / 1e6:,.1f} MB in float32, opset {report['opset']},"
        f" within {whole['max_difference']:.0e} of torch on {report['num_checked']} sentences"
    )
    if quantized is not None:
        console.result(
            f"{folder}: {quantized['file']}, {quantized['num_bytes'] / 1e6:,.1f} MB in int8,"
            f" cosine to torch {quantized['mean_cosine']:.4f} in the mean, {quantized['least_cosine']:.4f} at least"
        )
    return None


def _refuse(given: dict[str, object], form: str) -> None:
    """Check that no option of another form is given."""
    for option, value in given.items():
        if value:
            raise UsageError(f"{option} goes with {form} only", hint="leave it out")


def _texts(file: Path, most: int) -> list[str]:
    """The first sentences of a file."""
    require_file(file)

    from distilcse_cli.data.every_line import lines

    texts = list(islice(filter(str.strip, lines(file)), most))
    if not texts:
        raise DataError(f"{file} has no sentences", hint="a sentence a line is needed")
    return texts


def _asymmetric(
    student: str,
    teacher: str | None,
    out: Path | None,
    model_options: options.ModelOptions,
    teacher_options: options.TeacherOptions,
    *,
    json: bool,
) -> None:
    if teacher is None:
        raise UsageError("--asymmetric needs the model of the documents", hint="name it with --teacher REF")
    if out is None:
        raise UsageError("--asymmetric writes a new folder", hint="name it with --out DIR")
    require_new_folder(out, student, teacher, model_options.base, model_options.tokenizer)

    from distilcse_cli.serving.router_folder import export_router

    report = export_router(model_options.of(student), teacher_options.of(teacher), out)
    if json:
        return console.result_json(report)
    console.result(f"{out}: queries through {student}, documents through {teacher}, {report['width']} numbers each")
    return None
