"""All printing: results to stdout; log lines, progress and errors to stderr.

Progress is a bar on a terminal, and otherwise a plain line every ten seconds.
"""

import json
import sys
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from distilcse_cli.errors import DistilCSEError

SECONDS_BETWEEN_LINES = 10.0
_muted = False


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


def log(message: str, *, always: bool = False) -> None:
    """Print a log line on stderr; `always` also in a process that is muted."""
    if always or not _muted:
        print(printable(message, keep="\n\t"), file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Print a warning on stderr: something to know, but not to act on."""
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
    from prettytable import PrettyTable

    drawn: Any = PrettyTable(list(header))
    for name, letter in zip(header, align * len(header) if len(align) == 1 else align, strict=True):
        drawn.align[name] = letter
    for row in rows:
        drawn.add_row(list(row))
    return drawn.get_string()


class Progress:
    """Progress of a job: a tqdm bar on a terminal, else a line every ten seconds.

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
        self._bar: Any = None
        if sys.stderr.isatty() and not _muted:
            from tqdm import tqdm

            self._bar = tqdm(total=total, desc=description, unit=f" {unit}", initial=initial, dynamic_ncols=True)

    def update(self, num_units: int, facts: str = "") -> None:
        """Count `num_units` more as done; `facts` (loss, rate, …) are shown after the count."""
        self.done += num_units
        self.facts = facts
        if self._bar is not None:
            self._bar.set_postfix_str(facts, refresh=False)
            self._bar.update(num_units)
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES and self.done != self.total:
            self._last_line = time.monotonic()
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
        """Finish: leave the bar on the screen, or print a last line with count and rate."""
        if self._bar is not None:
            self._bar.close()
        elif self.done > self._initial:
            log(self._line())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def duration(seconds: float) -> str:
    """Format seconds as `42s`, `3m05s` or `2h07m`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
