"""Names of students are looked up before their teacher runs, which can take hours."""

from pathlib import Path

import pytest

from distilcse_cli.errors import ModelError
from distilcse_cli.evaluation.compare import compare
from distilcse_cli.evaluation.settings import CompareSettings
from tests.evaluation.small import Tiny
from tests.tiny import WORDS


def test_a_mistyped_student_is_said_before_the_teacher_runs(tiny: Tiny, home: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "sentences.txt"
    corpus.write_text("".join(f"{word} {number}\n" for number, word in enumerate(WORDS)), encoding="utf-8")
    teacher, settings = str(tiny("bert")), CompareSettings(device="cpu", compute_dtype="float32")
    with pytest.raises(ModelError, match="no model nosuch"):
        compare(teacher, [teacher, "nosuch"], [str(corpus)], settings=settings)
    assert list(home.rglob("*.npy")) == []
