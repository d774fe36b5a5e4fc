"""Triplets: a corpus of distinct sentences, and rows of numbers that say which belong together.

A sentence that stands in many triples is kept, tokenized and run through a teacher once, and
"the same text" is "the same number".
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np

from distilcse_cli import console
from distilcse_cli.config import TripletSettings, data_home
from distilcse_cli.data.arrays import NpyWriter
from distilcse_cli.data.cache import build_once, read_manifest, write_manifest
from distilcse_cli.data.cleaning import SeenHashes
from distilcse_cli.data.corpus import OFFSETS, SENTENCES, Corpus, CorpusReport
from distilcse_cli.data.lines import BadLines
from distilcse_cli.data.sources import FileSource
from distilcse_cli.data.triplet_rows import triplet_rows
from distilcse_cli.errors import DataError, UsageError

FORMAT_VERSION = 1
"""Raised when the same input would give other triples or files."""
ROWS = "rows.npy"
_BATCH_ROWS = 4096


@dataclass(frozen=True)
class Triplets:
    """N triples (anchor, positive, hard negative) or pairs (anchor, positive) on disk, in the order of the file."""

    folder: Path
    rows: np.ndarray
    """(N, 3) or, for pairs, (N, 2) int64, memory-mapped: numbers of sentences."""
    sentences: Corpus
    """The distinct sentences, numbered from 0 in the order of their first use."""
    num_skipped: int
    """Rows of the file that could not be used."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def has_negatives(self) -> bool:
        """Whether each row has a hard negative."""
        return self.rows.shape[1] == 3

    @property
    def fingerprint(self) -> str:
        """Hex sha256 of sentences and rows; the name of the file they came from is not in it."""
        digest = hashlib.sha256(self.sentences.fingerprint.encode())
        digest.update(np.ascontiguousarray(self.rows, dtype="<i8").data)
        return digest.hexdigest()

    def __str__(self) -> str:
        kind = "triples" if self.has_negatives else "pairs without hard negatives"
        skipped = f", {self.num_skipped:,} unusable rows left out" if self.num_skipped else ""
        return f"{len(self):,} {kind} of {len(self.sentences):,} distinct sentences{skipped}"


