"""Take a corpus' rows from a server, into a store: several requests at a time, resumable as `extract` is.

Answers are taken in the order of the sentences. What has arrived is written and counted every 1,024 rows, and when
the run stops for any reason, so that no answer that was paid for is asked for twice, but those still on their way.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager
from io import FileIO
from itertools import chain, islice
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from distilcse_cli import __version__, console
from distilcse_cli.data.corpus import Corpus
from distilcse_cli.errors import NetworkError
from distilcse_cli.files import sha256_file
from distilcse_cli.teacher import partial
from distilcse_cli.teacher.endpoint import Answer, EmbeddingServer
from distilcse_cli.teacher.settings import EndpointSettings
from distilcse_cli.teacher.store import (
    EMBEDDINGS,
    FORMAT_VERSION,
    PARTIAL_EMBEDDINGS,
    PARTIAL_MANIFEST,
    EmbeddingStore,
    is_complete,
    locked,
    open_store,
    read_manifest,
    require_same,
    vectors_fingerprint,
)

KEEP_ROWS = 1024
"""Rows between two points at which a killed run can resume."""

THREADS = "distilcse-requests"


def extract_remote(
    corpus: Corpus,
    out: Path,
    settings: EndpointSettings,
    *,
    dtype: str = "float32",
    normalize: bool = True,
    prompt: str = "",
) -> EmbeddingStore:
    """Ask a server for the rows of a corpus, or for those that are missing in `out`.

    Args:
        corpus: its sentences become the rows, in this order.
        out: folder of the store, made if missing.
        settings: the server, its model and how it is asked.
        dtype: number format of the rows.
        normalize: scale the rows to length 1, as not all servers do.
        prompt: text before every sentence.

    Raises:
        DataError: `out` holds something else, is being written by another process, or cannot be written.
        NetworkError: the server refuses, fails too often, or answers something else. Finished rows stay.
    """
    rows_of = _rows_of(corpus, settings, dtype, normalize, prompt)
    with ExitStack() as held:
        if not is_complete(out):
            held.enter_context(locked(out))
            partial.remove_leftovers(out)
        if is_complete(out):
            require_same(out, open_store(out).manifest, rows_of)
            console.log(f"{out} is complete already ({len(corpus):,} rows), nothing to do")
            return open_store(out)
        manifest = None
        if (out / PARTIAL_MANIFEST).exists():
            manifest = read_manifest(out / PARTIAL_MANIFEST)
            require_same(out, manifest, rows_of)
            console.log(f"{out}: resuming after row {manifest['rows_done']:,} of {len(corpus):,}")
        first_row = manifest["rows_done"] if manifest else 0
        server = held.enter_context(closing(EmbeddingServer(settings)))
        answers: Iterator[Answer] = held.enter_context(closing(_answers(server, corpus, first_row, settings, prompt)))
        if manifest is None:
            first = next(answers)
            width = first.rows.shape[1]
            if settings.dimensions not in (None, width):
                message = f"{server.name} was asked for {settings.dimensions:,} numbers a row, but sends {width:,}"
                raise NetworkError(message, hint="leave --dimensions out")
            manifest = partial.start(out, _manifest(rows_of, width, settings), corpus)
            answers = chain([first], answers)
        partial.prepare(out, manifest, corpus)
        if not partial.all_rows_in_place(out, manifest):
            _write_answers(out, manifest, answers, server)
        is_named = partial.all_rows_in_place(out, manifest)
        manifest["rows_sha256"] = sha256_file(out / (EMBEDDINGS if is_named else PARTIAL_EMBEDDINGS))
        partial.finish(out, manifest)
    store = open_store(out)
    return EmbeddingStore(store.folder, store.embeddings, store.manifest, num_extracted=len(store) - first_row)


def _rows_of(corpus: Corpus, settings: EndpointSettings, dtype: str, normalize: bool, prompt: str) -> dict[str, Any]:
    """The fields of the manifest that decide what the rows are."""
    return {
        "origin": "endpoint",
        "teacher": settings.model,
        "dimensions": settings.dimensions,
        "terms": settings.terms,
        "num_rows": len(corpus),
        "dtype": dtype,
        "normalized": normalize,
        "corpus_fingerprint": corpus.fingerprint,
        **({"prompt": prompt} if prompt else {}),
    }


def _manifest(rows_of: dict[str, Any], width: int, settings: EndpointSettings) -> dict[str, Any]:
    progress = {"rows_done": 0, "num_truncated": 0, "num_tokens": 0}
    return {
        "format_version": FORMAT_VERSION,
        **progress,
        "width": width,
        **rows_of,
        "teacher_fingerprint": vectors_fingerprint(settings.model or "", width),
        "endpoint": settings.url,
        "distilcse_version": __version__,
    }


def _write_answers(out: Path, manifest: dict[str, Any], answers: Iterator[Answer], server: EmbeddingServer) -> None:
    """Write the rows as they come, and count them in `manifest`."""
    done, waiting = manifest["rows_done"], _Waiting(out, manifest)
    with (
        (out / PARTIAL_EMBEDDINGS).open("r+b", buffering=0) as file,
        console.Progress("extract", manifest["num_rows"], "sentences", initial=done) as progress,
    ):
        try:
            for answer in answers:
                width = answer.rows.shape[1]
                if width != manifest["width"]:
                    raise NetworkError(
                        f"{server.name} sends rows of {width:,} numbers, but before it sent {manifest['width']:,}",
                        hint="is it still the same model? finished rows are kept",
                    )
                waiting.add(answer, file)
                tokens = waiting.num_tokens
                progress.update(len(answer.rows), "" if tokens is None else f"{tokens:,} tokens")
        finally:
            waiting.write(file)


class _Waiting:
    """Answers that are not on the disk yet."""

    def __init__(self, out: Path, manifest: dict[str, Any]) -> None:
        self._out, self._manifest = out, manifest
        self._answers: list[Answer] = []

    @property
    def num_tokens(self) -> int | None:
        """Tokens of all answers so far; None if the server does not count them."""
        counts = [self._manifest["num_tokens"], *(answer.num_tokens for answer in self._answers)]
        return None if None in counts else sum(counts)

    def add(self, answer: Answer, file: FileIO) -> None:
        self._answers.append(answer)
        if sum(len(one.rows) for one in self._answers) >= KEEP_ROWS:
            self.write(file)

    def write(self, file: FileIO) -> None:
        """Write and count what is waiting."""
        if not self._answers:
            return
        rows, num_tokens = np.concatenate([answer.rows for answer in self._answers]), self.num_tokens
        self._answers = []
        manifest = self._manifest
        if manifest["normalized"]:
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        with np.errstate(over="ignore"):
            stored = rows.astype(manifest["dtype"])
        if not np.isfinite(stored).all():
            raise NetworkError(f"the server sends numbers too large for {manifest['dtype']}", hint="--dtype float32")
        partial.write(file, partial.position(manifest, manifest["rows_done"]), stored)
        manifest["num_tokens"] = num_tokens
        partial.count(self._out, manifest, len(rows))


def _answers(
    server: EmbeddingServer, corpus: Corpus, done: int, settings: EndpointSettings, prompt: str
) -> Generator[Answer, None, None]:
    """Yield the answers to all sentences from row `done` on, in order, with several requests on their way."""
    sentences = islice(corpus, done, None)
    pending: deque[Future[Answer]] = deque()
    with _threads(server.embed, settings.concurrency) as submit:
        while batch := [prompt + sentence for sentence in islice(sentences, settings.request_size)]:
            pending.append(submit(batch, done))
            done += len(batch)
            if len(pending) >= 2 * settings.concurrency:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


@contextmanager
def _threads(work: Callable[..., Any], number: int) -> Iterator[Callable[..., Future[Any]]]:
    """Yield a function that has `work` called in one of some threads.

    After a failure, no further work is begun. They are daemons: those of an executor would keep a stopped program alive
    until their last retry.
    """
    has_ended = threading.Event()
    jobs: SimpleQueue[tuple[Future[Any], tuple[Any, ...]] | None] = SimpleQueue()

    def run() -> None:
        while (job := jobs.get()) is not None:
            future, arguments = job
            if has_ended.is_set():
                future.cancel()
                continue
            try:
                future.set_result(work(*arguments))
            except BaseException as error:
                has_ended.set()
                future.set_exception(error)

    def submit(*arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        jobs.put((future, arguments))
        return future

    for _ in range(number):
        threading.Thread(target=run, name=THREADS, daemon=True).start()
    try:
        yield submit
    finally:
        has_ended.set()
        for _ in range(number):
            jobs.put(None)
