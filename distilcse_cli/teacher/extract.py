"""Run the teacher once over a corpus and keep its rows.

Rows are computed a window at a time. Several processes take a window each and write their rows side by side into
one file; when all are on the disk, the manifest counts them. The rows that count have no gap, so a run that is
killed at any point resumes after them, with any number of processes. A batch never reaches past its window. So
the file equals, to the byte, that of one process without interruption (same machine, same number of threads in
each process).
"""

from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from distilcse_cli import __version__, console
from distilcse_cli.config import EncodeSettings
from distilcse_cli.data.corpus import Corpus
from distilcse_cli.data.tokens import tokenizer_fingerprint
from distilcse_cli.models.batching import WINDOW_CHARS, WINDOW_ROWS
from distilcse_cli.models.embed import NUMERICS, EmbeddedWindow, Embedder
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.rounds import embed_rounds
from distilcse_cli.ranks import ALONE, Ranks
from distilcse_cli.runtime import Runtime
from distilcse_cli.teacher import partial
from distilcse_cli.teacher.store import (
    AS_BEFORE,
    FORMAT_VERSION,
    PARTIAL_EMBEDDINGS,
    PARTIAL_MANIFEST,
    EmbeddingStore,
    is_complete,
    locked,
    open_store,
    read_manifest,
    require_same,
)

_BATCHES = ("window_rows", "window_chars", "batch_tokens", "device")
"""Fields that decide which sentences share a batch, hence the last digits of a row."""
_MACHINE = ("num_threads", "torch_version", "numerics")
"""Fields that may change the last digits as well."""
_PROGRESS = ("rows_done", "num_truncated")


def extract(
    encoder: SentenceEncoder,
    corpus: Corpus,
    out: Path,
    settings: EncodeSettings,
    runtime: Runtime,
    *,
    window_rows: int = WINDOW_ROWS,
    ranks: Ranks = ALONE,
    wait: bool = False,
) -> EmbeddingStore:
    """Embed a corpus into the store `out`, or resume where an interrupted run stopped.

    A complete store of the same teacher, corpus and settings is opened and not made again. Batch size and
    device may differ then.

    Args:
        encoder: the teacher.
        corpus: its sentences become the rows, in this order.
        out: folder of the store, made if missing.
        settings: length limit, normalization, dtype of the rows, size of the batches.
        runtime: device and number format of the matrix products.
        window_rows: sentences that a process computes between two points at which a killed run can resume.
        ranks: processes that share the work; `out` must be on a file system that all of them see.
        wait: if another process writes the same store, wait for it and use its rows.

    Raises:
        DataError: `out` holds something else, is being written by another process, or cannot be written; the
            disk is too small or full (finished rows stay).
        ModelError: an embedding is not finite.
    """
    out = Path(out)
    embedder = Embedder(encoder, runtime, settings)
    wanted = manifest_of(embedder, len(corpus), corpus.fingerprint, window_rows=window_rows)
    with ExitStack() as held:
        manifest = ranks.on_main(lambda: _begin(held, out, wanted, corpus, wait=wait))
        if manifest is None:
            return open_store(out)
        first_row = manifest["rows_done"]
        if not ranks.decided(partial.all_rows_in_place(out, manifest)):
            _write_rows(out, manifest, embedder, corpus, ranks)
        ranks.on_main(lambda: partial.finish(out, manifest))
    store = open_store(out)
    num_truncated = store.manifest["num_truncated"]
    if num_truncated:
        limit = store.manifest["max_length"]
        console.warn(f"{num_truncated:,} of {len(store):,} sentences are longer than {limit} tokens and were cut")
    return EmbeddingStore(store.folder, store.embeddings, store.manifest, num_extracted=len(store) - first_row)


def _begin(held: ExitStack, out: Path, wanted: dict[str, Any], corpus: Corpus, *, wait: bool) -> dict[str, Any] | None:
    """Lock the folder and prepare the files that the processes write; the manifest so far, None if all is done."""
    if not is_complete(out):
        held.enter_context(locked(out, wait=wait))
        partial.remove_leftovers(out)
    if is_complete(out):
        _check_complete(out, wanted)
        return None
    manifest = _resume(out, wanted) if (out / PARTIAL_MANIFEST).exists() else partial.start(out, wanted, corpus)
    partial.prepare(out, manifest, corpus)
    return manifest


