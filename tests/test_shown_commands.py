"""Commands that the pages and the table of models show have only options that exist, also where none runs them."""

import re
from pathlib import Path

import pytest
import typer

from benchmarks import scoreboard
from distilcse_cli.commands import app
from tests.conftest import ROOT

COMMAND = re.compile(r"\bdistilcse ([a-z]+)\b((?:\\\n|[^`\n|;&])*)")
OPTION = re.compile(r"(?<=\s)--[a-z][a-z0-9-]*")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), scoreboard.RESULTS]


def _options() -> dict[str, set[str]]:
    """Name of a command -> all of its options."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return {
        name: {"--help"}.union(*(parameter.opts + parameter.secondary_opts for parameter in command.params))
        for name, command in commands.items()
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_of_a_shown_command_exists(page: Path) -> None:
    options = _options()
    shown = COMMAND.findall(page.read_text(encoding="utf-8"))
    unknown = [
        f"distilcse {command}{rest}"
        for command, rest in shown
        if command in options and not set(OPTION.findall(rest)) <= options[command]
    ]
    assert unknown == []


def test_the_pages_show_commands_of_every_kind() -> None:
    shown = {command for page in PAGES for command, _ in COMMAND.findall(page.read_text(encoding="utf-8"))}
    assert set(_options()) <= shown
