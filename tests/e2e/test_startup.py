"""Help and usage errors answer without torch; errors are one line with the right exit code."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import typer

from distilcse_cli import __main__ as main
from distilcse_cli.commands import app

pytestmark = pytest.mark.e2e

HEAVY = ("torch", "transformers", "datasets", "pyarrow", "scipy", "sklearn", "faiss", "pandas")
COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
Run = Callable[..., subprocess.CompletedProcess[str]]


def _heavy_modules_after(*arguments: str) -> str:
    """Names of the heavy modules in a process that has just run the command line."""
    code = (
        "import sys\n"
        "from distilcse_cli.__main__ import run\n"
        f"sys.argv = ['distilcse', *{list(arguments)!r}]\n"
        "run()\n"
        f"print('\\nheavy:', *[name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command: str) -> None:
    assert _heavy_modules_after(command, "--help") == "heavy:"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("nonsense",),
        ("distill",),
        ("distill", "--no-such-option"),
        ("distill", "--teacher", "a", "--student", "b", "--corpus", "c", "--out", "d", "--bank-size", "-1"),
        ("distill", "--teacher", "a", "--student", "b", "--corpus", "c", "--out", "d", "--teacher-pooler", "nonesuch"),
        ("encode", "file.txt", "--out", "rows.xyz"),
        ("encode",),
    ],
)
def test_usage_errors_import_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert _heavy_modules_after(*arguments) == "heavy:"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "error: No such command 'nonsense' (see distilcse --help)"),
        (["distill", "--zzz"], "error: No such option: --zzz (see distilcse distill --help)"),
        (["encode", "--batch-tokens", "many"], "error: Invalid value for '--batch-tokens'"),
        (["distill"], "error: Missing option '--student' (see distilcse distill --help)"),
    ],
)
def test_a_usage_error_is_one_line_on_stderr(distilcse: Run, arguments: list[str], message: str) -> None:
    done = distilcse(*arguments, code=2)
    assert done.stdout == ""
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "option",
    [
        ("--bank-size", "-1"),
        ("--batch-size", "0"),
        ("--lr", "nan"),
        ("--lr", "-0.1"),
        ("--logit-scale", "inf"),
        ("--epochs", "0"),
        ("--loss", "hinge"),
        ("--keep-layers", "one"),
    ],
)
def test_a_setting_out_of_range_names_the_option(distilcse: Run, option: tuple[str, str]) -> None:
    required = ["--teacher", "a", "--student", "b", "--corpus", "c", "--out", "d"]
    done = distilcse("distill", *required, *option, code=2)
    assert option[0] in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--offline extract --teacher t", "interrupted; the same command continues from there\n"),
        ("encode file.txt", "interrupted\n"),
        ("encode file.txt --resume", "interrupted; the same command continues from there\n"),
        ("convert weights.pth", "interrupted\n"),
        ("distill --teacher t", "interrupted\n"),
    ],
)
def test_only_a_command_that_can_continue_says_so_on_ctrl_c(
    line: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("distilcse_cli.commands.app", lambda **_: 130)  # what Typer makes of a KeyboardInterrupt
    monkeypatch.setattr(sys, "argv", ["distilcse", *line.split()])
    assert main.run() == 130
    assert capsys.readouterr().err == said


def test_without_arguments_the_help_is_shown(distilcse: Run) -> None:
    shown = distilcse(cold=True).stdout
    assert {"distill", "eval"} <= set(COMMANDS)
    assert all(f"\n  {command} " in shown for command in COMMANDS)
    assert "--install-completion" in shown


def test_version_is_that_of_the_package(distilcse: Run) -> None:
    from distilcse_cli import __version__

    assert distilcse("--version", cold=True).stdout == f"distilcse {__version__}\n"
