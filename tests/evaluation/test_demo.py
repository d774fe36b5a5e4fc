"""What a demo does to the student of an earlier one, on a tiny teacher."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from distilcse_cli.data import catalogue
from distilcse_cli.evaluation.demo import ARTICLES, TEACHER, run_demo
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
        patch.setattr("distilcse_cli.training.stage.draw_curves", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            demo()
    assert files_of(tmp_path / "demo" / "student") == earlier

    def run_mark(files: dict[str, bytes]) -> str:
        return json.loads(files["distilcse.json"])["run"]

    assert run_mark(demo()) != run_mark(earlier)
    assert not (tmp_path / "demo" / "student.run").exists()
