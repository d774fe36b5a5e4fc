"""Triplets: a corpus of distinct sentences, and rows of sentence numbers that say which belong together.

A sentence that occurs in many triples is kept, tokenized and run through a teacher once, and
"the same text" means "the same number".
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from distilcse_cli import console
from distilcse_cli.config import TripletSettings
from distilcse_cli.data.cache import REMAKE, read_manifest
from distilcse_cli.data.cleaning import SeenHashes, hashes_of
from distilcse_cli.data.corpus import Corpus, CorpusReport
from distilcse_cli.data.lines import BadLines
from distilcse_cli.data.npy import NpyWriter, open_map
from distilcse_cli.data.opening import kind_of
from distilcse_cli.data.prepared import SentenceWriter, names_of, prepare
from distilcse_cli.data.sources import FileSource, missing_file, require_unread
from distilcse_cli.data.triplet_rows import triplet_rows
from distilcse_cli.errors import DataError, UsageError

FORMAT_VERSION = 1
"""Raised when the same input would give other triples or files."""
ROWS = "rows.npy"
_BATCH_ROWS = 4096
_FETCH = "run distilcse download nli and leave out --triplets"


@dataclass(frozen=True)
class Triplets:
    """N triples (anchor, positive, hard negatives) or pairs (anchor, positive) on disk, in the order of the file."""

    folder: Path
    rows: np.ndarray
    """(N, 3), for pairs (N, 2), with n hard negatives a row (N, 2 + n), int64 sentence numbers, memory-mapped."""
    sentences: Corpus
    """The distinct sentences, numbered from 0 in the order of their first use."""
    num_skipped: int
    """Rows of the file that could not be used."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def has_negatives(self) -> bool:
        """Whether each row has hard negatives."""
        return self.rows.shape[1] > 2

    @property
    def fingerprint(self) -> str:
        """Hex sha256 of sentences and rows, whatever the file was called."""
        digest = hashlib.sha256(self.sentences.fingerprint.encode())
        digest.update(np.ascontiguousarray(self.rows, dtype="<i8").data)
        return digest.hexdigest()

    def __str__(self) -> str:
        kind = _kind(self.rows.shape[1])
        skipped = f", {self.num_skipped:,} unusable rows left out" if self.num_skipped else ""
        return f"{len(self):,} {kind} of {len(self.sentences):,} distinct sentences{skipped}"


def prepare_triplets(inputs: Sequence[str], settings: TripletSettings) -> Triplets:
    """Read tables of triples, or open the triplets made earlier from the same bytes and settings.

    Args:
        inputs: tables (csv, tsv, JSON, each also packed; parquet), read one after the other.
        settings: which columns to take, whether there is a header, what to do at an unusable row.

    Raises:
        UsageError: no inputs, or a setting that applies to none of them.
        DataError: a file cannot be read or understood, one has pairs and another triples, or none is left.
    """
    if not inputs:
        raise UsageError("no triplets given", hint=f"name a file with --triplets, or {_FETCH}")
    sources = [_source(name, settings.encoding) for name in inputs]
    kinds = [kind_of(source.path, settings.encoding) for source in sources]
    for option, typed, applies in (
        ("--encoding", settings.encoding, [kind.format != "parquet" for kind in kinds]),
        ("--header or --no-header", settings.header, [kind.is_csv for kind in kinds]),
    ):
        if typed is not None and not any(applies):
            raise UsageError(f"{option} does not apply to {names_of(sources)}", hint="leave it out")
    fill = partial(_fill, sources=sources, settings=settings)
    folder, existed = prepare("triplets", FORMAT_VERSION, sources, settings, fill)
    triplets = open_triplets(folder)
    console.log(f"triplets: {triplets}{', prepared before' if existed else ''} [{folder}]")
    return triplets


