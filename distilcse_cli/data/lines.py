"""The numbered lines of a text file, packed or not."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from distilcse_cli.data.opening import BLOCK_BYTES, opened
from distilcse_cli.errors import DataError

MAX_LINE_BYTES = 64 << 20
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


def is_unicode(text: str) -> bool:
    """Whether `text` has no lone surrogates, which stand for bytes that were not UTF-8."""
    return text.isprintable() or not _SURROGATE.search(text)


def read_lines(
    path: Path, bad: BadLines, encoding: str | None = None, descriptor: int | None = None
) -> Iterator[tuple[int, list[str]]]:
    r"""Yield batches of lines, each with the number of its first line, counted from 1.

    Lines end at `\n` only, or at `\r` in a file whose first mebibyte has that alone; the last line needs no
    end. A byte order mark at the file's start is removed.
    `bad` receives a line that is not in the encoding. If it skips lines, this one is yielded with lone
    surrogates for the wrong bytes (see `is_unicode`): the caller drops it, and numbers stay right.

    Args:
        path: the file, for messages also where `descriptor` is read.
        bad: receives wrong lines.
        encoding: of the text; None is UTF-8.
        descriptor: read this open file, from where it stands.

    Raises:
        DataError: as `opened` raises; or the file has a line of over 64 MiB.
    """
    number = 1
    for block in _blocks(path, encoding, descriptor):
        try:
            lines = block.decode("utf-8").split("\n")
        except UnicodeDecodeError:
            where = f"{path}, line "
            lines = [_decode(line, f"{where}{n}", bad, encoding) for n, line in enumerate(block.split(b"\n"), number)]
        yield number, lines
        number += len(lines)


def _decode(line: bytes, where: str, bad: BadLines, encoding: str | None) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        if bad.policy == "stop":
            byte = f": byte 0x{line[error.start]:02x}" if encoding is None else ""
            bad.meet(f"{where} is not {encoding or 'UTF-8'}{byte} at position {error.start + 1}")
        return line.decode("utf-8", errors="surrogateescape")


def _blocks(path: Path, encoding: str | None, descriptor: int | None) -> Iterator[bytes]:
    r"""Yield blocks of whole lines, about a mebibyte each, with `\n` between lines and none at the block's end."""
    with opened(path, encoding, descriptor) as (kind, file):
        end = kind.line_end
        pieces: list[bytes] = []
        size = 0
        block = file.read(BLOCK_BYTES).removeprefix(_BOM)
        while block:
            head, newline, tail = block.rpartition(end)
            if newline:
                yield _with_newlines(path, b"".join((*pieces, head)), end)
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
            yield _with_newlines(path, rest, end)


def _with_newlines(path: Path, block: bytes, end: bytes) -> bytes:
    if end == b"\n":
        return block
    if b"\n" in block:
        raise DataError(
            rf"{path} ends some lines with \r alone and some with \n", hint=r"write \n at the end of each line"
        )
    return block.replace(end, b"\n")
