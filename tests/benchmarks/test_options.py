"""Every benchmark reads its command line, and what its user can fix ends it with one line."""

from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.__main__ import NAMES
from benchmarks.common import compare, read_lines, run, without_bf16
from benchmarks.peer import Peer, SideFailed
from benchmarks.training import worth_trying
from distilcse_cli.errors import DataError
from distilcse_cli.runtime import Runtime

PROGRAMS = (*NAMES, "checkouts", "__main__")


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "--rounds"),
        (["--rounds", "0"], 2, "--rounds: 0 is not from 1"),
        (["--threads", "0"], 2, "--threads: 0 is not from 1"),
    ],
)
def test_help_tells_of_the_rounds_and_none_are_refused(
    name: str,
    arguments: list[str],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", [name, *arguments])
    with pytest.raises(SystemExit) as ended:
        import_module(f"benchmarks.{name}").main()
    assert ended.value.code == code
    assert said in "".join(capsys.readouterr())


def test_one_file_cannot_take_the_results_of_all_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", "--out", "all.json"])
    with pytest.raises(SystemExit, match="--out is for one benchmark"):
        import_module("benchmarks.__main__").main()


def test_a_comparison_without_its_own_side_ends_in_one_line() -> None:
    with pytest.raises(SystemExit, match="nothing to compare with: ours could not be set up"):
        compare({}, 1, unit="sentences")


def test_an_interpreter_that_is_not_there_fails_its_side_alone() -> None:
    with pytest.raises(SideFailed, match="cannot run /no/python"):
        Peer("benchmarks.sides:Encode", {}, threads=1, python="/no/python")


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
        (SideFailed("ValueError: broken"), "a side failed: ValueError: broken", ""),
    ],
)
def test_what_a_user_can_fix_ends_in_one_line(
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
