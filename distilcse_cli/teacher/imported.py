"""Make an embedding store of vectors that another program has computed, such as those of a hosted model.

The texts are cleaned as a corpus is, and each row goes where its text goes: a text that is dropped takes its row
along. Memory does not grow with the input, except for 24 bytes a text.

Shape letters: N rows of a batch, D numbers of a row.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from distilcse_cli import __version__, console
from distilcse_cli.data import npy
from distilcse_cli.data.cleaning import Cleaner, FirstRows, hashes_of
from distilcse_cli.data.corpus import CorpusReport
from distilcse_cli.data.lines import BadLines
from distilcse_cli.data.prepared import OFFSETS, SentenceWriter
from distilcse_cli.data.texts import text_in
from distilcse_cli.data.vector_rows import VectorRows, vector_rows
from distilcse_cli.errors import DataError
from distilcse_cli.files import atomic_folder, sha256_file, write_json
from distilcse_cli.teacher.settings import ImportSettings
from distilcse_cli.teacher.store import (
    EMBEDDINGS,
    FORMAT_VERSION,
    MANIFEST,
    EmbeddingStore,
    is_complete,
    is_unit_length,
    open_store,
    vectors_fingerprint,
)

SAME_COSINE = 0.99
"""Two vectors of one text count as the same from this cosine on: a server's answers differ in the last digits."""


@dataclass(frozen=True)
class Imported:
    """What `import_vectors` has made."""

    store: EmbeddingStore
    report: CorpusReport
    """Counts of texts read, kept and dropped."""


def import_vectors(inputs: Sequence[str], out: Path, settings: ImportSettings, *, overwrite: bool = False) -> Imported:
    """Write the store `out` from texts and vectors. It appears whole or not at all.

    Args:
        inputs: as for `vector_rows`.
        out: folder of the store, missing or empty.
        settings: columns, cleaning, the teacher's name and terms.
        overwrite: replace a store that is in `out`.

    Raises:
        UsageError: a `.npy` file without its texts.
        DataError: `out` is in the way or cannot be written; an input cannot be read, has fewer vectors than texts or
            more, or is empty; a vector is missing, of another width, not finite or zero, or a text has two
            different ones: the message names file and line, unless the settings skip such lines.
        NetworkError: the hub does not answer.
    """
    is_store = is_complete(out)
    if is_store and not overwrite:
        raise DataError(f"{out} holds a store", hint="choose another --out, or --overwrite")
    with (
        atomic_folder(out, replace=is_store) as folder,
        console.Progress("import", None, "rows") as progress,
    ):
        with SentenceWriter(folder) as sentences, (folder / EMBEDDINGS).open("w+b", buffering=0) as file:
            rows = _Rows(sentences, file, settings)
            for batch in vector_rows(inputs, settings, settings.vector_column, rows.bad):
                rows.add(batch)
                progress.update(len(batch.texts))
            rows.complete(inputs)
        (folder / OFFSETS).unlink()  # of a prepared corpus; a store has its sentences only
        write_json(folder / MANIFEST, _manifest(folder, rows, inputs, settings))
    report = rows.report()
    console.log(f"import: {report} [{out}]")
    return Imported(open_store(out), report)


def _manifest(folder: Path, rows: "_Rows", inputs: Sequence[str], settings: ImportSettings) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "num_rows": rows.num_rows,
        "rows_done": rows.num_rows,
        "num_truncated": 0,
        "width": rows.width,
        "dtype": settings.dtype,
        "normalized": rows.is_normalized,
        "origin": "import",
        "teacher": settings.name,
        "terms": settings.terms,
        "teacher_fingerprint": vectors_fingerprint(settings.name, rows.width),
        "corpus_fingerprint": rows.sentences.fingerprint,
        "rows_sha256": sha256_file(folder / EMBEDDINGS),
        "source_files": [name.encode("utf-8", "backslashreplace").decode() for name in inputs],
        "distilcse_version": __version__,
    }


