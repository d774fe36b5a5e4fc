"""The corpus: clean, distinct sentences, one a line, fingerprinted and kept in the data home."""

import mmap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from distilcse_cli import console
from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.cache import REMAKE, read_manifest
from distilcse_cli.data.cleaning import Cleaner
from distilcse_cli.data.lines import BadLines
from distilcse_cli.data.npy import open_map
from distilcse_cli.data.prepared import OFFSETS, SENTENCES, SentenceWriter, names_of, prepare
from distilcse_cli.data.sentences import split_sentences
from distilcse_cli.data.sources import FETCH_CORPUS, Source, find_source
from distilcse_cli.errors import DataError, UsageError

FORMAT_VERSION = 1
"""Raised when the same input would give other sentences or files."""


@dataclass(frozen=True)
class CorpusReport:
    """Counts of the lines read: `num_read` is `num_kept` plus all that were dropped."""

    num_read: int
    num_kept: int
    dropped: dict[str, int]
    """Reason -> count: blank, too short, too long, duplicate, unreadable."""
    num_articles: int | None = None
    """Texts that were split into the `num_read` sentences; None without splitting."""

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

    def take(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """Return the sentences of `rows`, in that order, without reading the others.

        Raises:
            IndexError: a row below 0 or past the end.
            DataError: the folder is damaged.
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
            return open_map(self.folder / OFFSETS)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.folder} is damaged: {error}", hint=REMAKE) from error

    @cached_property
    def _text(self) -> mmap.mmap:
        with self.sentences_path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def prepare_corpus(inputs: Sequence[str], settings: CorpusSettings) -> Corpus:
    """Clean the texts of `inputs` into a corpus, or open the corpus made earlier from the same bytes and settings.

    Args:
        inputs: files (lines of text, JSON, csv, tsv, each also packed; parquet) or hub data set ids.
        settings: how lines become sentences.

    Raises:
        UsageError: no inputs, or a setting that applies to none of them.
        DataError: an input cannot be read or understood, or no sentence is left.
        NetworkError: the hub does not answer.
    """
    sources = _sources(inputs, settings)
    fill = partial(_fill, sources=sources, settings=settings)
    folder, existed = prepare("corpora", FORMAT_VERSION, sources, settings, fill)
    corpus = open_corpus(folder)
    console.log(f"corpus: {corpus.report}{', prepared before' if existed else ''} [{folder}]")
    return corpus


def evenly_spread(num_rows: int, size: int) -> np.ndarray:
    """(min(size, num_rows),) int64 numbers of rows, from the first to the last at equal distances."""
    return np.linspace(0, num_rows - 1, min(size, num_rows)).astype(np.int64)


def open_corpus(folder: Path) -> Corpus:
    """Open a prepared corpus.

    Raises:
        DataError: `folder` is no corpus, is damaged, or was written by a later release.
    """
    manifest = read_manifest(folder, FORMAT_VERSION)
    try:
        report = CorpusReport(**manifest["report"])
        return Corpus(Path(folder), report.num_kept, manifest["fingerprint"], report)
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder} is not a corpus: its manifest lacks {error}", hint=REMAKE) from error


def _sources(inputs: Sequence[str], settings: CorpusSettings) -> list[Source]:
    """The inputs, after a check that each setting applies to one of them at least."""
    if not inputs:
        raise UsageError("no corpus given", hint=f"name a text file with --corpus, or {FETCH_CORPUS}")
    sources = [find_source(name, settings.encoding) for name in inputs]
    for option in ("text_column", "encoding"):
        if getattr(settings, option) is not None and not any(option in source.options for source in sources):
            typed = "--" + option.replace("_", "-")
            what = "a text file has no columns" if option == "text_column" else "only files of text have one"
            raise UsageError(f"{typed} does not apply to {names_of(sources)}: {what}", hint="leave it out")
    return sources


@dataclass(frozen=True, kw_only=True)
class CorpusSample:
    """Sentences evenly spread over what was read of a corpus."""

    sentences: list[str]
    num_kept: int
    """Sentences read, those that were dropped not counted."""
    is_whole: bool
    """Whether the corpus was read to its end."""


def sample_corpus(
    inputs: Sequence[str], settings: CorpusSettings, size: int, is_enough: Callable[[], bool]
) -> CorpusSample:
    """Read a corpus as `prepare_corpus` does, but keep nothing on the disk, and stop when it is enough.

    Args:
        inputs, settings: as for `prepare_corpus`; it raises the same.
        size: sentences of the sample; up to twice as many are returned, or all where there are fewer.
        is_enough: asked after each batch whether to stop reading.
    """
    sources, cleaner, bad = _sources(inputs, settings), Cleaner(settings), BadLines(settings.on_bad_line)
    sample: list[bytes] = []
    num_kept, every, is_whole = 0, 1, True
    for _, kept in _kept(sources, settings, cleaner, bad):
        sample += kept[-num_kept % every :: every]
        num_kept += len(kept)
        while len(sample) > 2 * size:
            sample, every = sample[::2], 2 * every
        if is_enough():
            is_whole = False
            break
    if not sample:
        raise _no_sentence(sources, f"{cleaner.num_read:,} read, none kept")
    return CorpusSample(sentences=[one.decode("utf-8") for one in sample], num_kept=num_kept, is_whole=is_whole)


def _no_sentence(sources: list[Source], report: object) -> DataError:
    return DataError(
        f"no sentence in {names_of(sources)}: {report}", hint="check the file and --min-words, --max-words"
    )


def _kept(
    sources: list[Source], settings: CorpusSettings, cleaner: Cleaner, bad: BadLines
) -> Iterator[tuple[int, list[bytes]]]:
    """Batches of clean sentences of all sources, and how many texts each was made of."""
    for source in sources:
        for texts in source.texts(settings, bad):
            yield len(texts), cleaner.keep(_split(texts) if settings.split_sentences else texts)


def _fill(folder: Path, sources: list[Source], settings: CorpusSettings) -> dict[str, Any]:
    """Write the sentences of all sources; return the corpus' fields of the manifest."""
    cleaner, bad = Cleaner(settings), BadLines(settings.on_bad_line)
    num_texts = 0
    with SentenceWriter(folder) as writer, console.Progress("corpus", None, "sentences") as progress:
        for num_read, kept in _kept(sources, settings, cleaner, bad):
            num_texts += num_read
            writer.append(kept)
            progress.update(len(kept))
    dropped = dict(cleaner.dropped)
    if bad.num_skipped:
        dropped["unreadable"] = bad.num_skipped
    report = CorpusReport(
        num_read=cleaner.num_read + bad.num_skipped,
        num_kept=writer.num_sentences,
        dropped=dropped,
        num_articles=num_texts if settings.split_sentences else None,
    )
    if not report.num_kept:
        raise _no_sentence(sources, report)
    return {"report": asdict(report), "fingerprint": writer.fingerprint}


def _split(texts: list[str]) -> list[str]:
    # a blank article counts as one blank sentence, so that the report accounts for it
    return [sentence for text in texts for sentence in split_sentences(text) or [""]]
