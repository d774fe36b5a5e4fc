"""`distilcse` and `python -m distilcse_cli`: the commands, and the one place where errors become text.

Everything is imported inside `run`, so that Ctrl-C during these imports ends like any other.
"""

import os
import sys
from errno import EPIPE
from signal import SIGINT, Signals
from typing import TYPE_CHECKING

from distilcse_cli.signals import raised
from distilcse_cli.streams import guarded

if TYPE_CHECKING:
    import typer

CTRL_C = 130
CAN_CONTINUE = ("download", "extract", "compare", "eval")
"""Commands that reuse what they had finished when they were interrupted. Training says by itself how to resume."""

NUMBERS = {"HF_HUB_ETAG_TIMEOUT": int, "HF_HUB_DOWNLOAD_TIMEOUT": int, "HF_DATASETS_IN_MEMORY_MAX_SIZE": float}
"""Variables that the hub client and `datasets` turn into a number when they are imported, in the midst of the work."""


def main() -> None:
    """Run the command line; exit with 0, the error's own code, or 128 plus the number of a signal."""
    sys.exit(run())


def run() -> int:
    """Run the command line and return the exit code."""
    with raised() as wish, guarded() as stdout:
        try:
            code = _run()
        except (Exception, KeyboardInterrupt) as error:
            # other processes of the run may stop first, and then a lost connection hides the signal
            if wish.by is None and not isinstance(error, KeyboardInterrupt):
                raise
            return _interrupted(wish.by or SIGINT)
        return code or _delivered(stdout.failure)


def _run() -> int:
    import typer

    from distilcse_cli import console
    from distilcse_cli.commands import app
    from distilcse_cli.errors import DistilCSEError
    from distilcse_cli.ranks import mute_others

    mute_others()
    _ignore_what_is_no_number()
    try:
        code = app(standalone_mode=False, prog_name="distilcse") or 0
        if code == CTRL_C:  # Typer turns the KeyboardInterrupt of a command into this code
            raise KeyboardInterrupt
        return code
    except DistilCSEError as error:
        console.error(error)
        return error.exit_code
    except typer.TyperException as error:
        return _usage_error(error)


def _delivered(failure: OSError | None) -> int:
    """The exit code of a command that has ended well, but for its output. A reader that has gone is no failure."""
    if failure is None or failure.errno == EPIPE:
        return 0
    from distilcse_cli import console
    from distilcse_cli.errors import DataError

    console.error(DataError(f"cannot write to stdout: {failure.strerror}", hint="everything else is done"))
    return DataError.exit_code


def _ignore_what_is_no_number() -> None:
    from distilcse_cli import console

    for name, kind in NUMBERS.items():
        try:
            kind(os.environ.get(name) or 0)
        except ValueError:
            console.warn(f"{name} is {os.environ.pop(name)!r}, which is no number: it is ignored")


def _interrupted(by: Signals) -> int:
    """Say what stopped the command, and whether its work was in vain."""
    from distilcse_cli import console

    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    continues = command in CAN_CONTINUE or (command == "encode" and "--resume" in sys.argv)
    again = "; the same command continues from there" if continues else ""
    console.log(f"{'interrupted' if by == SIGINT else f'stopped by {by.name}'}{again}")
    return 128 + by


def _usage_error(error: "typer.TyperException") -> int:
    """Report in one line what is wrong with the command line, and where its help is."""
    from distilcse_cli import console
    from distilcse_cli.errors import UsageError

    context = getattr(error, "ctx", None)
    command = context.command_path if context else "distilcse"
    message = " ".join(error.format_message().split())
    hint = f"see {command} --help"
    if message.startswith("No such option: --offline"):
        hint = "it goes before the command: distilcse --offline COMMAND"
    console.error(UsageError(message.rstrip("."), hint=hint))
    return UsageError.exit_code


if __name__ == "__main__":
    main()
