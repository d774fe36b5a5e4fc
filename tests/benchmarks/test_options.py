"""Each benchmark's command line can be read."""

from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.__main__ import NAMES
from benchmarks.common import compare, read_lines, run, without_bf16
from benchmarks.distill import worth_trying
from benchmarks.peer import Peer, SideFailed
from distilcse_cli.errors import DataError
from distilcse_cli.runtime import Runtime


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


def test_bf16_sides_run_only_where_the_cpu_has_the_instructions() -> None:
    plain = Runtime(device="cpu", dtype="float32", reason="the CPU has no bf16 instructions")
    fitted = Runtime(device="cpu", dtype="bfloat16", reason="the CPU has amx_bf16")
    names = ["fp32", "bf16", "bf16, tuned"]
    reason = "left out, as the CPU has no bf16 instructions"
    assert without_bf16(names, plain) == {"bf16": reason, "bf16, tuned": reason}
    assert without_bf16(names, fitted) == {}
    # the library's defaults, and both ways in the number format of this CPU
    assert list(worth_trying(plain).values()) == [(False, False), (False, True)]
    assert list(worth_trying(fitted).values()) == [(False, False), (True, False), (True, True)]


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (DataError("no such file", hint="make one"), 3, "error: no such file"),
        (SideFailed("ValueError: broken"), "a side broke off: ValueError: broken", ""),
    ],
)
def test_what_a_user_can_mend_ends_in_one_line(
    raised: Exception, code: object, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise raised

    with pytest.raises(SystemExit) as ended:
        run(main)
    assert ended.value.code == code
    assert capsys.readouterr().err.startswith(line)


def test_missing_data_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.common.SHARED_DATA", tmp_path)
    with pytest.raises(DataError, match=r"news/captions\.en\.txt\.gz is not there"):
        read_lines("captions")
