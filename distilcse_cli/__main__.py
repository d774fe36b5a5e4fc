"""`distilcse` and `python -m distilcse_cli`: the commands, and the one place where errors become text."""

import sys

import typer

from distilcse_cli import console
from distilcse_cli.commands import app
from distilcse_cli.errors import DistilCSEError, UsageError
from distilcse_cli.ranks import mute_others

CTRL_C = 130


def main() -> None:
    """Run the command line; exit with 0, the error's own code, or 130 on Ctrl-C."""
    sys.exit(run())


def run() -> int:
    """Run the command line and return the exit code."""
    mute_others()
    try:
        code = app(standalone_mode=False) or 0
        if code == CTRL_C:  # Typer turns the KeyboardInterrupt of a command into this code
            console.log("interrupted; the same command again goes on from what is finished")
        return code
    except DistilCSEError as error:
        console.error(error)
        return error.exit_code
    except typer.TyperException as error:
        return _usage_error(error)
    except BrokenPipeError:
        # the reader of stdout (head, less) has gone; Python would complain once more at exit
        sys.stdout = None
        return 0


def _usage_error(error: typer.TyperException) -> int:
    """Say in one line what the command line lacks, and where its help is."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "distilcse"
    message = " ".join(error.format_message().split())
    hint = f"see {command} --help"
    if message.startswith("No such option: --offline"):
        hint = "it stands before the command: distilcse --offline COMMAND"
    console.error(UsageError(message.rstrip("."), hint=hint))
    return UsageError.exit_code


if __name__ == "__main__":
    main()
