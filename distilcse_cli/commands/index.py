"""`distilcse index`: a FAISS index of stored rows and their sentences."""

from pathlib import Path
from typing import Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import options
from distilcse_cli.commands.settings_file import Config
from distilcse_cli.config import TextSettings
from distilcse_cli.jobs import serve
from distilcse_cli.serving.settings import IndexSettings
from distilcse_cli.setting import DATA, KEEPING, MODELS, OUTPUT
from distilcse_cli.teacher.space import Space

EXAMPLES = """
distilcse index rows --out index
distilcse index rows.npy --sentences sentences.txt --model student --out index
"""
Source = Annotated[Path, typer.Argument(metavar="ROWS", help="An embedding store, or a .npy file of distilcse encode.")]
Out = Annotated[Path, typer.Option(rich_help_panel=OUTPUT, help="Folder for the index.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", rich_help_panel=KEEPING, help="Replace the index in OUT.")]
Sentences = Annotated[
    Path | None,
    typer.Option(rich_help_panel=DATA, metavar="FILE", help="For a .npy file: the text that was encoded."),
]
Model = Annotated[
    str | None, typer.Option(rich_help_panel=MODELS, metavar="REF", help="For a .npy file: the model that encoded it.")
]


@options.with_settings
def index(
    *,
    source: Source,
    out: Out,
    sentences: Sentences = None,
    text: TextSettings,
    model: Model = None,
    model_options: options.ModelOptions,
    settings: IndexSettings,
    overwrite: Overwrite = False,
    config: Config = None,  # noqa: ARG001  its callback does the work
    json: options.Json = False,
) -> None:
    """Make a FAISS index of rows, which distilcse search searches. It names the model whose space the rows live in."""
    report = serve.index(
        source,
        out=out,
        sentences=sentences,
        model=model,
        text=text,
        model_options=model_options,
        settings=settings,
        overwrite=overwrite,
    )
    if json:
        console.result_json(report.as_dict())
        return
    lists = "" if report.nprobe == 1 else f", nprobe {report.nprobe}"
    console.result(
        f"{out}: {report.num_rows:,} rows of {report.width} numbers in the space of {Space(**report.space)},"
        f" {report.factory}{lists}, recall@10 {report.recall_at_10:.4f}, {report.num_bytes / 1e6:,.1f} MB"
    )
