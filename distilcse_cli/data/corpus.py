"""The corpus: clean, distinct sentences, one a line, fingerprinted and kept in the data home."""

import hashlib
import json
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from distilcse_cli import console
from distilcse_cli.config import CorpusSettings, data_home
from distilcse_cli.data.arrays import NpyWriter
from distilcse_cli.data.cache import build_once, read_manifest, write_manifest
from distilcse_cli.data.cleaning import Cleaner
from distilcse_cli.data.lines import BadLines
from distilcse_cli.data.sentences import split_sentences
from distilcse_cli.data.sources import Source, find_source
from distilcse_cli.errors import DataError, UsageError

FORMAT_VERSION = 1
"""Raised when the same input would give other sentences or files."""
SENTENCES, OFFSETS = "sentences.txt", "offsets.npy"


@dataclass(frozen=True)
class CorpusReport:
    """What became of the lines read: `num_read` is `num_kept` plus all that were dropped."""

    num_read: int
    num_kept: int
    dropped: dict[str, int]
    """Reason -> count: blank, too short, too long, duplicate, unreadable."""
    num_articles: int | None = None
    """Texts that the `num_read` sentences were split from; None without splitting."""

    def __str__(self) -> str:
        origin = "" if self.num_articles is None else f"{self.num_articles:,} articles split: "
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.items())
        num_dropped = f"{self.num_read - self.num_kept:,} dropped"
        return f"{origin}{self.num_read:,} read, {self.num_kept:,} kept, {num_dropped}{f' ({reasons})' * bool(reasons)}"


@dataclass(frozen=True)
class Corpus:
    """Sentences on disk. Rows are numbered from 0 in the order of the file."""

    folder: Path
    num_sentences: int
    fingerprint: str
    """sha256 of the bytes of `sentences.txt`."""
    report: CorpusReport

    @property
    def sentences_path(self) -> Path:
        r"""Clean text: one sentence a line, UTF-8, `\n` only."""
        return self.folder / SENTENCES

    def __len__(self) -> int:
        return self.num_sentences

    def __iter__(self) -> Iterator[str]:
        with self.sentences_path.open(encoding="utf-8", newline="\n") as file:
            for line in file:
                yield line[:-1]

    def chunks(self, size: int) -> Iterator[list[str]]:
        """Yield all sentences in order, `size` at a time, straight from disk."""
        if size < 1:
            raise ValueError(f"a chunk of {size} sentences")
        sentences = iter(self)
        while chunk := list(islice(sentences, size)):
            yield chunk

    def sentence(self, row: int) -> str:
        """Return the sentence of one row."""
        return self.take([row])[0]

    def take(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """Return the sentences of `rows`, in that order, without reading the others.

        Raises:
            IndexError: a row below 0 or past the end.
        """
        at = np.asarray(rows, dtype=np.int64)
        if at.size and not 0 <= at.min() <= at.max() < self.num_sentences:
            raise IndexError(f"rows {at.min()} to {at.max()} of {self.num_sentences} sentences")
        text = self._text
        bounds = zip(self._offsets[at].tolist(), self._offsets[at + 1].tolist(), strict=True)
        return [text[start : end - 1].decode("utf-8") for start, end in bounds]

    @cached_property
    def _offsets(self) -> np.ndarray:
        """(N + 1,) int64: where each sentence starts in the file, and the file's size."""
        try:
            return np.load(self.folder / OFFSETS, mmap_mode="r", allow_pickle=False).view(np.ndarray)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.folder} is damaged: {error}", hint="remove it and run again") from error

    @cached_property
    def _text(self) -> mmap.mmap:
        with self.sentences_path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def prepare_corpus(inputs: Sequence[str], settings: CorpusSettings) -> Corpus:
    """Clean the texts of `inputs` into a corpus, or open the one made of the same bytes and settings before.

    Args:
        inputs: files (`.txt`, `.jsonl`, `.csv`, each also as `.gz`, `.tsv`, `.parquet`) or hub data set ids.
        settings: how lines become sentences.

    Raises:
        UsageError: no inputs.
        DataError: an input cannot be read or understood, or no sentence is left.
        NetworkError: the hub does not answer.
    """
    if not inputs:
        raise UsageError("no corpus given", hint="name a text file with --corpus")
    sources = [find_source(name) for name in inputs]
    identities = [source.identity() for source in sources]
    key = hashlib.sha256(json.dumps([FORMAT_VERSION, identities, asdict(settings)]).encode()).hexdigest()[:32]
    folder = data_home() / "corpora" / key
    was_there = build_once(folder, FORMAT_VERSION, lambda target: _build(target, sources, identities, settings))
    corpus = open_corpus(folder)
    console.log(f"corpus: {corpus.report}{', prepared before' if was_there else ''} [{folder}]")
    return corpus


def open_corpus(folder: Path) -> Corpus:
    """Open a prepared corpus.

    Raises:
        DataError: `folder` is none, is damaged, or was written by a later release.
    """
    manifest = read_manifest(folder, FORMAT_VERSION)
    try:
        report = CorpusReport(**manifest["report"])
        return Corpus(Path(folder), report.num_kept, manifest["fingerprint"], report)
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{folder} is not a corpus: its manifest lacks {error}", hint="remove it and run again"
        ) from error


def _build(folder: Path, sources: list[Source], identities: list[str], settings: CorpusSettings) -> None:
    cleaner, bad = Cleaner(settings), BadLines(settings.on_bad_line)
    fingerprint = hashlib.sha256()
    num_texts = num_kept = position = 0
    with (
        (folder / SENTENCES).open("wb") as file,
        NpyWriter(folder / OFFSETS, np.dtype(np.int64)) as offsets,
        console.Progress("corpus", None, "sentences") as progress,
    ):
        offsets.append(np.zeros(1))
        for source in sources:
            for texts in source.texts(settings, bad):
                num_texts += len(texts)
                kept = cleaner.keep(_split(texts) if settings.split_sentences else texts)
                if not kept:
                    continue
                ends = position + np.cumsum([len(sentence) + 1 for sentence in kept])
                position = int(ends[-1])
                block = b"\n".join(kept) + b"\n"
                file.write(block)
                fingerprint.update(block)
                offsets.append(ends)
                num_kept += len(kept)
                progress.update(len(kept))
    dropped = dict(cleaner.dropped)
    if bad.num_skipped:
        dropped["unreadable"] = bad.num_skipped
    report = CorpusReport(
        num_read=cleaner.num_read + bad.num_skipped,
        num_kept=num_kept,
        dropped=dropped,
        num_articles=num_texts if settings.split_sentences else None,
    )
    # a file name need not be UTF-8, the manifest has to
    names = ", ".join(source.name for source in sources).encode("utf-8", "backslashreplace").decode()
    if not num_kept:
        raise DataError(f"no sentence in {names}: {report}", hint="check the file and --min-words, --max-words")
    if [source.identity() for source in sources] != identities:
        raise DataError(f"{names} changed while it was read", hint="run again when it is written")
    facts = {
        "inputs": names,
        "identities": identities,
        "settings": asdict(settings),
        "report": asdict(report),
        "fingerprint": fingerprint.hexdigest(),
    }
    write_manifest(folder, FORMAT_VERSION, facts)


def _split(texts: list[str]) -> list[str]:
    # a blank article counts as one blank sentence, so that the report accounts for it
    return [sentence for text in texts for sentence in split_sentences(text) or [""]]
