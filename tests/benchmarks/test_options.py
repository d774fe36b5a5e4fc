"""Each benchmark's command line can be read."""

from importlib import import_module

import pytest

from benchmarks.__main__ import NAMES
from benchmarks.common import compare
from benchmarks.peer import Peer, SideFailed


@pytest.mark.parametrize("name", NAMES)
def test_help_tells_of_the_rounds(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        import_module(f"benchmarks.{name}").main()
    assert ended.value.code == 0
    assert "--rounds" in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("option", ["--rounds", "--threads"])
def test_no_rounds_and_no_threads_are_refused(
    name: str, option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [name, option, "0"])
    with pytest.raises(SystemExit) as ended:
        import_module(f"benchmarks.{name}").main()
    assert ended.value.code == 2
    assert f"{option}: 0 is not from 1" in capsys.readouterr().err


def test_a_comparison_without_its_own_side_ends_in_one_line() -> None:
    with pytest.raises(SystemExit, match="nothing to compare with: ours could not be set up"):
        compare({}, 1, unit="sentences")


def test_an_interpreter_that_is_not_there_fails_its_side_alone() -> None:
    with pytest.raises(SideFailed, match="cannot run /no/python"):
        Peer("benchmarks.published:PublishedLoop", {}, threads=1, python="/no/python")
