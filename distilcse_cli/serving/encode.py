"""Embed text files in bounded memory: row i is line i, always."""

import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distilcse_cli import console
from distilcse_cli.config import EncodeSettings, TextSettings
from distilcse_cli.data.every_line import Lines, Row
from distilcse_cli.errors import DataError
from distilcse_cli.files import MAKE_ROOM, atomic_path
from distilcse_cli.models.embed import EmbeddedWindow, Embedder
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.rounds import embed_rounds
from distilcse_cli.ranks import ALONE, Ranks
from distilcse_cli.runtime import Runtime
from distilcse_cli.serving.columns import output_cells, output_columns
from distilcse_cli.serving.formats import Columns, open_rows, state_folder
from distilcse_cli.serving.lengths import Lengths
from distilcse_cli.serving.settings import OutputSettings
from distilcse_cli.serving.survey import no_lines, survey

if TYPE_CHECKING:
    from distilcse_cli.serving.parts import Parts

Kept = tuple[np.ndarray, np.ndarray]
"""What a process keeps of a window: embeddings, and tokens of each line."""
GO_ON = "--resume continues it, --overwrite starts again"
FIRST_RECORD = "00000.json"


class EncodeReport:
    """What `encode_file` wrote."""

    def __init__(self, embedder: Embedder, lengths: Lengths, num_encoded: int, files: tuple[Path, ...]) -> None:
        self.lengths, self.num_encoded, self.files = lengths, num_encoded, files
        self.num_rows, self.width, self.dtype = lengths.num_lines, embedder.width, embedder.dtype
        self.num_truncated, self.max_length = lengths.num_truncated, lengths.max_length

    def as_dict(self) -> dict[str, Any]:
        """Names and values, for JSON."""
        plain = {name: getattr(self, name) for name in ("num_rows", "width", "dtype", "num_truncated", "max_length")}
        files = [str(file) for file in self.files]
        return {**plain, "num_encoded": self.num_encoded, "files": files, **self.lengths.as_dict()}


def encode_file(
    source: Path | Lines,
    encoder: SentenceEncoder,
    out: Path,
    settings: EncodeSettings,
    runtime: Runtime,
    *,
    text: TextSettings | None = None,
    output: OutputSettings | None = None,
    overwrite: bool = False,
    ranks: Ranks = ALONE,
) -> EncodeReport:
    """Embed every line of `source`, blank ones included, into `out`.

    Args:
        source: one input as `lines` reads it, or several.
        encoder: any model.
        out: `.npy`, `.npz`, `.jsonl` or `.parquet`; it appears when it is complete. In parts, each file does.
        settings: length limit, normalization, dtype of the rows, size of the batches.
        runtime: device and number format of the matrix products.
        text: column and encoding of `source`, if it is a path.
        output: which files, and whether to go on; a part of that needs inputs that can be read twice.
        overwrite: start an unfinished output anew; replace one in parts.
        ranks: processes that share the lines; all read `source`, which must be a file; rank 0 writes.

    Raises:
        UsageError: `out` has another suffix; rows have fewer numbers than they are cut to; there are more jobs
            than files.
        DataError: `source` cannot be read, is empty, or has a line that is not UTF-8 (its number is named), or one
            that must not be cut; `out` cannot be written, is unfinished, or of another run.
        ModelError: an embedding is not finite.
    """
    inputs = source if isinstance(source, Lines) else Lines(sources=(source,), text=text or TextSettings())
    output = output or OutputSettings()
    embedder = Embedder(encoder, runtime, settings, truncate_dim=output.truncate_dim)
    columns = ranks.on_main(lambda: output_columns(inputs, out))
    beside = Beside(columns if ranks.is_main else {})
    surveyed = None
    if output.reads_twice:
        surveyed = ranks.on_main(lambda: survey(inputs, embedder, fail_on_truncate=output.fail_on_truncate))
    if surveyed and output.keeps:
        from distilcse_cli.serving.parts import Parts

        parts = Parts(inputs, out, embedder, beside, output)
        return _keeping(parts, inputs, embedder, beside, ranks, lambda held: parts.begin(held, surveyed, overwrite))
    single = _Output(inputs, out, embedder, beside)
    with ExitStack() as opened:
        ranks.on_main(lambda: single.open(opened, overwrite))
        embed_rounds(embedder, beside.sentences(inputs.rows()), ranks, keep=_kept, collect=single.add)
        lengths = ranks.on_main(single.counted)
    return EncodeReport(embedder, lengths, lengths.num_lines, (out,))


