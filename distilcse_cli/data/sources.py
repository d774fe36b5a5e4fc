"""What a user may name as a corpus: a file, or a data set on the hub."""

import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol

from distilcse_cli.config import HUB_ID, CorpusSettings
from distilcse_cli.data.lines import BadLines, is_unicode, read_lines
from distilcse_cli.data.opening import CHECK_FILE, descriptor_of, kind_of
from distilcse_cli.data.rows import read_rows
from distilcse_cli.data.texts import choose_text, in_batches, text_in
from distilcse_cli.errors import DataError
from distilcse_cli.files import sha256_file

_FILE_SUFFIXES = tuple(".txt .gz .json .jsonl .ndjson .csv .tsv .parquet .zst .bz2 .xz .zip".split())
"""A name with one of these endings is a file. If there is none, the hub is not asked."""
_MOST_NEIGHBORS = 1000


class Source(Protocol):
    """Where texts come from."""

    @property
    def name(self) -> str:
        """The name for messages."""

    @property
    def options(self) -> frozenset[str]:
        """Those of `text_column` and `encoding` that can apply to it."""

    def identity(self) -> str:
        """Return a text that changes whenever the contents or the way of reading them change."""

    def texts(self, settings: CorpusSettings, bad: BadLines) -> Iterator[list[str]]:
        """Yield the texts in order, in batches."""


@dataclass(frozen=True)
class FileSource:
    """A text file or table on disk."""

    path: Path
    encoding: str | None = None
    """Of its text; None is UTF-8."""

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    @property
    def options(self) -> frozenset[str]:
        """A table has columns, and parquet no encoding."""
        kind = kind_of(self.path, self.encoding)
        return frozenset(
            name
            for name, applies in (("text_column", kind.is_table), ("encoding", kind.format != "parquet"))
            if applies
        )

    def identity(self) -> str:
        """Return what the file is, and the sha256 of its bytes."""
        try:
            return f"{kind_of(self.path, self.encoding)} {sha256_file(self.path)}"
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror}", hint=CHECK_FILE) from error

    def texts(self, settings: CorpusSettings, bad: BadLines) -> Iterator[list[str]]:
        """Yield the texts in order, in batches: lines of a text file, or one column of a table.

        Raises:
            DataError: the file cannot be read, is damaged, or has no such column.
        """
        if kind_of(self.path, self.encoding).is_table:
            yield from in_batches(self._column(settings.text_column, bad))
            return
        yield from self._lines(bad)

    def _lines(self, bad: BadLines) -> Iterator[list[str]]:
        for _, lines in read_lines(self.path, bad, self.encoding):
            texts = [line for line in lines if is_unicode(line)]
            bad.num_skipped += len(lines) - len(texts)  # with the policy to stop, read_lines has raised
            yield texts

    def _column(self, wanted: str | None, bad: BadLines) -> Iterator[str]:
        choose = partial(choose_text, wanted=wanted)
        for where, cells in read_rows(self.path, choose, bad, strict=False, encoding=self.encoding):
            text = text_in(cells[0], where, bad) if cells else ""
            if text is not None:
                yield text


class StoreSource(FileSource):
    """The sentences of an embedding store: one a line, also if they look like another format."""

    @property
    def name(self) -> str:
        """The store's folder."""
        return str(self.path.parent)

    @property
    def options(self) -> frozenset[str]:
        """Neither columns nor encodings."""
        return frozenset()

    def identity(self) -> str:
        """Return the sha256 of the sentences."""
        return f"store {sha256_file(self.path)}"

    def texts(self, settings: CorpusSettings, bad: BadLines) -> Iterator[list[str]]:  # noqa: ARG002
        """Yield the sentences in order, in batches."""
        yield from self._lines(bad)


def find_source(name: str, encoding: str | None = None) -> Source:
    """Return the file `name` with text in `encoding`, or else the data set that the hub has under that id.

    The folder of an embedding store stands for its sentences.

    Raises:
        DataError: it is a folder or special file, or neither a file nor a hub id.
        NetworkError: the hub cannot be reached.
    """
    path = Path(name)
    try:
        exists = path.exists()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read {name!r}: {reason}", hint="name a file, or a hub data set") from error
    if path.is_file():
        require_unread(path)
        return FileSource(path, encoding)
    if (path / "sentences.txt").is_file() and (path / "embeddings.npy").is_file():
        return StoreSource(path / "sentences.txt")
    if path.is_dir():
        raise DataError(f"{name} is a folder", hint="name each file in it: --corpus FILE --corpus FILE")
    if exists:
        raise DataError(f"{name} is no regular file", hint="write the text to a file first")
    if _is_hub_id(name):
        from distilcse_cli.data.hub_corpus import find_hub_source

        return find_hub_source(name)
    raise missing_file(path, f"check the path, name a hub data set as OWNER/NAME, or {FETCH_CORPUS}")


def is_source(name: str) -> bool:
    """Whether `find_source` would look for a file or data set of that name, as it would not for a sentence."""
    return os.path.lexists(name) or name.lower().endswith(_FILE_SUFFIXES) or _is_hub_id(name)


def _is_hub_id(name: str) -> bool:
    return HUB_ID.fullmatch(name) is not None and not name.lower().endswith(_FILE_SUFFIXES)


FETCH_CORPUS = "run distilcse download news-articles and leave out --corpus"
"""How a user without a corpus gets one; the end of a hint."""


def require_unread(path: Path) -> None:
    """Check that `/dev/stdin` stands at its start: opened by its name, it is read from there.

    Raises:
        DataError: something was read from it before.
    """
    descriptor = descriptor_of(path)
    if descriptor is not None and os.lseek(descriptor, 0, os.SEEK_CUR):
        raise DataError(f"{path} has been read in part", hint="write the rest to a file first")


def missing_file(path: Path, otherwise: str) -> DataError:
    """Make the error for a file that is not there. Its hint names similar files beside it, else says `otherwise`."""
    try:
        beside = [file.name for file in islice(path.parent.iterdir(), _MOST_NEIGHBORS)]
    except OSError:
        beside = []
    similar = difflib.get_close_matches(path.name, beside, cutoff=0.7)
    meant = " or ".join(str(path.with_name(name)) for name in similar)
    return DataError(f"no file {str(path)!r}", hint=f"did you mean {meant}?" if similar else otherwise)
