"""All printing: results to stdout; log lines, progress and errors to stderr.

Progress is a bar on a terminal, and otherwise a plain line every ten seconds.

A program that calls the functions of `distilcse_cli` is no command: nothing is printed unless it asks for progress,
and log lines go to the logger `distilcse_cli`.
"""

import json
import logging
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

from distilcse_cli.errors import DistilCSEError

SECONDS_BETWEEN_LINES = 10.0
LOGGER = "distilcse_cli"
_muted = False
_progress_wanted: ContextVar[bool | None] = ContextVar("progress wanted", default=None)
"""What the program asks for that called us; None in a command."""


@contextmanager
def called_by_program(progress: bool) -> Iterator[None]:
    """Print nothing in the block but what it asks for: log lines and bars with `progress`, else none of them."""
    token = _progress_wanted.set(progress)
    try:
        yield
    finally:
        _progress_wanted.reset(token)


def mute() -> None:
    """Print only errors from now on: this process is one of several that do the same work."""
    global _muted
    _muted = True


def result(text: str) -> None:
    """Print a result on stdout."""
    if not _muted:
        # the name of a file need not be UTF-8
        print(text.encode("utf-8", "backslashreplace").decode("utf-8"), flush=True)


def result_json(value: Any) -> None:
    """Print a result on stdout as JSON."""
    is_utf8 = sys.stdout is None or (sys.stdout.encoding or "").lower() in ("utf-8", "utf8")
    result(json.dumps(value, indent=2, ensure_ascii=not is_utf8, allow_nan=False))


def log(message: str, *, always: bool = False, level: int = logging.INFO) -> None:
    """Print a log line on stderr; `always` also in a process that is muted. `level` is for the logger of programs."""
    if _muted and not always:
        return
    if _progress_wanted.get() is False:
        logging.getLogger(LOGGER).log(level, message)
    else:
        print(printable(message, keep="\n\t"), file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Print a warning on stderr: something to know, but not to act on."""
    if _progress_wanted.get() is False:
        log(message, level=logging.WARNING)
    else:
        log(f"warning: {message}")


def ask(question: str) -> bool:
    """Ask on stderr for yes or no; an empty answer is yes, and no answer is no."""
    print(f"{question} [Y/n] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline() if sys.stdin is not None else ""
    return bool(answer) and answer.strip().lower() in ("", "y", "yes")


def error(exception: DistilCSEError) -> None:
    """Print an error, followed by its hint, as one line on stderr."""
    hint = f" ({exception.hint})" if exception.hint else ""
    print(printable(f"error: {exception.message}{hint}"), file=sys.stderr, flush=True)


def printable(text: str, keep: str = "") -> str:
    """Escape control characters: a quoted file must not end the line or control the terminal."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else ascii(one)[1:-1] for one in text)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, align: str = "c") -> str:
    """Draw a PrettyTable. `align` is one letter for all columns or one for each: l, c, r."""
    return _drawn(header, rows, align).get_string()


def html_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, align: str = "c") -> str:
    """The same as HTML, its text escaped; for notebooks."""
    return _drawn(header, rows, align).get_html_string(format=True)


def _drawn(header: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> Any:
    from prettytable import PrettyTable

    drawn: Any = PrettyTable(list(header))
    for name, letter in zip(header, align * len(header) if len(align) == 1 else align, strict=True):
        drawn.align[name] = letter
    for row in rows:
        drawn.add_row(list(row))
    return drawn


class Progress:
    """Progress of a job: a tqdm bar on a terminal or for a program, else a line every ten seconds.

    Args:
        description: what is counted, such as "extract".
        total: how many units there are; None if unknown.
        unit: the unit's plural, such as "sentences".
        initial: units that an interrupted run has done.
    """

    def __init__(self, description: str, total: int | None, unit: str, *, initial: int = 0) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = self._initial = initial
        self.facts = ""
        self._started = self._last_line = time.monotonic()
        self._printed = initial
        self._bar: Any = None
        if has_bars():
            kind, size = _kind_of_bar(), {"total": total, "initial": initial}
            self._bar = kind(**size, desc=description, unit=f" {unit}", dynamic_ncols=True)

    def update(self, num_units: int, facts: str = "") -> None:
        """Count `num_units` more as done; `facts` (loss, rate, …) are shown after the count."""
        self.done += num_units
        self.facts = facts
        if self._bar is not None:
            self._bar.set_postfix_str(facts, refresh=False)
            self._bar.update(num_units)
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES and self.done != self.total:
            self._last_line, self._printed = time.monotonic(), self.done
            log(self._line())

    def _line(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-9)
        rate = (self.done - self._initial) / seconds
        parts = [f"{self.description}: {self.done:,}"]
        if self.total is not None:
            parts[0] += f" of {self.total:,}"
        parts[0] += f" {self.unit}"
        parts.append(f"{rate:,.0f}/s")
        if self.total is not None and rate > 0:
            parts.append(f"{duration((self.total - self.done) / rate)} left")
        if self.facts:
            parts.append(self.facts)
        return ", ".join(parts)

    def close(self) -> None:
        """Finish: leave the bar on the screen, or print a last line with count and rate, unless one has this count."""
        if self._bar is not None:
            self._bar.close()
        elif self.done > self._printed:
            log(self._line())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def has_bars() -> bool:
    """Whether progress is drawn as a bar: on a terminal, or as the program that called us wants it."""
    wanted = _progress_wanted.get()
    return (sys.stderr.isatty() if wanted is None else wanted) and not _muted


def _kind_of_bar() -> Any:
    """Plain on a terminal; for a program that runs in a notebook, a notebook's."""
    if _progress_wanted.get() is None:
        from tqdm import tqdm
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a notebook without widgets, which gets a plain one
            from tqdm.auto import tqdm
    return tqdm


def duration(seconds: float) -> str:
    """Format seconds as `42s`, `3m05s` or `2h07m`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
