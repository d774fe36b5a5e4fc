"""Run the teacher once over a corpus and keep its rows.

Rows are computed a window at a time. Several processes take a window each and write their rows side by side into
one file; when all are on the disk, the manifest counts them. The rows that count have no gap, so a run that is
killed at any point resumes after them, with any number of processes. A batch never reaches past its window. So
the file equals, to the byte, that of one process without interruption (same machine, same number of threads in
each process).
"""

import os
import shutil
from contextlib import ExitStack
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distilcse_cli import __version__, console
from distilcse_cli.config import EncodeSettings
from distilcse_cli.data import npy
from distilcse_cli.data.corpus import Corpus
from distilcse_cli.data.tokens import tokenizer_fingerprint
from distilcse_cli.errors import DataError
from distilcse_cli.files import atomic_path, fsync, write_json
from distilcse_cli.models.embed import NUMERICS, WINDOW_CHARS, WINDOW_ROWS, EmbeddedWindow, Embedder
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.rounds import embed_rounds
from distilcse_cli.ranks import ALONE, Ranks
from distilcse_cli.runtime import Runtime
from distilcse_cli.teacher.store import (
    EMBEDDINGS,
    FORMAT_VERSION,
    MANIFEST,
    PARTIAL_EMBEDDINGS,
    PARTIAL_MANIFEST,
    SENTENCES,
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
    wanted = _manifest(embedder, corpus, window_rows)
    with ExitStack() as held:
        manifest = ranks.on_main(lambda: _begin(held, out, wanted, corpus, wait=wait))
        if manifest is None:
            return open_store(out)
        first_row = manifest["rows_done"]
        if not ranks.decided(_all_rows_in_place(out, manifest)):
            _write_rows(out, manifest, embedder, corpus, ranks)
        ranks.on_main(lambda: _finish(out, manifest))
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
        _remove_leftovers(out)
    if is_complete(out):
        _check_complete(out, wanted)
        return None
    manifest = _resume(out, wanted) if (out / PARTIAL_MANIFEST).exists() else _start(out, wanted, corpus)
    if not _all_rows_in_place(out, manifest):
        if not (out / SENTENCES).exists():
            with atomic_path(out / SENTENCES) as temporary:
                shutil.copyfile(corpus.sentences_path, temporary)
        _cut_after_rows(out / PARTIAL_EMBEDDINGS, manifest)
    return manifest


def _manifest(embedder: Embedder, corpus: Corpus, window_rows: int) -> dict[str, Any]:
    encoder, runtime = embedder.encoder, embedder.runtime
    return {
        "format_version": FORMAT_VERSION,
        "num_rows": len(corpus),
        "rows_done": 0,
        "num_truncated": 0,
        "width": encoder.embedding_dim,
        "dtype": embedder.dtype,
        "normalized": embedder.normalize,
        "teacher": encoder.source,
        "pooling": encoder.pooling,
        "teacher_fingerprint": encoder.fingerprint,
        "tokenizer_fingerprint": tokenizer_fingerprint(encoder.tokenizer),
        "max_length": embedder.max_length,
        "corpus_fingerprint": corpus.fingerprint,
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


def _start(out: Path, wanted: dict[str, Any], corpus: Corpus) -> dict[str, Any]:
    for name in (EMBEDDINGS, PARTIAL_EMBEDDINGS, SENTENCES):
        if (out / name).exists():
            raise DataError(f"{out} has a {name} that is not of an embedding store", hint="choose another --out")
    if len(corpus) == 0:
        raise DataError(f"{corpus.folder} has no sentences", hint="name another --corpus")
    row_bytes = wanted["width"] * np.dtype(wanted["dtype"]).itemsize
    needed = len(corpus) * row_bytes + corpus.sentences_path.stat().st_size
    free = shutil.disk_usage(out).free
    if needed > free:
        raise DataError(
            f"{out} needs {needed / 1e6:,.1f} MB, the disk has {free / 1e6:,.1f} MB free",
            hint="make room, choose another --out, or --dtype float16",
        )
    write_json(out / PARTIAL_MANIFEST, wanted)
    return wanted


def _resume(out: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    manifest = read_manifest(out / PARTIAL_MANIFEST)
    require_same(out, manifest, _fields_of_rows(wanted) | {field: wanted[field] for field in _BATCHES})
    for field in _MACHINE:
        if manifest.get(field) != wanted[field]:
            console.warn(f"{field} was {manifest.get(field)}, now {wanted[field]}: last digits of rows may differ")
    console.log(f"{out}: resuming after row {manifest['rows_done']:,} of {manifest['num_rows']:,}")
    return manifest


def _all_rows_in_place(out: Path, manifest: dict[str, Any]) -> bool:
    """Whether a run was killed between the last two steps, with only the manifest still to write."""
    done = manifest["rows_done"] == manifest["num_rows"]
    return done and (out / EMBEDDINGS).exists() and not (out / PARTIAL_EMBEDDINGS).exists()


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
            _write(file, _position(manifest, first_row), window.embeddings)
            return window.num_truncated

        def count(sentences: list[str], num_truncated: int) -> None:
            manifest["rows_done"] += len(sentences)
            manifest["num_truncated"] += num_truncated
            write_json(out / PARTIAL_MANIFEST, manifest)
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


def _position(manifest: dict[str, Any], row: int) -> int:
    """Where in the array's file a row starts."""
    return npy.position(manifest["dtype"], (manifest["num_rows"], manifest["width"]), row)


def _cut_after_rows(path: Path, manifest: dict[str, Any]) -> None:
    """Make the unfinished array, or cut it after the last row that counts."""
    header = npy.header(manifest["dtype"], (manifest["num_rows"], manifest["width"]))
    end = _position(manifest, manifest["rows_done"])
    with path.open("r+b" if manifest["rows_done"] and path.exists() else "w+b", buffering=0) as file:
        if manifest["rows_done"] == 0:
            _write(file, 0, header)
        elif file.read(len(header)) != header or path.stat().st_size < end:
            raise DataError(f"{path} has lost rows that its manifest counts", hint=f"remove {path.parent}, start again")
        file.truncate(end)


def _write(file: FileIO, position: int, rows: bytes | np.ndarray) -> None:
    # not through a memory map, whose dirty pages would count as this process's memory
    rest = memoryview(rows if isinstance(rows, bytes) else rows.data).cast("B")
    try:
        while rest:
            num_written = os.pwrite(file.fileno(), rest, position)
            rest, position = rest[num_written:], position + num_written
        os.fsync(file.fileno())
    except OSError as error:
        raise DataError(
            f"cannot write {file.name}: {error.strerror}",
            hint="make room and run the same command again, finished rows are kept",
        ) from error


def _finish(out: Path, manifest: dict[str, Any]) -> None:
    if manifest["rows_done"] != manifest["num_rows"]:
        counts = f"{manifest['rows_done']:,} sentences, its manifest {manifest['num_rows']:,}"
        raise DataError(f"the corpus has {counts}", hint="remove it from the data home and run again")
    if (out / PARTIAL_EMBEDDINGS).exists():
        (out / PARTIAL_EMBEDDINGS).replace(out / EMBEDDINGS)
        fsync(out)
    write_json(out / MANIFEST, manifest)
    (out / PARTIAL_MANIFEST).unlink(missing_ok=True)


def _remove_leftovers(out: Path) -> None:
    """Remove the temporary files of a killed run; under the lock nothing else writes here."""
    for name in (SENTENCES, MANIFEST, PARTIAL_MANIFEST):
        for leftover in out.glob(f".{name}.tmp-*"):
            leftover.unlink()
