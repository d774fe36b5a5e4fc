"""`distilcse index`: a FAISS index of stored rows and their sentences."""

import os
from pathlib import Path
from typing import Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import options
from distilcse_cli.commands.outputs import require_file, require_free, require_outside, require_utf8
from distilcse_cli.commands.settings_file import Config
from distilcse_cli.config import TextSettings
from distilcse_cli.errors import DataError, UsageError
from distilcse_cli.serving.settings import IndexSettings
from distilcse_cli.setting import DATA, KEEPING, MODELS, OUTPUT

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
    require_utf8(out)
    if not overwrite:
        require_free(out)
    require_outside(out, source, sentences, model)
    if not os.path.lexists(source):
        raise DataError(f"{source} does not exist", hint="name a store of distilcse extract, or a .npy file")
    is_array = not source.is_dir()
    if is_array and (sentences is None or model is None):
        missing = "--sentences FILE" if sentences is None else "--model REF"
        raise UsageError(f"{source} holds numbers alone", hint=f"name what was encoded, and by what: {missing}")
    if not is_array and (sentences is not None or model is not None):
        option = "--model" if sentences is None else "--sentences"
        raise UsageError(f"{option} does not go with {source}, a store, which knows its own", hint="leave it out")

    from distilcse_cli.serving.index import build_index
    from distilcse_cli.serving.index_folder import require_faiss
    from distilcse_cli.serving.index_rows import rows_of_array, rows_of_store

    require_faiss()  # before a model is loaded
    if sentences is not None and model is not None:
        from distilcse_cli.runtime import choose_runtime

        require_file(sentences)
        rows = rows_of_array(source, sentences, model_options.of(model), choose_runtime("cpu"), text=text)
    else:
        rows = rows_of_store(source)
    report = build_index(rows, out, settings, overwrite=overwrite)
    if json:
        console.result_json(report.as_dict())
        return
    lists = "" if report.nprobe == 1 else f", nprobe {report.nprobe}"
    console.result(
        f"{out}: {report.num_rows:,} rows of {report.width} numbers in the space of {rows.space},"
        f" {report.factory}{lists}, recall@10 {report.recall_at_10:.4f}, {report.num_bytes / 1e6:,.1f} MB"
    )
