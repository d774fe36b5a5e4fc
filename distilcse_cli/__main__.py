"""`distilcse` and `python -m distilcse_cli`: the commands, and the one place where errors become text."""

import os
import sys

import typer

from distilcse_cli import console
from distilcse_cli.commands import app
from distilcse_cli.errors import DistilCSEError, UsageError
from distilcse_cli.ranks import mute_others

CTRL_C = 130
CAN_CONTINUE = ("download", "extract", "eval")
"""Commands that reuse what they had finished when they were interrupted. Training says by itself how to resume."""

NUMBERS = {"HF_HUB_ETAG_TIMEOUT": int, "HF_HUB_DOWNLOAD_TIMEOUT": int, "HF_DATASETS_IN_MEMORY_MAX_SIZE": float}
"""Variables that the hub client and `datasets` turn into a number when they are imported, in the midst of the work."""


def main() -> None:
    """Run the command line; exit with 0, the error's own code, or 130 on Ctrl-C."""
    sys.exit(run())


def run() -> int:
    """Run the command line and return the exit code."""
    mute_others()
    _ignore_what_is_no_number()
    try:
        code = app(standalone_mode=False, prog_name="distilcse") or 0
        if code == CTRL_C:  # Typer turns the KeyboardInterrupt of a command into this code
            command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
            again = "; the same command continues from there" if command in CAN_CONTINUE else ""
            console.log(f"interrupted{again}")
        return code
    except DistilCSEError as error:
        console.error(error)
        return error.exit_code
    except typer.TyperException as error:
        return _usage_error(error)
    except BrokenPipeError:
        # the reader of stdout (head, less) has ended; Python would complain once more at exit
        sys.stdout = None
        return 0


def _ignore_what_is_no_number() -> None:
    for name, kind in NUMBERS.items():
        try:
            kind(os.environ.get(name) or 0)
        except ValueError:
            console.warn(f"{name} is {os.environ.pop(name)!r}, which is no number: it is ignored")


def _usage_error(error: typer.TyperException) -> int:
    """Report in one line what is wrong with the command line, and where its help is."""
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
