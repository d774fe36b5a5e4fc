"""`distilcse import`: vectors that another program has computed, as a teacher's embeddings."""

from pathlib import Path
from typing import Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import options
from distilcse_cli.commands.settings_file import Config
from distilcse_cli.jobs import teacher as jobs
from distilcse_cli.setting import KEEPING, OUTPUT
from distilcse_cli.teacher.settings import ImportSettings

EXAMPLES = """
distilcse import vectors.parquet --text-column text --name openai/text-embedding-3-small --out store
distilcse import vectors.npy texts.txt --name my-model --out store
distilcse distill --embeddings store --student all-minilm-l6 --out student
"""


@options.with_settings
def import_vectors(
    *,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="Texts with their vectors: parquet, JSON or csv, or a hub data set id; or vectors.npy and texts.txt.",
        ),
    ],
    settings: ImportSettings,
    config: Config = None,  # noqa: ARG001  its callback does the work
    out: Annotated[
        Path, typer.Option(rich_help_panel=OUTPUT, help="Folder for the store; must not exist or be empty.")
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", rich_help_panel=KEEPING, help="Replace the store in OUT.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Keep vectors of any model, such as a hosted one, as a store that a student can be distilled from."""
    report = jobs.import_vectors(files, settings=settings, out=out, overwrite=overwrite)
    if json:
        console.result_json(report.as_dict())
    else:
        console.result(f"{out}: {report.num_rows:,} rows of {report.width} {report.dtype}, vectors of {report.teacher}")
