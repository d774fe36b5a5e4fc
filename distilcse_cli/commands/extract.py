"""`distilcse extract`: the teacher's embeddings of a corpus, computed once."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distilcse_cli import console
from distilcse_cli.commands import defaults, options
from distilcse_cli.commands.outputs import require_outside
from distilcse_cli.commands.settings_file import Config
from distilcse_cli.config import CorpusSettings, EncodeSettings, MachineSettings
from distilcse_cli.errors import UsageError
from distilcse_cli.launcher import launch
from distilcse_cli.setting import MODELS, OUTPUT, option_name, settings_of
from distilcse_cli.teacher.settings import EndpointSettings

if TYPE_CHECKING:
    from distilcse_cli.teacher.store import EmbeddingStore

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
    _require_fitting(context, teacher, endpoint)
    model = model_options.of(teacher or endpoint.model or "")
    inputs, corpus_settings = defaults.corpus_or_default(context, corpus, corpus_settings)
    out = out or defaults.default_out(defaults.short_name(model), "embeddings")
    require_outside(out / "embeddings.npy", teacher, model.base, model.tokenizer)
    if teacher is not None and launch(machine.nproc, sys.argv[1:], machine.device):
        return

    from distilcse_cli.data.corpus import open_corpus, prepare_corpus
    from distilcse_cli.ranks import joined, own_device
    from distilcse_cli.runtime import choose_runtime
    from distilcse_cli.teacher.extract import extract as run
    from distilcse_cli.teacher.remote import extract_remote

    if teacher is None:
        text, started = prepare_corpus(inputs, corpus_settings), time.perf_counter()
        normalize, prompt = settings.normalize is not False, model_options.prompt or ""
        store = extract_remote(text, out, endpoint, dtype=settings.dtype, normalize=normalize, prompt=prompt)
        num_tokens = store.manifest["num_tokens"]
        counted = {"num_tokens": num_tokens, "cost": endpoint.cost(num_tokens)}
        _print(out, store, time.perf_counter() - started, counted, json=json)
        return
    runtime = choose_runtime(own_device(machine.device), machine.compute_dtype)
    with joined(runtime, machine.rendezvous_timeout) as ranks:
        console.log(f"computing on {runtime}{ranks}")
        prepared = ranks.on_main(lambda: prepare_corpus(inputs, corpus_settings).folder)
        encoder = ranks.main_first(lambda: model.load(max_length=settings.max_length))
        started = time.perf_counter()
        store = run(encoder, open_corpus(prepared), out, settings, runtime, ranks=ranks)
        seconds = time.perf_counter() - started
    _print(out, store, seconds, {}, json=json)


def _require_fitting(context: typer.Context, teacher: str | None, endpoint: EndpointSettings) -> None:
    """Check that a model or a server is named, and that no option is given that belongs to the other one.

    Raises:
        UsageError: none or both are named, or an option does not apply.
    """
    if (teacher is None) == (endpoint.endpoint is None):
        what = "no teacher is given" if teacher is None else "--teacher and --endpoint are both given"
        raise UsageError(what, hint="name a model with --teacher, or a server with --endpoint URL --model NAME")
    of_models = {
        **settings_of(options.ModelOptions),
        **settings_of(MachineSettings),
        **{
            name: setting
            for name, setting in settings_of(EncodeSettings).items()
            if name in ("max_length", "batch_tokens")
        },
    }
    del of_models["prompt"]
    for name, setting in (of_models if teacher is None else settings_of(EndpointSettings)).items():
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            where = "a server, --endpoint" if teacher is None else "a model, --teacher"
            raise UsageError(f"{option_name(name, setting)} does not apply to {where}", hint="leave it out")


def _print(out: Path, store: "EmbeddingStore", seconds: float, more: dict[str, Any], *, json: bool) -> None:
    num_rows, width = store.embeddings.shape
    report = {
        "out": str(out),
        "num_rows": num_rows,
        "width": width,
        "dtype": store.manifest["dtype"],
        "num_truncated": store.manifest["num_truncated"],
        "num_extracted": store.num_extracted,
        "seconds": seconds,
        "sentences_per_second": store.num_extracted / seconds,
        **more,
    }
    if json:
        console.result_json(report)
        return
    tokens, cost = more.get("num_tokens"), more.get("cost")
    counted = (
        "" if tokens is None else f"; {tokens:,} tokens{'' if cost is None else f', {cost:,.2f} at the given price'}"
    )
    console.result(
        f"{out}: {num_rows:,} rows of {width} {report['dtype']}; {store.num_extracted:,} of them computed now"
        f" in {console.duration(seconds)} ({report['sentences_per_second']:,.0f} sentences/s){counted}"
    )