def _keeping(
    parts: "Parts",
    inputs: Lines,
    embedder: Embedder,
    beside: "Beside",
    ranks: Ranks,
    begin: Callable[[ExitStack], list[tuple[int, int]]],
) -> EncodeReport:
    """Embed what is missing of an output whose finished rows are kept."""
    with ExitStack() as held:
        for start, end in ranks.on_main(lambda: begin(held)):
            parts.go_to(start)
            sentences = beside.sentences(islice(inputs.rows(), start, end))
            embed_rounds(embedder, sentences, ranks, keep=_kept, collect=parts.add, first_row=start)
        lengths, paths = ranks.on_main(parts.written)
    return EncodeReport(embedder, lengths, parts.num_encoded, paths)


def _remove_state(out: Path, *, overwrite: bool) -> None:
    """Remove what an earlier run has kept of an output, once that is whole, or if it may be lost."""
    folder = state_folder(out)
    if not folder.exists():
        return
    if not overwrite and not (folder / FIRST_RECORD).exists():
        raise DataError(f"{out} is unfinished: an interrupted run has kept its rows in {folder}", hint=GO_ON)
    shutil.rmtree(folder)


def _kept(window: EmbeddedWindow, first_row: int) -> Kept:  # noqa: ARG001  as `embed_rounds` calls it
    """What is kept of an embedded window."""
    return window.embeddings, window.lengths


class Beside:
    """Holds what stands beside sentences until their embeddings are there. It needs other columns to do so.

    Args:
        columns: those of the output, on the process that writes.
    """

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self._waiting: deque[Row] = deque()

    def sentences(self, rows: Iterable[Row]) -> Iterator[str]:
        """Yield the text of each row, and keep the rest."""
        for row in rows:
            if self.columns:
                self._waiting.append(row)
            yield row[1]

    def take(self, num_rows: int) -> list[Any]:
        """The cells of each other column in the next rows, as a writer takes them."""
        rows = [self._waiting.popleft() for _ in range(num_rows if self.columns else 0)]
        return output_cells(rows, self.columns) if rows else []


class _Output:
    """The file that rank 0 writes, with its counts of rows and of tokens."""

    def __init__(self, inputs: Lines, out: Path, embedder: Embedder, beside: Beside) -> None:
        self._inputs, self._out, self._embedder = inputs, out, embedder
        self._beside, self._lengths = beside, Lengths(embedder.max_length)

    def open(self, opened: ExitStack, overwrite: bool) -> None:
        _remove_state(self._out, overwrite=overwrite)
        self._progress = opened.enter_context(console.Progress("encode", None, "sentences"))
        temporary = opened.enter_context(atomic_path(self._out))
        rows = open_rows(temporary, self._embedder.width, self._embedder.dtype, self._beside.columns)
        self._rows = opened.enter_context(rows)

    def add(self, sentences: list[str], kept: Kept) -> None:
        embeddings, lengths = kept
        cells = self._beside.take(len(sentences))
        try:
            self._rows.append(sentences, embeddings, cells)
        except OSError as error:
            raise DataError(f"cannot write {self._out}: {error.strerror or error}", hint=MAKE_ROOM) from error
        self._lengths.add(lengths)
        self._progress.update(len(sentences))

    def counted(self) -> Lengths:
        if self._lengths.num_lines == 0:
            raise no_lines(self._inputs)
        return self._lengths
