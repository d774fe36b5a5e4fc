import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

pytestmark = pytest.mark.e2e
Command = Callable[..., CompletedProcess[str]]


@pytest.fixture
def arguments(tmp_path: Path, home: Path, tiny: Callable[..., Path]) -> list[object]:  # noqa: ARG001
    first, second = tmp_path / "first.txt", tmp_path / "second.jsonl"
    first.write_text("the cat sleeps\n\na dog runs to the river\nthe cat sleeps\n", encoding="utf-8")
    second.write_text('{"text": "a man eats"}\n{"text": "red"}\n', encoding="utf-8")
    return ["extract", "--teacher", tiny("bert"), "--corpus", first, "--corpus", second, "--out", tmp_path / "out"]


def test_extract_then_again_then_otherwise(distilcse: Command, arguments: list[object], tmp_path: Path) -> None:
    done = distilcse(*arguments, "--json", "--normalize", "--min-words", 2)
    result = json.loads(done.stdout)
    # a blank line, a repeated sentence and one of a single word are no rows
    assert (result["num_rows"], result["width"], result["num_extracted"]) == (3, 16, 3)
    rows = np.load(tmp_path / "out" / "embeddings.npy", mmap_mode="r")
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    text = (tmp_path / "out" / "sentences.txt").read_text(encoding="utf-8")
    assert text == "the cat sleeps\na dog runs to the river\na man eats\n"

    again = distilcse(*arguments, "--normalize", "--min-words", 2)
    assert "is complete already (3 rows)" in again.stderr
    assert "3 rows of 16 float32" in again.stdout

    other = distilcse(*arguments, "--normalize", "--min-words", 2, "--dtype", "float16", code=3)
    assert other.stdout == ""
    assert "does not fit this run: dtype is float32 there, float16 here" in other.stderr.splitlines()[-1]


def test_a_missing_corpus_is_said_before_the_model_is_loaded(
    distilcse: Command,
    tmp_path: Path,
    home: Path,  # noqa: ARG001
) -> None:
    done = distilcse("extract", "--teacher", "nobody/knows", "--corpus", "nowhere.txt", "--out", "out", code=3)
    assert "nowhere.txt" in done.stderr.splitlines()[-1]
    assert list(tmp_path.glob("out*")) == []