def manifest_of(
    embedder: Embedder, num_rows: int, corpus_fingerprint: str, *, window_rows: int = WINDOW_ROWS
) -> dict[str, Any]:
    """What decides the rows of a run, to the last digit, with none of them done."""
    encoder, runtime = embedder.encoder, embedder.runtime
    return {
        "format_version": FORMAT_VERSION,
        "num_rows": num_rows,
        "rows_done": 0,
        "num_truncated": 0,
        "width": embedder.width,
        "dtype": embedder.dtype,
        "normalized": embedder.normalize,
        "teacher": encoder.source,
        "pooling": encoder.pooling,
        "teacher_fingerprint": encoder.fingerprint,
        "tokenizer_fingerprint": tokenizer_fingerprint(encoder.tokenizer),
        "max_length": embedder.max_length,
        "corpus_fingerprint": corpus_fingerprint,
        "compute_dtype": runtime.dtype,
        "device": runtime.device_type,
        "batch_tokens": embedder.batch_tokens,
        "window_rows": window_rows,
        "window_chars": WINDOW_CHARS,
        "num_threads": torch.get_num_threads(),
        "torch_version": torch.__version__,
        "numerics": NUMERICS,
        "distilcse_version": __version__,
        **({"prompt": encoder.prompts.used} if encoder.prompts.used else {}),
    }


def _check_complete(out: Path, wanted: dict[str, Any]) -> None:
    store = open_store(out)
    require_same(out, store.manifest, _fields_of_rows(wanted))
    (out / PARTIAL_MANIFEST).unlink(missing_ok=True)
    console.log(f"{out} is complete already ({len(store):,} rows), nothing to do")


def _fields_of_rows(wanted: dict[str, Any]) -> dict[str, Any]:
    """The fields that decide what a row is, whatever batch it was computed in; `teacher` is only a name."""
    others = (*_BATCHES, *_MACHINE, *_PROGRESS, "teacher", "distilcse_version")
    return {field: value for field, value in wanted.items() if field not in others}


def _resume(out: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    manifest = read_manifest(out / PARTIAL_MANIFEST)
    require_same_run(out, manifest, wanted)
    console.log(f"{out}: resuming after row {manifest['rows_done']:,} of {manifest['num_rows']:,}")
    return manifest


def require_same_run(out: Path, manifest: dict[str, Any], wanted: dict[str, Any], *, hint: str = AS_BEFORE) -> None:
    """Check that an interrupted run can go on as the one that is `wanted`; say if last digits may differ.

    Raises:
        DataError: the first field that differs.
    """
    require_same(out, manifest, _fields_of_rows(wanted) | {field: wanted[field] for field in _BATCHES}, hint=hint)
    for field in _MACHINE:
        if manifest.get(field) != wanted[field]:
            console.warn(f"{field} was {manifest.get(field)}, now {wanted[field]}: last digits of rows may differ")


def _write_rows(
    out: Path,
    manifest: dict[str, Any],
    embedder: Embedder,
    corpus: Corpus,
    ranks: Ranks,
) -> None:
    """Compute and write the missing rows; rank 0 counts them in `manifest`, window by window."""
    done = manifest["rows_done"]
    with (
        (out / PARTIAL_EMBEDDINGS).open("r+b", buffering=0) as file,
        console.Progress("extract", manifest["num_rows"], "sentences", initial=done) as progress,
    ):

        def keep(window: EmbeddedWindow, first_row: int) -> int:
            partial.write(file, partial.position(manifest, first_row), window.embeddings)
            return window.num_truncated

        def count(sentences: list[str], num_truncated: int) -> None:
            partial.count(out, manifest, len(sentences), num_truncated=num_truncated)
            progress.update(len(sentences))

        embed_rounds(
            embedder,
            islice(corpus, done, None),
            ranks,
            keep=keep,
            collect=count,
            first_row=done,
            window_rows=manifest["window_rows"],
        )