def prepare_triplets(inputs: Sequence[str], settings: TripletSettings) -> Triplets:
    """Read tables of triples, or open what was made of the same bytes and settings before.

    Args:
        inputs: files (`.csv`, `.tsv`, `.jsonl`, each also as `.gz`, `.parquet`), read one after the other.
        settings: which columns to take, whether there is a header, what to do at an unusable row.

    Raises:
        UsageError: no inputs.
        DataError: a file cannot be read or understood, one has pairs and another triples, or none is left.
    """
    if not inputs:
        raise UsageError("no triplets given", hint="name a file with --triplets")
    sources = [_source(name) for name in inputs]
    identities = [source.identity() for source in sources]
    key = hashlib.sha256(json.dumps([FORMAT_VERSION, identities, asdict(settings)]).encode()).hexdigest()[:32]
    folder = data_home() / "triplets" / key
    was_there = build_once(folder, FORMAT_VERSION, lambda target: _build(target, sources, identities, settings))
    triplets = open_triplets(folder)
    console.log(f"triplets: {triplets}{', prepared before' if was_there else ''} [{folder}]")
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
        rows = np.load(folder / ROWS, mmap_mode="r", allow_pickle=False).view(np.ndarray)
        rows = rows.reshape(-1, manifest["num_columns"])
        if not 0 <= rows.min() <= rows.max() < len(sentences):
            raise ValueError(f"its rows are of sentences {rows.min()} to {rows.max()} of {len(sentences)}")
        return Triplets(Path(folder), rows, sentences, manifest["num_skipped"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder} holds no triplets: {error}", hint="remove it and run again") from error


def _source(name: str) -> FileSource:
    path = Path(name)
    if path.is_dir():
        raise DataError(f"{name} is a folder", hint="name the file in it")
    if not path.is_file():
        raise DataError(f"no file {name}", hint="name a .csv, .tsv, .jsonl or .parquet file with --triplets")
    return FileSource(path)


def _build(folder: Path, sources: list[FileSource], identities: list[str], settings: TripletSettings) -> None:
    bad = BadLines(settings.on_bad_line)
    numbering = _Numbering()
    fingerprint = hashlib.sha256()
    num_columns = position = 0
    with (
        (folder / SENTENCES).open("wb") as file,
        NpyWriter(folder / OFFSETS, np.dtype(np.int64)) as offsets,
        console.Progress("triplets", None, "rows") as progress,
    ):
        offsets.append(np.zeros(1))
        for rows in _batches(sources, settings, bad):
            num_columns = len(rows[0])
            new = numbering.add([cell.encode("utf-8") for cell in chain.from_iterable(rows)])
            progress.update(len(rows))
            if not new:
                continue
            ends = position + np.cumsum([len(sentence) + 1 for sentence in new])
            position = int(ends[-1])
            block = b"\n".join(new) + b"\n"
            file.write(block)
            fingerprint.update(block)
            offsets.append(ends)
    names = ", ".join(source.name for source in sources).encode("utf-8", "backslashreplace").decode()
    if not num_columns:
        hint = f"{bad.num_skipped:,} unusable rows were left out" if bad.num_skipped else "check the file"
        raise DataError(f"no triple in {names}", hint=hint)
    if [source.identity() for source in sources] != identities:
        raise DataError(f"{names} changed while it was read", hint="run again when it is written")
    with NpyWriter(folder / ROWS, np.dtype(np.int64)) as rows_file:
        for numbers in numbering.numbers():
            rows_file.append(numbers)
    num_cells, num_distinct = numbering.num_cells, numbering.num_distinct
    report = CorpusReport(num_cells, num_distinct, {"duplicate": num_cells - num_distinct})
    facts = {
        "inputs": names,
        "identities": identities,
        "settings": asdict(settings),
        "num_columns": num_columns,
        "num_skipped": bad.num_skipped,
        "report": asdict(report),
        "fingerprint": fingerprint.hexdigest(),
    }
    write_manifest(folder, FORMAT_VERSION, facts)


def _batches(sources: list[FileSource], settings: TripletSettings, bad: BadLines) -> Iterator[list[tuple[str, ...]]]:
    """Rows of all files, some thousands at a time, all as wide as the very first one."""
    num_columns, first = 0, ""
    for source in sources:
        rows = triplet_rows(source.path, settings.columns, settings.header, bad)
        while batch := list(islice(rows, _BATCH_ROWS)):
            if num_columns and len(batch[0]) != num_columns:
                kinds = {2: "pairs", 3: "triples"}
                raise DataError(
                    f"{first} has {kinds[num_columns]}, but {source.name} {kinds[len(batch[0])]}",
                    hint="train on one after the other, or name two columns with --columns",
                )
            num_columns, first = len(batch[0]), first or source.name
            yield batch


class _Numbering:
    """Numbers distinct texts in the order of their first use, at 16 bytes a text."""

    def __init__(self) -> None:
        self.num_cells = self.num_distinct = 0
        self._seen = SeenHashes()
        self._hashes: list[np.ndarray] = []
        self._first_uses: list[np.ndarray] = []

    def add(self, texts: list[bytes]) -> list[bytes]:
        """Take the next texts; return those of them that are new, each once."""
        digests = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in texts)
        hashes = np.frombuffer(digests, dtype=np.uint64)
        is_new = self._seen.add(hashes)
        self._hashes.append(hashes)
        self._first_uses.append(hashes[is_new])
        self.num_cells += len(texts)
        self.num_distinct += int(is_new.sum())
        return [text for text, new in zip(texts, is_new.tolist(), strict=True) if new]

    def numbers(self) -> Iterator[np.ndarray]:
        """Yield the numbers of all texts taken, in their order."""
        known = np.concatenate(self._first_uses)
        order = np.argsort(known)
        ascending = known[order]
        for hashes in self._hashes:
            yield order[np.searchsorted(ascending, hashes)]
