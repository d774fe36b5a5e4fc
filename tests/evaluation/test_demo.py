"""What a demo does to the student of an earlier one, and says when it is interrupted; on a tiny teacher."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distilcse_cli import catalogue
from distilcse_cli.errors import DataError
from distilcse_cli.evaluation.demo import ARTICLES, TEACHER, run_demo
from distilcse_cli.training.steps import Interrupted, NonFiniteLoss
from distilcse_cli.training.teacher_rows import StoredTeacher
from tests.training.conftest import write_corpus


@pytest.fixture
def demo(
    tiny: Callable[..., Path], tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], dict[str, bytes]]:
    """Run a demo into `demo/`; the files of its student."""
    monkeypatch.delenv("DISTILCSE_DATA", raising=False)
    assert not home.exists()
    write_corpus(tmp_path / "lines.txt", 120)
    lines = (tmp_path / "lines.txt").read_text(encoding="utf-8").splitlines()
    articles = tmp_path / "articles.jsonl"
    articles.write_text("".join(json.dumps({"text": f"So {line}."}) + "\n" for line in lines), encoding="utf-8")
    places = {TEACHER: tiny("bert", num_layers=6), ARTICLES: articles}
    monkeypatch.setattr(catalogue, "fetch", places.__getitem__)

    def run() -> dict[str, bytes]:
        run_demo(tmp_path / "demo", device="cpu", compute_dtype="float32")
        return files_of(tmp_path / "demo" / "student")

    return run


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_student_of_an_earlier_demo_stays_until_the_new_one_is_finished(
    demo: Callable[[], dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = demo()
    with monkeypatch.context() as patch:
        # the last thing before the student's folder is written
        patch.setattr("distilcse_cli.training.run.draw_curves", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            demo()
    assert files_of(tmp_path / "demo" / "student") == earlier

    def run_mark(files: dict[str, bytes]) -> str:
        return json.loads(files["distilcse.json"])["run"]

    assert run_mark(demo()) != run_mark(earlier)
    assert not (tmp_path / "demo" / "student.run").exists()


@pytest.mark.parametrize("wish", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_demo_says_what_helps_and_the_same_again_ends(
    demo: Callable[[], dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wish: signal.Signals
) -> None:
    rows = StoredTeacher.rows

    def stop(*arguments: Any) -> Any:
        os.kill(os.getpid(), wish)
        return rows(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(StoredTeacher, "rows", stop)
        with pytest.raises(Interrupted, match="interrupted during the distillation") as stopped:
            demo()
    assert stopped.value.exit_code == 128 + wish
    said = f"{stopped.value} {stopped.value.hint}"
    assert "the same command starts the distillation again" in said
    assert "--resume" not in said
    assert "is kept in" not in said, "nothing of the training is used again"
    assert demo().keys() >= {"model.safetensors", "distilcse.json"}
    assert not (tmp_path / "demo" / "student.run").exists()


def test_a_loss_that_is_not_finite_hints_at_no_option_that_the_demo_lacks(
    demo: Callable[[], dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = StoredTeacher.rows
    monkeypatch.setattr(StoredTeacher, "rows", lambda *arguments: rows(*arguments) * float("nan"))
    with pytest.raises(NonFiniteLoss, match="step 1") as stopped:
        demo()
    assert stopped.value.hint is None, "it runs in float32 as it is, and has no --lr"


def test_text_and_students_that_no_demo_made_stay(demo: Callable[[], dict[str, bytes]], tmp_path: Path) -> None:
    student, text = tmp_path / "demo" / "student", tmp_path / "demo" / "sentences.txt"
    student.mkdir(parents=True)
    # as README's five lines leave it
    asked = {"teacher": TEACHER, "student": TEACHER, "corpus": ["sentences.txt"], "keep_layers": [0, 2, 4]}
    facts = json.dumps({"stage": "distill", "asked": asked})
    (student / "distilcse.json").write_text(facts, encoding="utf-8")
    with pytest.raises(DataError, match=r"student was not made by the demo"):
        demo()
    assert (student / "distilcse.json").read_text(encoding="utf-8") == facts

    shutil.rmtree(student)
    text.write_text("years of work\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"sentences\.txt was not made by the demo"):
        demo()
    assert text.read_text(encoding="utf-8") == "years of work\n"
    assert not student.exists()
