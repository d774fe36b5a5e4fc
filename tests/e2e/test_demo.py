"""The whole path as `make demo` walks it, on a part of the articles."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.real_model]


def test_the_demo_ends_with_a_table_and_a_whole_student(
    distilcse: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, minilm: Path
) -> None:
    done = distilcse("demo", "--sentences", 600, "--minutes", 60, "--out", "demo")
    shown = done.stdout
    assert "this machine" not in done.stderr, "--sentences decides"
    assert "part 1 of " in done.stderr

    cells = [[cell.strip() for cell in line.split("|")[1:]] for line in shown.splitlines() if line.startswith("|")]
    rows = {row[0]: dict(zip(cells[0], row, strict=True)) for row in cells[1:]}
    assert list(rows) == ["untrained cut", "student", "teacher"]
    assert [row["layers"] for row in rows.values()] == ["3", "3", "6"]
    # a model agrees with itself wholly
    assert (rows["teacher"]["pair Spearman"], rows["teacher"]["mean cosine"]) == ("100.00", "1.0000")
    assert shown.count("\n  distilcse ") == 3, "the three commands to type next"

    folder = tmp_path / "demo" / "student"
    settings = json.loads((folder / "distilcse.json").read_text(encoding="utf-8"))
    assert settings["student"]["keep_layers"] == settings["result"]["kept_layers"]
    assert settings["result"]["kept_layers"][-1] == 5, "the teacher's last layer"
    assert settings["result"]["num_sentences"] + 30 == 600, "a twentieth is held out"
    assert (folder / "model.safetensors").is_file()
    assert minilm.is_dir()


def test_the_demo_refuses_a_folder_that_is_not_its_own(
    distilcse: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    mine = tmp_path / "demo" / "student"
    mine.mkdir(parents=True)
    (mine / "thesis.txt").write_text("years of work", encoding="utf-8")
    done = distilcse("demo", "--out", "demo", code=3)
    assert "was not made by the demo" in done.stderr
    assert (mine / "thesis.txt").read_text(encoding="utf-8") == "years of work"


@pytest.mark.parametrize("settings", ["", "{", "[]", '{"stage": "finetune"}', '{"stage": null}'])
def test_the_demo_refuses_a_folder_whose_settings_are_no_demos(
    distilcse: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, settings: str
) -> None:
    student = tmp_path / "demo" / "student"
    student.mkdir(parents=True)
    (student / "distilcse.json").write_text(settings, encoding="utf-8")
    done = distilcse("demo", "--out", "demo", code=3)
    assert "was not made by the demo" in done.stderr
    assert "Traceback" not in done.stderr
    assert (student / "distilcse.json").read_text(encoding="utf-8") == settings


def test_an_out_that_is_too_long_is_one_line(distilcse: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = distilcse("demo", "--out", "x" * 300, code=3)
    assert "cannot use" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_demo_of_no_minutes_is_refused(distilcse: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert "--minutes is 0.0, but must be a positive number" in distilcse("demo", "--minutes", 0, code=2).stderr
