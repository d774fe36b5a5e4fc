"""Ctrl-C and SIGTERM as a wish that the loop reads at its next step boundary."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from distilcse_cli.errors import DistilCSEError


@dataclass
class StopWish:
    """Whether somebody asked this process to stop, and how."""

    by: signal.Signals | None = None


class Interrupted(DistilCSEError):
    """The run was asked to stop and has saved where it is."""

    def __init__(self, message: str, by: signal.Signals, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.by = by
        self.exit_code = 128 + by.value


@contextmanager
def stop_wishes() -> Iterator[StopWish]:
    """Catch the first SIGINT or SIGTERM in the context; a second one ends the process at once."""
    wish = StopWish()

    def note(number: int, _frame: FrameType | None) -> None:
        if wish.by is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        wish.by = signal.Signals(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
