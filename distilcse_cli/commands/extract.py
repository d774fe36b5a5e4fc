"""`distilcse extract`: the teacher's embeddings of a corpus, computed once."""

from pathlib import Path
from typing import Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import options
from distilcse_cli.commands.defaults import given, in_processes
from distilcse_cli.commands.settings_file import Config
from distilcse_cli.config import CorpusSettings, EncodeSettings, MachineSettings
from distilcse_cli.jobs import teacher as jobs
from distilcse_cli.setting import MODELS, OUTPUT
from distilcse_cli.teacher.settings import EndpointSettings

EXAMPLES = """
distilcse extract --teacher all-minilm-l6 --corpus sentences.txt --out rows
distilcse distill --teacher all-minilm-l6 --student REF --corpus sentences.txt --embeddings rows
distilcse extract --endpoint http://localhost:8080/v1 --model NAME --corpus sentences.txt --out rows
"""


Teacher = Annotated[
    str | None,
    typer.Option(
        metavar="REF",
        rich_help_panel=MODELS,
        help="The teacher: folder, catalogue name, hub id or file of weights; or name a server with --endpoint.",
    ),
]


@options.with_settings
def extract(
    *,
    context: typer.Context,
    teacher: Teacher = None,
    model_options: options.ModelOptions,
    endpoint: EndpointSettings,
    corpus: options.Corpus = None,
    corpus_settings: CorpusSettings,
    config: Config = None,  # noqa: ARG001  its callback does the work
    machine: MachineSettings,
    out: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=OUTPUT,
            help="Folder for embeddings.npy, sentences.txt and manifest.json. Default: named after the teacher.",
        ),
    ] = None,
    settings: EncodeSettings,
    json: options.Json = False,
) -> None:
    """Run the teacher once over a corpus and keep its embeddings. After an interruption, run it again to continue."""
    report = jobs.extract(
        teacher=teacher,
        corpus=corpus,
        out=out,
        model_options=model_options,
        endpoint=endpoint,
        corpus_settings=corpus_settings,
        settings=settings,
        machine=machine,
        given=given(context),
        on_checked=in_processes(machine),
    )
    if json:
        console.result_json(report.as_dict())
        return
    counted = ""
    if report.of_server is not None:
        tokens, cost = report.of_server["num_tokens"], report.of_server["cost"]
        price = "" if cost is None else f", {cost:,.2f} at the given price"
        counted = "" if tokens is None else f"; {tokens:,} tokens{price}"
    console.result(
        f"{report.out}: {report.num_rows:,} rows of {report.width} {report.dtype}; {report.num_extracted:,} of them"
        f" computed now in {console.duration(report.seconds)} ({report.sentences_per_second:,.0f} sentences/s){counted}"
    )
