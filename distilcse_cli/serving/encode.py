"""Embed a text file in bounded memory: row i is line i, always."""

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distilcse_cli import console
from distilcse_cli.config import EncodeSettings, TextSettings
from distilcse_cli.data.every_line import lines
from distilcse_cli.errors import DataError
from distilcse_cli.files import MAKE_ROOM, atomic_path
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.rounds import embed_rounds
from distilcse_cli.ranks import ALONE, Ranks
from distilcse_cli.runtime import Runtime
from distilcse_cli.serving.formats import open_rows


@dataclass(frozen=True)
class EncodeReport:
    """What `encode_file` wrote."""

    num_rows: int
    width: int
    dtype: str
    num_truncated: int
    """Lines that had more than `max_length` tokens and were cut."""
    max_length: int

    def as_dict(self) -> dict[str, Any]:
        """Field names and values, for JSON."""
        return asdict(self)


def encode_file(
    source: Path,
    encoder: SentenceEncoder,
    out: Path,
    settings: EncodeSettings,
    runtime: Runtime,
    *,
    text: TextSettings | None = None,
    ranks: Ranks = ALONE,
) -> EncodeReport:
    """Embed every line of `source`, blank ones included, into `out`.

    Args:
        source: as `lines` reads it.
        encoder: any model.
        out: `.npy`, `.npz`, `.jsonl` or `.parquet`; it appears when it is complete.
        settings: length limit, normalization, dtype of the rows, size of the batches.
        runtime: device and number format of the matrix products.
        text: column and encoding of `source`.
        ranks: processes that share the lines; all read `source`, which must be a file; rank 0 writes.

    Raises:
        UsageError: `out` has another suffix.
        DataError: `source` cannot be read, is empty, or has a line that is not UTF-8 (its number is named);
            or `out` cannot be written.
        ModelError: an embedding is not finite.
    """
    embedder = Embedder(encoder, runtime, settings)
    output = _Output(source, out, encoder.embedding_dim, settings.dtype)
    with ExitStack() as opened:
        ranks.on_main(lambda: output.open(opened))
        embed_rounds(
            embedder,
            lines(source, text),
            ranks,
            keep=lambda window, _: (window.embeddings, window.num_truncated),
            collect=output.add,
        )
        num_rows, num_truncated = ranks.on_main(output.counts)
    return EncodeReport(
        num_rows=num_rows,
        width=encoder.embedding_dim,
        dtype=settings.dtype,
        num_truncated=num_truncated,
        max_length=embedder.max_length,
    )


class _Output:
    """The file that rank 0 writes, with its counts of rows and of cut lines."""

    def __init__(self, source: Path, out: Path, width: int, dtype: str) -> None:
        self._source, self._out, self._width, self._dtype = source, out, width, dtype
        self._num_rows = self._num_truncated = 0

    def open(self, opened: ExitStack) -> None:
        self._progress = opened.enter_context(console.Progress("encode", None, "sentences"))
        temporary = opened.enter_context(atomic_path(self._out))
        self._rows = opened.enter_context(open_rows(temporary, self._width, self._dtype))

    def add(self, sentences: list[str], kept: tuple[np.ndarray, int]) -> None:
        embeddings, num_truncated = kept
        try:
            self._rows.append(sentences, embeddings)
        except OSError as error:
            raise DataError(f"cannot write {self._out}: {error.strerror or error}", hint=MAKE_ROOM) from error
        self._num_rows += len(sentences)
        self._num_truncated += num_truncated
        self._progress.update(len(sentences))

    def counts(self) -> tuple[int, int]:
        if self._num_rows == 0:
            raise DataError(f"{self._source} has no lines", hint="a sentence a line is needed")
        return self._num_rows, self._num_truncated
