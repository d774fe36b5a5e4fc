"""The teacher's rows: computed once, or imported."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distilcse_cli import console
from distilcse_cli.config import CorpusSettings, EncodeSettings, MachineSettings
from distilcse_cli.errors import UsageError
from distilcse_cli.jobs.defaults import Given, corpus_or_default, default_out, short_name
from distilcse_cli.models.options import ModelOptions, Ref, many
from distilcse_cli.outputs import require_not_read, require_outside
from distilcse_cli.paths import folder_target
from distilcse_cli.setting import option_name, settings_of
from distilcse_cli.teacher.settings import EndpointSettings, ImportSettings

if TYPE_CHECKING:
    import numpy as np

    from distilcse_cli.teacher.store import EmbeddingStore


class _Rows:
    """A report of rows on disk. Shape letters: N rows, D width."""

    out: Path

    def __fspath__(self) -> str:
        return str(self.out)

    @property
    def embeddings(self) -> "np.ndarray":
        """(N, D) read-only memory map, row i of line i of `sentences.txt` in the folder.

        Raises:
            DataError: the store is gone or damaged.
        """
        from distilcse_cli.teacher.store import open_store

        return open_store(self.out).embeddings

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self) | {"out": str(self.out)}  # type: ignore[call-overload]


@dataclass(frozen=True, kw_only=True)
class ExtractReport(_Rows):
    """A store of a teacher's rows."""

    out: Path
    """Folder of the store."""
    num_rows: int
    width: int
    dtype: str
    num_truncated: int
    """Sentences that were cut to the model's limit."""
    num_extracted: int
    """Rows that were computed now; the others were there before."""
    seconds: float
    sentences_per_second: float
    of_server: dict[str, Any] | None = None
    """Of a server: `num_tokens`, and their `cost` if a price was given."""

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        facts = super().as_dict()
        return facts | (facts.pop("of_server") or {})


@dataclass(frozen=True, kw_only=True)
class ImportReport(_Rows):
    """A store of vectors that another program has computed."""

    out: Path
    """Folder of the store."""
    teacher: str
    """The name given to the model that made them."""
    num_rows: int
    width: int
    dtype: str
    normalized: bool
    num_read: int
    dropped: dict[str, int]
    """Reason -> texts dropped."""


def extract(
    *,
    teacher: Ref | None = None,
    corpus: Sequence[str] | None = None,
    out: Ref | None = None,
    model_options: ModelOptions,
    endpoint: EndpointSettings,
    corpus_settings: CorpusSettings,
    settings: EncodeSettings,
    machine: MachineSettings,
    given: Given,
    on_checked: Callable[[], None] = lambda: None,
) -> ExtractReport:
    """Run the teacher once over a corpus, and keep its embeddings. After an interruption, a new call continues.

    Args:
        teacher: The teacher: folder, catalogue name, hub id or file of weights; or name a server with `endpoint`.
        corpus: Text without labels. Default: News-5m if it is downloaded, else the sentences of news-articles.
        out: Folder for embeddings.npy, sentences.txt and manifest.json. Default: named after the teacher.

    Returns:
        The store's folder, its (N, D) `embeddings` and the numbers of the run.

    Raises:
        UsageError: A setting is out of range or does not apply.
        DataError: The corpus cannot be read, or `out` holds something else.
        ModelError: The teacher cannot be found or loaded, or gives numbers that are not finite.
        NetworkError: The server does not answer.
    """
    _require_fitting(given, teacher, endpoint)
    model = model_options.of(teacher or endpoint.model or "")
    inputs, corpus_settings = corpus_or_default(corpus, corpus_settings, given)
    folder = default_out(short_name(model), "embeddings") if out is None else Path(out)
    require_outside(folder / "embeddings.npy", teacher, model.base, model.tokenizer)
    if teacher is not None:
        on_checked()

    from distilcse_cli.data.corpus import open_corpus, prepare_corpus
    from distilcse_cli.ranks import joined, own_device
    from distilcse_cli.runtime import choose_runtime
    from distilcse_cli.teacher.extract import extract as run
    from distilcse_cli.teacher.remote import extract_remote

    if teacher is None:
        text, started = prepare_corpus(inputs, corpus_settings), time.perf_counter()
        normalize, prompt = settings.normalize is not False, model_options.prompt or ""
        store = extract_remote(text, folder, endpoint, dtype=settings.dtype, normalize=normalize, prompt=prompt)
        num_tokens = store.manifest["num_tokens"]
        counted = {"num_tokens": num_tokens, "cost": endpoint.cost(num_tokens)}
        return _report(folder, store, time.perf_counter() - started, counted)
    runtime = choose_runtime(own_device(machine.device), machine.compute_dtype)
    with joined(runtime, machine.rendezvous_timeout) as ranks:
        console.log(f"computing on {runtime}{ranks}")
        prepared = ranks.on_main(lambda: prepare_corpus(inputs, corpus_settings).folder)
        encoder = ranks.main_first(lambda: model.load(max_length=settings.max_length))
        started = time.perf_counter()
        store = run(encoder, open_corpus(prepared), folder, settings, runtime, ranks=ranks)
        return _report(folder, store, time.perf_counter() - started)


