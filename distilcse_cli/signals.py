"""Signals that ask a process to stop: Ctrl-C, SIGTERM (docker stop, SLURM) and SIGHUP (a closed terminal).

All three act alike: the process cleans up, and ends with 128 plus the signal's number. A signal that was ignored
when the process started (`nohup`, a job in the background) stays ignored.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ASKING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """A signal asked this process to stop. What cleans up on Ctrl-C cleans up on the others, too."""

    def __init__(self, by: signal.Signals) -> None:
        super().__init__(by.name)
        self.by = by


class StopWish:  # no dataclass: this module is loaded before Ctrl-C is handled, so it has to load at once
    """Which signal asked this process to stop; None so far."""

    by: signal.Signals | None = None


def heard() -> list[signal.Signals]:
    """Those of the signals that this process does not ignore."""
    return [one for one in ASKING if signal.getsignal(one) != signal.SIG_IGN]


@contextmanager
def handled(act: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Call `act` for each signal that asks this process to stop, as long as the block runs.

    Python hands signals to the main thread only. In a block that another thread runs, nothing is handled.
    """
    process, is_main = os.getpid(), threading.current_thread() is threading.main_thread()

    def handle(number: int, _frame: object) -> None:
        if os.getpid() == process:
            act(signal.Signals(number))
        else:  # a forked worker, which its parent ends this way
            end(number)

    before = {number: signal.signal(number, handle) for number in (heard() if is_main else ())}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def raised() -> Iterator[StopWish]:
    """Raise `Stopped` where a signal arrives in the block.

    A closed terminal may send SIGHUP twice, and a launcher SIGTERM, so while the process cleans up only
    another Ctrl-C interrupts it.
    """
    wish = StopWish()

    def act(number: signal.Signals) -> None:
        if wish.by is None or number == signal.SIGINT:
            wish.by = wish.by or number
            raise Stopped(number)

    with handled(act):
        yield wish


def end(number: int) -> None:
    """End this process as the signal does when nobody handles it."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
