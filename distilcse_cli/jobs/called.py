"""A job that a program calls, not a command: what it prints, raises and leaves behind are those of a library."""

import random
import re
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from distilcse_cli import console
from distilcse_cli.errors import DistilCSEError

_SEEDING = threading.RLock()
_OPTION = re.compile(r"--[a-z][a-z-]*[a-z]")


@contextmanager
def called(*, progress: bool, keywords: Mapping[str, str] | None = None) -> Iterator[None]:
    """Print nothing but progress that is wanted, and raise what programs expect.

    Args:
        progress: whether to draw bars and print log lines, on stderr or in the notebook.
        keywords: option -> how a call gives it, such as `--resume` -> `resume=True`, for the messages of errors.

    Raises:
        KeyboardInterrupt: Ctrl-C, also of a run that has saved its progress; its text says how to continue.
        DistilCSEError: as the job raised it, with the hint as a note under the message.
    """
    try:
        with console.called_by_program(progress):
            yield
    except DistilCSEError as error:
        error.message = as_keywords(error.message, keywords or {})
        error.hint = error.hint and as_keywords(error.hint, keywords or {})
        error.args = (error.message,)
        by = getattr(error, "by", None)
        if by == signal.SIGINT:
            raise KeyboardInterrupt(f"{error.message} ({error.hint})") from error
        if error.hint:
            error.add_note(f"hint: {error.hint}")
        if by is not None:
            signal.raise_signal(by)  # progress is saved: now it acts as it does in any other program
        raise


def as_keywords(text: str, keywords: Mapping[str, str]) -> str:
    """A message with keywords in place of options."""
    text = text.replace("the same command", "the same call")
    return _OPTION.sub(lambda option: keywords.get(option[0], option[0]), text)


@contextmanager
def generators_kept() -> Iterator[None]:
    """Run a block that seeds the global generators of Python, NumPy and torch, then put them back as they were.

    One such block runs at a time; other threads wait. On a GPU only the current device's generator is put back.
    """
    import numpy as np
    import torch

    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with _SEEDING, torch.random.fork_rng(devices=devices):
        python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