def _report(out: Path, store: "EmbeddingStore", seconds: float, counted: dict[str, Any] | None = None) -> ExtractReport:
    num_rows, width = store.embeddings.shape
    return ExtractReport(
        out=out,
        num_rows=num_rows,
        width=width,
        dtype=store.manifest["dtype"],
        num_truncated=store.manifest["num_truncated"],
        num_extracted=store.num_extracted,
        seconds=seconds,
        sentences_per_second=store.num_extracted / seconds,
        of_server=counted,
    )


def _require_fitting(given: Given, teacher: Ref | None, endpoint: EndpointSettings) -> None:
    """Check that a model or a server is named, and that no option is given that belongs to the other one.

    Raises:
        UsageError: none or both are named, or an option does not apply.
    """
    if (teacher is None) == (endpoint.endpoint is None):
        what = "no teacher is given" if teacher is None else "--teacher and --endpoint are both given"
        raise UsageError(what, hint="name a model with --teacher, or a server with --endpoint URL --model NAME")
    of_models = {
        **settings_of(ModelOptions),
        **settings_of(MachineSettings),
        **{
            name: setting
            for name, setting in settings_of(EncodeSettings).items()
            if name in ("max_length", "batch_tokens")
        },
    }
    del of_models["prompt"]
    for name, setting in (of_models if teacher is None else settings_of(EndpointSettings)).items():
        if name in given:
            where = "a server, --endpoint" if teacher is None else "a model, --teacher"
            raise UsageError(f"{option_name(name, setting)} does not apply to {where}", hint="leave it out")


def import_vectors(
    files: Ref | Sequence[Ref], *, settings: ImportSettings, out: Ref, overwrite: bool = False
) -> ImportReport:
    """Keep vectors of any model, such as a hosted one, as a store that a student can be distilled from.

    Args:
        files: Texts with their vectors: parquet, JSON or csv, or a hub data set id; or vectors.npy and texts.txt.
        out: Folder for the store; must not exist or be empty.
        overwrite: Replace the store in `out`.

    Returns:
        The store's folder, its (N, D) `embeddings`, and counts of the texts.

    Raises:
        UsageError: A setting is out of range, or a `.npy` file comes without its texts.
        DataError: An input cannot be read, or `out` is in the way.
        NetworkError: The hub does not answer.
    """
    folder, inputs = Path(out), [os.fspath(one) for one in many(files)]
    require_outside(folder / "embeddings.npy", *inputs)
    require_not_read(folder_target(folder), *inputs)

    from distilcse_cli.teacher.imported import import_vectors as run

    imported = run(inputs, folder, settings, overwrite=overwrite)
    num_rows, width = imported.store.embeddings.shape
    return ImportReport(
        out=folder,
        teacher=settings.name,
        num_rows=num_rows,
        width=width,
        dtype=settings.dtype,
        normalized=imported.store.manifest["normalized"],
        num_read=imported.report.num_read,
        dropped=imported.report.dropped,
    )
