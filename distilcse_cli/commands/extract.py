"""`distilcse extract`: the teacher's embeddings of a corpus, computed once."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import defaults, options
from distilcse_cli.commands.outputs import require_outside
from distilcse_cli.commands.settings_file import Config
from distilcse_cli.config import CorpusSettings, EncodeSettings, MachineSettings
from distilcse_cli.launcher import launch
from distilcse_cli.setting import OUTPUT

EXAMPLES = """
distilcse extract --teacher all-minilm-l6 --corpus sentences.txt --out rows
distilcse distill --teacher all-minilm-l6 --student REF --corpus sentences.txt --embeddings rows
"""


@options.with_settings
def extract(
    *,
    context: typer.Context,
    teacher: options.Teacher,
    model_options: options.ModelOptions,
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
    model = model_options.of(teacher)
    inputs, corpus_settings = defaults.corpus_or_default(context, corpus, corpus_settings)
    out = out or defaults.default_out(defaults.short_name(model), "embeddings")
    require_outside(out / "embeddings.npy", teacher, model.base, model.tokenizer)
    if launch(machine.nproc, sys.argv[1:], machine.device):
        return

    from distilcse_cli.data.corpus import open_corpus, prepare_corpus
    from distilcse_cli.ranks import joined, own_device
    from distilcse_cli.runtime import choose_runtime
    from distilcse_cli.teacher.extract import extract as run

    runtime = choose_runtime(own_device(machine.device), machine.compute_dtype)
    with joined(runtime, machine.rendezvous_timeout) as ranks:
        console.log(f"computing on {runtime}{ranks}")
        prepared = ranks.on_main(lambda: prepare_corpus(inputs, corpus_settings).folder)
        encoder = ranks.main_first(lambda: model.load(max_length=settings.max_length))
        started = time.perf_counter()
        store = run(encoder, open_corpus(prepared), out, settings, runtime, ranks=ranks)
        seconds = time.perf_counter() - started

    num_rows, width = store.embeddings.shape
    report = {
        "out": str(out),
        "num_rows": num_rows,
        "width": width,
        "dtype": settings.dtype,
        "num_truncated": store.manifest["num_truncated"],
        "num_extracted": store.num_extracted,
        "seconds": seconds,
        "sentences_per_second": store.num_extracted / seconds,
    }
    if json:
        console.result_json(report)
        return
    console.result(
        f"{out}: {num_rows:,} rows of {width} {settings.dtype}; {store.num_extracted:,} of them computed now"
        f" in {console.duration(seconds)} ({report['sentences_per_second']:,.0f} sentences/s)"
    )
