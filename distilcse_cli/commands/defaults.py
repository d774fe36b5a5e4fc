"""What a command knows besides its options: which of them were given, its processes, the default model."""

import os
import sys
from collections.abc import Callable

import typer

from distilcse_cli import console
from distilcse_cli.config import MachineSettings
from distilcse_cli.errors import UsageError
from distilcse_cli.jobs.defaults import Given
from distilcse_cli.launcher import launch


def given(context: typer.Context) -> Given:
    """What is on the command line, and what comes from a settings file or preset."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name: one.name == "COMMANDLINE" for name, one in sources.items() if one and one.name != "DEFAULT"}


def in_processes(machine: MachineSettings) -> Callable[[], None]:
    """For a job to call once its inputs are checked: `--nproc` starts the processes, and when they are done, ends."""

    def start() -> None:
        if launch(machine.nproc, sys.argv[1:], machine.device):
            raise typer.Exit

    return start


def model_or_default(model: str | None) -> str:
    """The model to use: `model`, else `$DISTILCSE_MODEL`, else the catalogue's default model if it is downloaded.

    On a terminal, asks whether to download the default model, and does.

    Raises:
        UsageError: there is no model; the hint ends with the command that downloads the default one.
        NetworkError: the download failed.
    """
    from distilcse_cli import catalogue

    name = catalogue.DEFAULT_MODEL
    chosen = model or os.environ.get("DISTILCSE_MODEL")
    if chosen:
        return chosen
    if catalogue.present(name) is None:
        if not _agrees_to_download(name):
            hint = f"name one with --model REF or DISTILCSE_MODEL=REF, or run: distilcse download {name}"
            raise UsageError("no model is named, and the default model is not downloaded", hint=hint)
        catalogue.fetch(name)
    return name


def _agrees_to_download(name: str) -> bool:
    """Ask, where somebody can answer and a download is allowed."""
    from distilcse_cli import catalogue
    from distilcse_cli.catalogue.offline import is_offline

    if is_offline() or sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    num_bytes = catalogue.entry(name).source.num_download_bytes
    size = "" if num_bytes is None else f" ({num_bytes / 1e6:.1f} MB)"
    return console.ask(f"Download {name}{size}?")
