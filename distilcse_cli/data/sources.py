"""What a user may name as a corpus: a file, or a data set on the hub."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.lines import CHECK_FILE, BadLines, is_gzip
from distilcse_cli.data.readers import file_format, read_texts
from distilcse_cli.errors import DataError
from distilcse_cli.files import sha256_file

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_FILE_SUFFIXES = tuple(".txt .gz .json .jsonl .ndjson .csv .tsv .parquet .zst .bz2 .xz .zip".split())
"""What ends so is a file that is missing, and is not looked for on the hub."""


class Source(Protocol):
    """Where texts come from."""

    @property
    def name(self) -> str:
        """What to call it in a message."""

    def identity(self) -> str:
        """Text that is another one whenever the contents or the way of reading them are."""

    def texts(self, settings: CorpusSettings, bad: BadLines) -> Iterator[list[str]]:
        """Yield the texts in order, in batches."""


@dataclass(frozen=True)
class FileSource:
    """A text file or table on disk."""

    path: Path

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def identity(self) -> str:
        """Format and sha256 of the bytes."""
        try:
            return f"{file_format(self.path)}{'.gz' * is_gzip(self.path)} {sha256_file(self.path)}"
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror}", hint=CHECK_FILE) from error

    def texts(self, settings: CorpusSettings, bad: BadLines) -> Iterator[list[str]]:
        """Yield the texts in order, in batches."""
        return read_texts(self.path, settings.text_column, bad)


def find_source(name: str) -> Source:
    """Return the file `name`, or else the data set that the hub has under that id.

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
        return FileSource(path)
    if path.is_dir():
        raise DataError(f"{name} is a folder", hint="name each file in it with a --corpus of its own")
    if exists:
        raise DataError(f"{name} is no regular file", hint="write the text to a file first")
    if _HUB_ID.fullmatch(name) and not name.lower().endswith(_FILE_SUFFIXES):
        from distilcse_cli.data.hub import find_hub_source

        return find_hub_source(name)
    raise DataError(f"no file {name!r}", hint="name a file, or a hub data set as OWNER/NAME")
