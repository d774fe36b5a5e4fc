"""Jobs at a number of sentences, each in a process of its own so that its memory is its own."""

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peer import memory_now
from benchmarks.training_sides import OursDistill
from distilcse_cli.config import EncodeSettings
from distilcse_cli.data.corpus import open_corpus
from distilcse_cli.models.embed import EmbeddedWindow, Embedder
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.runtime import choose_runtime
from distilcse_cli.teacher.extract import extract

SAMPLE_SECONDS = 0.5


class MemorySamples:
    """The most memory of each kind within a block, looked at every half second."""

    def __enter__(self) -> "MemorySamples":
        self.most = memory_now()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            now = memory_now()
            self.most = {kind: max(most, now[kind]) for kind, most in self.most.items()}


class Extract:
    """`extract` of a corpus into a folder that is then removed.

    Args:
        model: reference.
        corpus: folder of a prepared corpus.
    """

    def __init__(self, *, model: str, corpus: str) -> None:
        self.encoder, self.corpus, self.runtime = load_encoder(model), open_corpus(Path(corpus)), choose_runtime()
        _ = self.encoder.fingerprint
        _warm_up(self)
        self.facts = {"dtype": str(self.runtime), "num_sentences": len(self.corpus)}

    def run(self) -> dict[str, Any]:
        """Extract all of it."""
        out = Path(tempfile.mkdtemp(prefix="extract-"))
        try:
            with MemorySamples() as memory:
                started = time.perf_counter()
                extract(self.encoder, self.corpus, out, EncodeSettings(), self.runtime)
                seconds = time.perf_counter() - started
        finally:
            shutil.rmtree(out)
        return {"num": len(self.corpus), "seconds": seconds} | memory.most


class Encode(Extract):
    """Our raw encode rate: the windows of the same corpus, embedded and thrown away."""

    def run(self) -> dict[str, Any]:
        """Embed all of it."""
        with MemorySamples() as memory:
            started = time.perf_counter()
            for _ in Embedder(self.encoder, self.runtime).stream(self.corpus):
                pass
            seconds = time.perf_counter() - started
        return {"num": len(self.corpus), "seconds": seconds} | memory.most


class EncodeSlices(Extract):
    """Our raw encode rate: each round takes the next windows of the corpus; behind the last the first come again."""

    NUM_WINDOWS = 8

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._windows = self._all_windows()

    def _all_windows(self) -> Iterator[EmbeddedWindow]:
        while True:
            yield from Embedder(self.encoder, self.runtime).stream(self.corpus)

    def run(self) -> dict[str, Any]:
        """Embed a slice."""
        with MemorySamples() as memory:
            started = time.perf_counter()
            num = sum(len(window.sentences) for window in islice(self._windows, self.NUM_WINDOWS))
            seconds = time.perf_counter() - started
        return {"num": num, "seconds": seconds} | memory.most


class Train(OursDistill):
    """Steps of stage 1 on a corpus of some size; its teacher rows are random numbers, which costs the same.

    Tokens are counted: batches are each of one length, so a slice's sentences may be a fifth longer than another's.
    """

    counts = "num_tokens"

    def __init__(self, *, corpus: str, width: int, rows: str, **settings: Any) -> None:
        num = len(open_corpus(Path(corpus)))
        made = np.lib.format.open_memmap(rows, mode="w+", dtype=np.float32, shape=(num, width))
        generator = np.random.default_rng(0)
        for start in range(0, num, 8192):
            part = made[start : start + 8192]
            part[:] = generator.standard_normal(part.shape, dtype=np.float32)
        made.flush()
        del made
        super().__init__(rows=rows, **settings)

    def run(self) -> dict[str, Any]:
        """Train a slice."""
        with MemorySamples() as memory:
            figures = super().run()
        return figures | memory.most


def _warm_up(side: Extract) -> None:
    sentences = side.corpus.take(np.arange(min(len(side.corpus), 8192)))
    for _ in Embedder(side.encoder, side.runtime).stream(sentences):
        pass
