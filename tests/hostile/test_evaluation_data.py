"""Hostile evaluation data, downloads and environments."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile.case import Case, copy_of, cut, folder, ids
from tests.hostile.conftest import TALLY, Command, Ended, snapshot
from tests.hostile.test_models import evil, write

EVAL = "eval --model {model} --tasks STS16 --data ./bad"
FOLDER = "downstream/STS/STS16-en-test/"
INPUT, GOLD = FOLDER + "STS.input.headlines.txt", FOLDER + "STS.gs.headlines.txt"
Spoil = Callable[[Path], object]


def lines(name: str, change: Callable[[list[str]], list[str]]) -> Spoil:
    """Change the lines of a file."""

    def spoil(data: Path) -> None:
        changed = change((data / name).read_text(encoding="utf-8").splitlines())
        (data / name).write_text("".join(f"{line}\n" for line in changed), encoding="utf-8")

    return spoil


def a_folder(name: str) -> Spoil:
    def spoil(data: Path) -> None:
        (data / name).unlink()
        (data / name).mkdir()

    return spoil


def first(line: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: [line, *lines[1:]]


def case(what: str, spoil: Spoil, says: str) -> Case:
    job = {"ordinary": True} if what == "unreadable" else {}
    return Case(f"eval: {what}", EVAL, 3, says, {"bad": copy_of("data", spoil)}, job)


CASES = [
    Case("eval: no data", EVAL, 3, "bad"),
    Case("eval: an empty folder", EVAL, 3, "STS16", {"bad": folder}),
    Case("eval: a file for the folder", EVAL, 3, "bad", {"bad": "text"}),
    Case("eval: no data in the data home", "eval --model {model} --tasks STS16", 3, "--data DIR"),
    case("a file missing", lambda data: (data / GOLD).unlink(), "STS.gs.headlines.txt"),
    case("a folder for a file", a_folder(INPUT), "STS.input.headlines.txt"),
    case("unreadable", lambda data: (data / INPUT).chmod(0), "Permission denied"),
    case("an empty file", write(INPUT, b""), "STS.input.headlines.txt"),
    case("a file cut short", lambda data: cut(data / INPUT), "STS.input.headlines.txt"),
    case("a line too many", lines(GOLD, lambda lines: [*lines, "1.0"]), "STS.gs.headlines.txt"),
    case("a line too few", lines(INPUT, lambda lines: lines[1:]), "headlines"),
    case("a tab missing", lines(INPUT, first("the cat and the dog")), "STS.input.headlines.txt, line 1"),
    case("a score that is text", lines(GOLD, first("high")), "STS.gs.headlines.txt, line 1"),
    case("a score that is NaN", lines(GOLD, first("nan")), "STS.gs.headlines.txt, line 1"),
    case("an infinite score", lines(GOLD, first("inf")), "STS.gs.headlines.txt, line 1"),
    case("a pickle for a file", lambda data: evil(data / INPUT), "STS.input.headlines.txt"),
    case("NULs", write(GOLD, bytes(999)), "STS.gs.headlines.txt"),
    Case(
        "eval: data in no encoding", EVAL, 3, "headlines", {"bad": copy_of("data", write(INPUT, b"\xff\xfe\n" * 249))}
    ),
]


def record(**changes: object) -> str:
    fields = {"format": 1, "name": "nli", "source": "x", "sha256": None, "files": []}
    return json.dumps(fields | changes)


DOWNLOADS = [
    *[
        Case(
            f"download: {what}",
            "download --verify nli",
            3,
            "1 of 1 downloads are not what they were: nli",
            {"home/datasets/nli/source.json": content},
            {"environment": {"DISTILCSE_HOME": "home"}},
        )
        for what, content in (
            ("an empty record", ""),
            ("a record cut short", '{"format": 1, "fil'),
            ("a record that is a list", "[]"),
            ("a record without files", '{"format": 1}'),
            ("a record of a file that is gone", record(files=[{"path": "x.csv", "bytes": 3, "sha256": "0" * 64}])),
            ("a record of noise", b"\xff\xfe\x00"),
        )
    ],
    Case("download: verify what is not here", "download --verify nli", 3, "1 of 1 downloads are not what they were"),
    Case(
        "download: remove what is not ours",
        "download --remove nli",
        3,
        "was not made by distilcse download",
        {"home/datasets/nli/mine.txt": "mine"},
        {"environment": {"DISTILCSE_HOME": "home"}},
    ),
    Case(
        "download: a file for the data home",
        "download nli",
        3,
        "cannot write home/datasets/nli",
        {"home": "text"},
        {"environment": {"DISTILCSE_HOME": "home"}},
    ),
    Case("download: into a file", "download nli --dir taken", 3, "cannot write taken/nli", {"taken": "text"}),
]
ALL = [*CASES, *DOWNLOADS]


@pytest.mark.parametrize("hostile", ALL, ids=ids(ALL))
def test_hostile_evaluation_data_and_records_are_refused_in_one_line(
    refuse: Callable[[Case], Ended], hostile: Case
) -> None:
    ended = refuse(hostile)
    if hostile.line.startswith("eval"):
        assert ended.out == ""


def test_a_damaged_result_of_an_earlier_run_is_scored_again(
    command: Command, materials: dict[str, Path], tmp_path: Path
) -> None:
    line = "eval --model {model} --tasks STS16 --data {data}"
    first_run = command(line)
    assert first_run.code == 0, first_run.err
    (kept,) = (tmp_path / "home" / "results").glob("*.json")
    for content in (b"", b"{", b"[]", b'{"kind": "os.system", "score": {}}', b"\xff"):
        kept.write_bytes(content)
        again = command(line)
        assert (again.code, again.out) == (0, first_run.out), again.err
    del materials


@pytest.mark.e2e
def test_the_installed_command_says_the_same(
    distilcse: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, materials: dict[str, Path]
) -> None:
    """A few of the cases as a user meets them, interpreter and all."""
    evil(tmp_path / "evil.pth")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    environment = os.environ | {
        "DISTILCSE_HOME": str(tmp_path.with_name(f"{tmp_path.name}-home")),
        "OMP_NUM_THREADS": "1",
    }
    model = materials["model"]
    before = snapshot(tmp_path)
    for arguments, code, says in (
        (("encode", "latin.txt", "--model", model, "--out", "rows.npy"), 3, "latin.txt, line 1 is not UTF-8"),
        (("convert", "evil.pth", "--out", "student", "--base", model), 4, "would run posix.system"),
        (("distill", "--teacher", model, "--student", model, "--corpus", "x", "--out", "y", "--lr", "nan"), 2, "--lr"),
    ):
        done = distilcse(*arguments, code=code, cold=True, env=environment)
        TALLY.inputs += 1
        assert done.stderr.splitlines()[-1].startswith("error: ")
        assert says in done.stderr
        assert "Traceback" not in done.stderr
        assert snapshot(tmp_path) == before
        TALLY.refused += 1