class _Rows:
    """The sentences and rows written so far."""

    def __init__(self, sentences: SentenceWriter, file: IO[bytes], settings: ImportSettings) -> None:
        self.bad = BadLines(settings.on_bad_line)
        self.sentences, self.width, self.is_normalized = sentences, 0, True
        self._file, self._dtype = file, np.dtype(settings.dtype)
        self._cleaner, self._first = Cleaner(settings), FirstRows()
        self._numbers, self._places = array("q"), [(0, "")]

    @property
    def num_rows(self) -> int:
        return self.sentences.num_sentences

    def report(self) -> CorpusReport:
        dropped = dict(self._cleaner.dropped)
        if self.bad.num_skipped:
            dropped["unreadable"] = self.bad.num_skipped
        num_kept = self.num_rows
        return CorpusReport(num_read=num_kept + sum(dropped.values()), num_kept=num_kept, dropped=dropped)

    def complete(self, inputs: Sequence[str]) -> None:
        """Write the header with the true number of rows."""
        if not self.num_rows:
            hint = "check the files and --min-words, --max-words"
            raise DataError(f"no text with a vector in {', '.join(inputs)}: {self.report()}", hint=hint)
        self._file.seek(0)
        self._file.write(npy.header(self._dtype, (self.num_rows, self.width)))

    def add(self, batch: VectorRows) -> None:
        """Write what is new of a batch, and compare what is not."""
        texts, at = self._cleaned(batch)
        rows, usable = self._usable(batch, at)
        texts, at = [texts[i] for i in usable], [at[i] for i in usable]
        is_first, row_of = self._first.add(hashes_of(texts), self.num_rows)
        self._write(batch, [texts[i] for i in np.flatnonzero(is_first).tolist()], rows[is_first])
        self._numbers.extend(batch.numbers[at[i]] for i in np.flatnonzero(is_first).tolist())
        for i in np.flatnonzero(~is_first).tolist():
            self._compare(batch, at[i], texts[i], rows[i], int(row_of[i]))

    def _cleaned(self, batch: VectorRows) -> tuple[list[bytes], list[int]]:
        """Clean sentences, and which of the batch's rows they are."""
        kept: list[bytes] = []
        at: list[int] = []
        for i, cell in enumerate(batch.texts):
            text = text_in(cell, batch.where(i), self.bad)
            sentence = None if text is None else self._cleaner.clean_one(text)
            if sentence is not None:
                kept.append(sentence)
                at.append(i)
        return kept, at

    def _usable(self, batch: VectorRows, at: list[int]) -> tuple[np.ndarray, list[int]]:
        """The rows that can be stored, (N, D), and their places in `at`."""
        vectors = batch.vectors
        found: list[Any] = [vectors[i] for i in at]
        if not isinstance(vectors, np.ndarray):
            found = [_numbers(cell) for cell in found]
        if not self.width:
            self.width = next((len(row) for row in found if row is not None and len(row)), 0)
            self._file.seek(npy.position(self._dtype, (0, self.width), 0))  # the header comes last
        rows, usable = np.zeros((len(at), self.width), self._dtype), []
        for i, row in enumerate(found):
            fault = self._fault(row)
            if fault is None:
                with np.errstate(over="ignore"):
                    rows[i] = row
                fault = self._unfit(row, rows[i])
            if fault is None:
                usable.append(i)
            else:
                self.bad.meet(f"{batch.where(at[i])}: the vector {fault}")
        rows = rows[usable]
        lengths = np.linalg.norm(rows.astype(np.float32), axis=1)
        self.is_normalized = self.is_normalized and is_unit_length(lengths)
        return rows, usable

    def _fault(self, row: np.ndarray | None) -> str | None:
        """Why this is no vector of the width; None for one."""
        if row is None:
            return "is no list of numbers"
        if len(row) != self.width or not self.width:
            return f"has {len(row):,} numbers, but the first one has {self.width:,}"
        return None

    def _unfit(self, row: np.ndarray, stored: np.ndarray) -> str | None:
        """Why a vector cannot be stored, or compared by its cosine; None if it can."""
        if not np.isfinite(stored).all():
            return f"is too large for {self._dtype}" if np.isfinite(row).all() else "has NaN or infinity"
        return None if stored.any() else "is zero"

    def _write(self, batch: VectorRows, texts: list[bytes], rows: np.ndarray) -> None:
        if self._places[-1][1] != batch.place:
            self._places.append((self.num_rows, batch.place))
        self.sentences.append(texts)
        rest = memoryview(rows.tobytes())
        while rest:
            rest = rest[self._file.write(rest) :]

    def _compare(self, batch: VectorRows, at: int, text: bytes, row: np.ndarray, earlier: int) -> None:
        """Count a repeated text, and meet one whose vector is another than before."""
        end = self._file.tell()
        self._file.seek(npy.position(self._dtype, (0, self.width), earlier))
        before = np.frombuffer(self._file.read(row.nbytes), self._dtype).astype(np.float64)
        self._file.seek(end)
        now = row.astype(np.float64)
        cosine = float(now @ before / np.sqrt((now @ now) * (before @ before)))
        if cosine >= SAME_COSINE:
            self._cleaner.count_duplicates(1)
            return
        place = next(place for first, place in reversed(self._places) if first <= earlier)
        shown = text.decode("utf-8")[:60]
        other = f"another vector than in {place}{self._numbers[earlier]} (cosine {cosine:.2f})"
        self.bad.meet(f"{batch.where(at)}: {shown!r} has {other}")


def _numbers(cell: object) -> np.ndarray | None:
    """A row as (D,) numbers; None if it is something else."""
    try:
        row = np.asarray(cell)
    except ValueError:  # lists in it
        return None
    return row if row.ndim == 1 and row.dtype.kind in "fiu" else None
