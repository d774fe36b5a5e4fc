"""The numbered lines of a text file, gzipped or not."""

import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from distilcse_cli.errors import DataError

BLOCK_BYTES = 1 << 20
MAX_LINE_BYTES = 64 << 20
CHECK_FILE = "check the file and its permissions"
_BOM = b"\xef\xbb\xbf"
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass
class BadLines:
    """Receives text that cannot be used, and stops the run or skips and counts it."""

    policy: str
    """One of `config.ON_BAD_LINE`."""
    num_skipped: int = 0

    def meet(self, message: str) -> None:
        """Count one unusable line, row or record, or stop at it.

        Raises:
            DataError: the policy is to stop. `message` names file, line and fault.
        """
        if self.policy == "stop":
            raise DataError(message, hint="mend it, or leave such lines out with --on-bad-line skip")
        self.num_skipped += 1


def is_gzip(path: Path) -> bool:
    """Whether the file is gzipped, by its name."""
    return path.suffix.lower() == ".gz"


def is_unicode(text: str) -> bool:
    """Whether `text` has no lone surrogates, which stand for bytes that were not UTF-8."""
    return text.isprintable() or not _SURROGATE.search(text)


def read_lines(path: Path, bad: BadLines) -> Iterator[tuple[int, list[str]]]:
    r"""Yield batches of lines, each with the number of its first line, counted from 1.

    Lines end at `\n` only; the last line needs no end. A byte order mark at the file's start is removed.
    `bad` receives a line that is not UTF-8. If it skips lines, this one is yielded with lone
    surrogates for the wrong bytes (see `is_unicode`): the caller drops it, and numbers stay right.

    Raises:
        DataError: the file cannot be read, is a damaged gzip file, or has a line of over 64 MiB.
    """
    number = 1
    for block in _blocks(path):
        try:
            lines = block.decode("utf-8").split("\n")
        except UnicodeDecodeError:
            lines = [_decode(line, f"{path}, line {number + i}", bad) for i, line in enumerate(block.split(b"\n"))]
        yield number, lines
        number += len(lines)


def _decode(line: bytes, where: str, bad: BadLines) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        if bad.policy == "stop":
            bad.meet(f"{where} is not UTF-8: byte 0x{line[error.start]:02x} at position {error.start + 1}")
        return line.decode("utf-8", errors="surrogateescape")


def _blocks(path: Path) -> Iterator[bytes]:
    """Yield blocks of whole lines, about a mebibyte each, without the newline at the end of a block."""
    try:
        with _open(path) as file:
            pieces: list[bytes] = []
            size = 0
            block = file.read(BLOCK_BYTES).removeprefix(_BOM)
            while block:
                head, newline, tail = block.rpartition(b"\n")
                if newline:
                    yield b"".join((*pieces, head))
                    pieces, size = [tail], len(tail)
                else:
                    pieces.append(block)
                    size += len(block)
                    if size > MAX_LINE_BYTES:
                        raise DataError(
                            f"{path} has a line of more than {MAX_LINE_BYTES >> 20} MiB",
                            hint="name a text file with one sentence a line",
                        )
                block = file.read(BLOCK_BYTES)
            if rest := b"".join(pieces):
                yield rest
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is not a whole gzip file: {error}", hint="download it or make it again") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint=CHECK_FILE) from error


def _open(path: Path) -> BinaryIO:
    if is_gzip(path):
        return cast(BinaryIO, gzip.open(path, "rb"))
    return path.open("rb", buffering=0)
