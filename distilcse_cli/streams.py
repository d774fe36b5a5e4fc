"""Standard streams that are always there and always take text.

The three streams of a process may be closed, on a full disk, without a reader, or in an encoding that lacks a
letter. None of that may end hours of work, and no file of ours may get the number of a closed stream.
"""

import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class Sink(io.FileIO):
    """Writes to a descriptor. What cannot be written is lost, and the first reason is kept."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write some of `data`; return how many bytes are done with."""
        try:
            while (written := super().write(data)) is None:  # another program made it non-blocking, and it is full
                select.select([], [self], [])
            return written
        except OSError as error:
            self.failure = self.failure or error
            return len(data)


@contextmanager
def guarded() -> Iterator[Sink]:
    """Replace stdout and stderr by streams that raise nothing, as long as the block runs.

    Streams that are no descriptor 1 or 2 stay: somebody in this process has put them there to listen.

    Yields:
        What stdout writes to, with its failure.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it takes the lowest free number, so this one
    before = sys.stdout, sys.stderr
    out, err = Sink(1, "w", closefd=False), Sink(2, "w", closefd=False)
    if _is_descriptor(sys.stdout, 1):
        sys.stdout = _text(out, before[0])
    if _is_descriptor(sys.stderr, 2):
        sys.stderr = _text(err, before[1])
    try:
        yield out
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        sys.stdout, sys.stderr = before


def _is_descriptor(stream: TextIO | None, number: int) -> bool:
    try:
        return stream is None or stream.fileno() == number
    except (OSError, ValueError):
        return False


def _text(sink: Sink, like: TextIO | None) -> TextIO:
    encoding = like.encoding if like is not None else "utf-8"
    is_line = like.line_buffering if isinstance(like, io.TextIOWrapper) else True
    return io.TextIOWrapper(
        io.BufferedWriter(sink), encoding=encoding, errors="backslashreplace", line_buffering=is_line
    )
