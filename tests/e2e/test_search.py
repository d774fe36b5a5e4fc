"""`distilcse index` and `distilcse search`, as a user types them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Typed

pytestmark = pytest.mark.e2e
SENTENCES = ["the cat sleeps", "a dog runs to the river", "a man eats", "the market is red"]


@pytest.fixture
def store(typed: Typed, tmp_path: Path, home: Path, tiny: Callable[..., Path]) -> Path:  # noqa: ARG001
    (tmp_path / "text.txt").write_text("\n".join(SENTENCES) + "\n", encoding="utf-8")
    model = ("--pooler", "avg")
    typed("extract", "--teacher", tiny("bert"), *model, "--corpus", "text.txt", "--out", "store")
    return tmp_path / "store"


def test_a_store_is_indexed_and_searched(typed: Typed, store: Path) -> None:  # noqa: ARG001
    made = typed("index", "store", "--out", "index", "--json")
    report = json.loads(made.out)
    assert (report["num_rows"], report["width"], report["factory"], report["recall_at_10"]) == (4, 16, "Flat", 1.0)
    assert "index Flat of 4 rows of 16 numbers: about" in made.err
    found = json.loads(typed("search", "--index", "index", "a man eats", "-k", 2, "--json").out)
    assert found[0]["query"] == "a man eats"
    first = found[0]["results"][0]
    assert (first["rank"], first["row"], first["sentence"]) == (1, 2, "a man eats")
    assert first["score"] == pytest.approx(1, abs=1e-5)
    table = typed("search", "--index", "index", "a man eats", "-k", 2).out
    assert table.startswith("a man eats\n+")
    assert "| 1 | 1.0000 |   2 | a man eats" in table
    checked = typed("search", "--index", "index", "--check", 4, "-k", 3).out
    assert checked.startswith("recall@3 1.0000 against exact search, 4 queries")
    assert "queries/s" in checked


def test_queries_of_a_file_are_answered_in_their_order(typed: Typed, store: Path, tmp_path: Path) -> None:  # noqa: ARG001
    typed("index", "store", "--out", "index")
    (tmp_path / "queries.txt").write_text("\n".join(SENTENCES[::-1]) + "\n", encoding="utf-8")
    asked = ("search", "--index", "index", "--queries", "queries.txt", "-k", 1)
    found = json.loads(typed(*asked, "--json").out)
    assert [one["results"][0]["row"] for one in found] == [3, 2, 1, 0]
    assert json.loads(typed(*asked, "--check", 2, "--json").out)["num_queries"] == 2
    (tmp_path / "queries.txt").write_text("a cat\n\n", encoding="utf-8")
    assert "query 2 is blank" in typed(*asked, code=3).err
    (tmp_path / "queries.txt").write_text("", encoding="utf-8")
    assert "the file of queries has no lines" in typed(*asked, code=3).err


def test_encoded_rows_are_indexed_with_their_text(
    typed: Typed,
    store: Path,  # noqa: ARG001
    tiny: Callable[..., Path],
) -> None:
    model = ("--model", tiny("bert"), "--pooler", "avg")
    typed("encode", "text.txt", *model)
    assert (
        "name what was encoded, and by what: --sentences FILE" in typed("index", "text.npy", "--out", "i", code=2).err
    )
    typed("index", "text.npy", "--sentences", "text.txt", *model, "--out", "i")
    assert "| 1 | 1.0000 |   2 | a man eats" in typed("search", "--index", "i", "a man eats", "-k", 1).out
    other = typed("search", "--index", "i", "--model", tiny("bert", seed=1), "x", code=2)
    assert other.err.count("\n") == 2  # what pooling is used, and the error
    assert f"i holds rows of {tiny('bert')} (" in other.err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("search", "--index", "index", "x", "-k", 5), 2, "-k is 5, but index has 4 rows"),
        (("search", "--index", "index", " "), 2, "a query is empty"),
        (("search", "--index", "index"), 2, "there is nothing to search for"),
        (("search", "--index", "index", "x", "--rows", "store"), 2, "--rows is for --check"),
        (("search", "--index", "index", "--queries", "nowhere"), 3, "nowhere does not exist"),
        (("search", "--index", "store", "x"), 3, "store is no index"),
        (("search", "--index", "index", "--check", 3, "-k", 4), 2, "-k is 4, but a query of index has 3 rows to find"),
        (("index", "store", "--out", "index"), 3, "index is not empty"),
        (("index", "nowhere", "--out", "other"), 3, "nowhere does not exist"),
        (("index", "store", "--sentences", "text.txt", "--out", "other"), 2, "--sentences does not go with store"),
        (("index", "store", "--out", "store/index"), 2, "lies inside of store"),
        (("index", "store", "--out", "other", "--device", "cuda"), 5, "needs faiss-gpu"),
    ],
)
def test_what_goes_wrong_is_one_line(
    typed: Typed,
    store: Path,  # noqa: ARG001
    words: tuple[object, ...],
    code: int,
    message: str,
) -> None:
    typed("index", "store", "--out", "index")
    said = typed(*words, code=code)
    assert message in said.err.splitlines()[-1]
    assert said.out == ""
