"""Closed, full or narrow standard streams end no work, and each signal that asks to stop ends it cleanly."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from distilcse_cli import __main__ as main
from distilcse_cli import console, signals, streams
from distilcse_cli.files import atomic_path
from tests.conftest import DISTILCSE

pytestmark = pytest.mark.e2e


def shell(line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a shell line in which `D` stands for the installed command."""
    command = ["bash", "-o", "pipefail", "-c", line.replace("D ", f"{DISTILCSE} ")]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables})


@pytest.mark.parametrize("line", ["D --version 2>&-", "D --version 2>/dev/full", "D --help | true", "D --help >&-"])
def test_a_command_ends_well_whatever_its_streams_are(line: str) -> None:
    done = shell(line)
    assert (done.returncode, done.stderr) == (0, "")
    assert not done.stdout or done.stdout.startswith("distilcse ")


def test_a_result_for_a_full_disk_is_one_line_and_a_code() -> None:
    done = shell("D --version >/dev/full")
    assert done.returncode == 3
    assert done.stderr == "error: cannot write to stdout: No space left on device (everything else is done)\n"


def test_log_lines_never_reach_stdout() -> None:
    done = shell("D encode nowhere.txt --model nowhere 2>&-")
    assert (done.returncode, done.stdout) == (3, "")


def test_a_narrow_encoding_escapes_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    done = shell("D encode naïve.npy --out ï.xyz", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert shell("D download --list", PYTHONIOENCODING="ascii").returncode == 0
    bytes_ = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_, encoding="ascii"))
    console.result_json({"out": "naïve"})
    assert json.loads(bytes_.getvalue()) == {"out": "naïve"}


def test_a_stream_that_takes_nothing_keeps_its_first_failure() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    sink = streams.Sink(writer, "w")
    assert sink.write(b"ab") == sink.write(b"ab") == 2
    assert isinstance(sink.failure, BrokenPipeError)
    sink.close()


@pytest.mark.parametrize("number", signals.ASKING)
def test_each_signal_removes_temporary_files_and_has_its_code(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def app(**_: object) -> int:
        with atomic_path(tmp_path / "rows.npy"):
            os.kill(os.getpid(), number)
        return 0

    monkeypatch.setattr("distilcse_cli.commands.app", app)
    monkeypatch.setattr(sys, "argv", ["distilcse", "encode", "file.txt"])
    before = signal.getsignal(number)
    assert main.run() == 128 + number
    assert list(tmp_path.iterdir()) == []
    said = "interrupted" if number == signal.SIGINT else f"stopped by {number.name}"
    assert capsys.readouterr().err == f"{said}\n"
    assert signal.getsignal(number) == before


def test_an_error_that_a_signal_causes_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def app(**_: object) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise RuntimeError("connection closed by peer") from None
        return 0

    monkeypatch.setattr("distilcse_cli.commands.app", app)
    assert main.run() == 128 + signal.SIGTERM


def test_what_nohup_ignores_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in signals.heard()
        monkeypatch.setattr("distilcse_cli.commands.app", lambda **_: os.kill(os.getpid(), signal.SIGHUP) or 0)
        assert main.run() == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_while_it_cleans_up_a_second_hangup_is_ignored() -> None:
    with signals.raised() as wish:
        with pytest.raises(signals.Stopped):
            os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert wish.by == signal.SIGHUP


def test_a_worker_does_not_take_over_the_handlers() -> None:
    with signals.raised():
        pid = os.fork()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM


def test_ctrl_c_while_the_commands_are_imported_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> Callable[..., object]:
        raise KeyboardInterrupt

    code = "import sys; from distilcse_cli.__main__ import run; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"typer", "dataclasses", "distilcse_cli.commands"} & set(loaded), "they are imported in `run`"
    monkeypatch.setattr("distilcse_cli.ranks.mute_others", interrupt)
    assert main.run() == 130
    assert capsys.readouterr().err == "interrupted\n"
