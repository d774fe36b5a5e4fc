"""README's table of models and its picture say what benchmarks/results/models.json says."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import results, scoreboard
from benchmarks.peer import SideFailed
from benchmarks.results import measure_rates, read_scores
from distilcse_cli.errors import UsageError
from distilcse_cli.files import read_json

SCORES = {"STS12": {"spearman": 70.0, "pearson": 1.0}, "MRPC": {"devacc": 1.0, "acc": 73.0, "f1": 81.0}}


def _evaluated(folder: Path, name: str, *models: dict[str, Any]) -> Path:
    file = folder / name
    file.write_text(json.dumps(models[0] if len(models) == 1 else {"results": models}), encoding="utf-8")
    return file


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr("sys.argv", ["results", *map(str, arguments)])
    results.main()


def test_seeds_come_from_several_files_or_from_one(tmp_path: Path) -> None:
    one = {"tasks": SCORES, "avg_sts": 78.0, "avg_transfer": 80.0}
    other = {"tasks": {"STS12": {"spearman": 72.0}}, "avg_sts": 79.0}
    expected = {"tasks": {"STS12": [70.0, 72.0], "MRPC": [73.0]}, "sts": [78.0, 79.0], "transfer": [80.0]}
    files = [_evaluated(tmp_path, "a.json", one), _evaluated(tmp_path, "b.json", other)]
    assert read_scores(files) == expected
    assert read_scores([_evaluated(tmp_path, "both.json", one, other)]) == expected


def test_an_average_that_lacks_tasks_is_none(tmp_path: Path) -> None:
    assert read_scores([_evaluated(tmp_path, "a.json", {"tasks": SCORES, "avg_sts": None})]).keys() == {"tasks"}


def test_a_row_is_measured_and_a_second_machine_adds_its_speed(
    tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, file = tiny("bert", num_layers=2), tmp_path / "models.json"
    scores = _evaluated(tmp_path, "a.json", {"tasks": SCORES, "avg_sts": 78.0})
    monkeypatch.setattr("benchmarks.common.mixed_lines", lambda num: ["A cat."] * num)
    monkeypatch.setattr(results, "measure_rates", lambda *_: {"ours": 400.0, "sentence-transformers": None})
    start = ("--results", file, "add", "small", "--folder", folder, "--cpu")
    _run(monkeypatch, *start, "A", "--group", "ours", "--scores", scores, "--command", "make it", "--sentences", 60)
    _run(monkeypatch, *start, "B")
    row = read_json(file)["small"]
    assert row["layers"] == 2
    assert row["bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    assert (row["group"], row["command"], row["num_sentences"], row["sts"]) == ("ours", "make it", 60, [78.0])
    assert row["rates"] == {cpu: {"ours": 400.0, "sentence-transformers": None} for cpu in "AB"}


def test_a_new_row_without_scores_is_scored_in_fp32(
    tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, file = tiny("bert"), tmp_path / "models.json"

    def scored(command: list[str], *, stdout: Any, check: bool) -> SimpleNamespace:
        assert command[1:5] == ["-m", "distilcse_cli", "eval", "--model"]
        assert command[5:] == [str(folder), "--task-set", "sts", "--json", "--compute-dtype", "float32"]
        assert not check
        json.dump({"tasks": SCORES, "avg_sts": 78.0}, stdout)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr("subprocess.run", scored)
    _run(monkeypatch, "--results", file, "add", "x", "--folder", folder, "--no-speed")
    assert read_json(file)["x"]["sts"] == [78.0]


def test_what_the_trainer_left_in_the_folder_need_not_be_typed(
    tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, file = tmp_path / "student", tmp_path / "models.json"
    folder.mkdir()
    for path in tiny("bert").iterdir():
        (folder / path.name).symlink_to(path)
    facts = {"command": "train it", "num_sentences": 60, "cpu_seconds": 2.5}
    (folder / "rival.json").write_text(json.dumps(facts), encoding="utf-8")
    scores = _evaluated(tmp_path, "a.json", {"tasks": SCORES, "avg_sts": 78.0})
    _run(monkeypatch, "--results", file, "add", "x", "--folder", folder, "--scores", scores, "--no-speed")
    row = read_json(file)["x"]
    assert (row["command"], row["num_sentences"], row["cpu_seconds"]) == ("train it", 60, [2.5])


def test_the_fastest_round_counts_and_a_side_that_cannot_load_has_no_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fake:
        def __init__(self, side: str, settings: dict[str, Any], *, threads: int) -> None:
            if side.endswith("STEncode"):
                raise SideFailed("ValueError: not its layout")
            assert json.loads(Path(settings["sentences"]).read_text(encoding="utf-8")) == ["a"] * 6
            assert threads == 1
            self.seconds = iter((3.0, 2.0))

        def run(self) -> dict[str, float]:
            return {"cpu_seconds": next(self.seconds)}

        def close(self) -> None:
            pass

    monkeypatch.setattr(results, "Peer", Fake)
    assert measure_rates(tmp_path, ["a"] * 6, 2) == {"ours": 3.0, "sentence-transformers": None}  # 6 sentences in 2 s


ROWS: dict[str, Any] = {
    "all & sundry": {
        "group": "teacher",
        "bytes": 90_900_000,
        "layers": 6,
        "weights": 22_700_000,
        "rates": {"A": {"ours": 100.0, "sentence-transformers": 50.0}},
        "tasks": {"STS12": [72.0]},
        "sts": [78.9],
    },
    "small": {
        "group": "ours",
        "bytes": 9_000_000,
        "rates": {"A": {"ours": 1000.0, "sentence-transformers": None}},
        "tasks": {"STS12": [70.0, 71.0]},
        "sts": [76.0, 78.0],
        "transfer": [82.5],
        "num_sentences": 60_000,
        "cpu_seconds": [100.0, 120.0],
        "command": "distilcse distill",
    },
    "unmeasured": {"group": "other", "bytes": 1, "rates": {}, "tasks": {}},
}


def test_the_table_shows_means_and_ranges_and_leaves_unknowns_blank() -> None:
    header, _, first, second, third, _, command = scoreboard.draw_table(ROWS).splitlines()
    assert header.startswith("| model | layers | weights, M | MB | sentences/s, A | STS12 | 13 | 14 |")
    assert first == "| all & sundry | 6 | 22.7 | 90.9 | 100 / 50 | 72.00 |  |  |  |  |  |  | 78.90 |  |  |  |  |"
    averages = "77.00 (76.00 to 78.00) |  | 82.50"
    assert second == f"| small |  |  | 9.0 | 1,000 / no | 70.50 |  |  |  |  |  |  | {averages} | 60,000 | 110 |"
    assert third.startswith("| unmeasured |  |  | 0.0 |  |")
    assert command == "- small: `distilcse distill`"


def test_the_picture_puts_faster_to_the_right_and_better_on_top() -> None:
    svg = scoreboard.draw_picture(ROWS)
    circles = re.findall(r'cx="([\d.]+)" cy="([\d.]+)" r="4.5" fill="(\S+)"', svg)
    (x1, y1, fill1), (x2, y2, fill2), (x3, y3, _) = ((float(x), float(y), fill) for x, y, fill in circles)
    assert y1 == y2 < y3
    assert x2 < x1 < x3
    # log scale: 50 to 100 is log10(2) as far as 100 to 1,000
    assert (x1 - x2) / (x3 - x1) == pytest.approx(0.30103, abs=1e-3)
    assert (fill1, fill2) == (scoreboard.COLORS["teacher"], "white")
    assert ">all &amp; sundry</text>" in svg
    assert scoreboard.left_out(ROWS) == ["unmeasured"]


def test_commands_draw_both_from_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "models.json", tmp_path / "models.svg"
    file.write_text(json.dumps(ROWS), encoding="utf-8")
    _run(monkeypatch, "--results", file, "table")
    assert capsys.readouterr().out == scoreboard.draw_table(ROWS) + "\n"
    _run(monkeypatch, "--results", file, "picture", "--out", out)
    assert out.read_text(encoding="utf-8") == scoreboard.draw_picture(ROWS)
    assert "unmeasured is not drawn" in capsys.readouterr().err


def test_without_rows_the_command_that_makes_them_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"models\.json is not there"):
        _run(monkeypatch, "--results", tmp_path / "models.json", "table")


def test_readme_and_picture_are_what_the_results_draw() -> None:
    rows, readme = read_json(scoreboard.RESULTS), scoreboard.README.read_text(encoding="utf-8")
    drawn = scoreboard.with_table(readme, scoreboard.draw_table(rows))
    assert drawn == readme, "run python -m benchmarks.results table --write"
    picture = scoreboard.PICTURE.read_text(encoding="utf-8")
    assert picture == scoreboard.draw_picture(rows), "run python -m benchmarks.results picture"