def open_triplets(folder: Path) -> Triplets:
    """Open prepared triplets.

    Raises:
        DataError: `folder` holds none, is damaged, or was written by a later release.
    """
    manifest = read_manifest(folder, FORMAT_VERSION)
    try:
        report = CorpusReport(**manifest["report"])
        sentences = Corpus(Path(folder), report.num_kept, manifest["fingerprint"], report)
        rows = open_map(folder / ROWS).reshape(-1, manifest["num_columns"])
        if not 0 <= rows.min() <= rows.max() < len(sentences):
            raise ValueError(f"its rows name sentences {rows.min()} to {rows.max()} of {len(sentences)}")
        return Triplets(Path(folder), rows, sentences, manifest["num_skipped"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder} holds no triplets: {error}", hint=REMAKE) from error


def _source(name: str, encoding: str | None) -> FileSource:
    path = Path(name)
    if path.is_dir():
        raise DataError(f"{name} is a folder", hint="name the file in it")
    if not path.is_file():
        raise missing_file(path, f"check the path, or {_FETCH}")
    require_unread(path)
    return FileSource(path, encoding)


def _fill(folder: Path, sources: list[FileSource], settings: TripletSettings) -> dict[str, Any]:
    """Write sentences and rows of all sources; return the triplets' fields of the manifest."""
    bad = BadLines(settings.on_bad_line)
    numbering = _Numbering()
    num_columns = 0
    with SentenceWriter(folder) as writer, console.Progress("triplets", None, "rows") as progress:
        for rows in _batches(sources, settings, bad):
            num_columns = len(rows[0])
            writer.append(numbering.add([cell.encode("utf-8") for cell in chain.from_iterable(rows)]))
            progress.update(len(rows))
    if not num_columns:
        hint = f"{bad.num_skipped:,} unusable rows were left out" if bad.num_skipped else "check the file"
        raise DataError(f"no triple in {names_of(sources)}", hint=hint)
    with NpyWriter(folder / ROWS, np.int64) as rows_file:
        for numbers in numbering.numbers():
            rows_file.append(numbers)
    num_cells, num_distinct = numbering.num_cells, writer.num_sentences
    report = CorpusReport(num_cells, num_distinct, {"duplicate": num_cells - num_distinct})
    return {
        "num_columns": num_columns,
        "num_skipped": bad.num_skipped,
        "report": asdict(report),
        "fingerprint": writer.fingerprint,
    }


def _batches(sources: list[FileSource], settings: TripletSettings, bad: BadLines) -> Iterator[list[tuple[str, ...]]]:
    """Yield the rows of all files, 4,096 at a time, each with as many cells as the very first one."""
    num_columns, first = 0, ""
    for source in sources:
        rows = triplet_rows(source.path, settings.columns, settings.header, bad, settings.encoding)
        while batch := list(islice(rows, _BATCH_ROWS)):
            if num_columns and len(batch[0]) != num_columns:
                raise DataError(
                    f"{first} has {_kind(num_columns)}, but {source.name} {_kind(len(batch[0]))}",
                    hint="train on one after the other, or name two columns with --columns",
                )
            num_columns, first = len(batch[0]), first or source.name
            yield batch


def _kind(num_columns: int) -> str:
    if num_columns == 2:
        return "pairs without hard negatives"
    return "triples" if num_columns == 3 else f"anchors with a positive and {num_columns - 2} hard negatives each"


class _Numbering:
    """Numbers distinct texts in the order of their first use, in 16 bytes of memory a text."""

    def __init__(self) -> None:
        self.num_cells = 0
        self._seen = SeenHashes()
        self._hashes: list[np.ndarray] = []
        self._first_uses: list[np.ndarray] = []

    def add(self, texts: list[bytes]) -> list[bytes]:
        """Number the next texts; return the new ones among them, each once."""
        hashes = hashes_of(texts)
        is_new = self._seen.add(hashes)
        self._hashes.append(hashes)
        self._first_uses.append(hashes[is_new])
        self.num_cells += len(texts)
        return [text for text, new in zip(texts, is_new.tolist(), strict=True) if new]

    def numbers(self) -> Iterator[np.ndarray]:
        """Yield the numbers of all added texts, in order, in the same batches."""
        known = np.concatenate(self._first_uses)
        order = np.argsort(known)
        ascending = known[order]
        for hashes in self._hashes:
            yield order[np.searchsorted(ascending, hashes)]
