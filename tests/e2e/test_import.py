import json
from pathlib import Path

from tests.e2e.conftest import Typed


def test_import_makes_a_store_and_refuses_to_replace_what_it_reads(typed: Typed, tmp_path: Path) -> None:
    pairs = [("a cat", [1, 0.5]), ("", [9, 9]), ("a dog", [0.25, 1]), (" a cat", [1, 0.5])]
    lines = [json.dumps({"text": text, "embedding": vector}) for text, vector in pairs]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    report = json.loads(typed("import", "a.jsonl", "--name", "a/model", "--out", "store", "--json").out)
    assert report == {
        **{"out": "store", "teacher": "a/model", "num_rows": 2, "width": 2, "dtype": "float32", "normalized": False},
        **{"num_read": 4, "dropped": {"blank": 1, "duplicate": 1}},
    }
    pair = ("store/embeddings.npy", "store/sentences.txt")
    said = typed("import", *pair, "--name", "n", "--out", "store", "--overwrite", code=2)
    assert "store/embeddings.npy, which is read" in said.err
    assert typed("import", *pair, "--name", "n", "--out", "other").out == "other: 2 rows of 2 float32, vectors of n\n"
    assert typed("import", "a.jsonl", "--name", " ", "--out", "o", code=2).err.startswith("error: --name is ' '")


def test_a_store_is_no_model(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    for name in ("embeddings.npy", "manifest.json"):
        (tmp_path / "store" / name).touch()
    (tmp_path / "a.txt").write_text("a\n", encoding="utf-8")
    said = typed("encode", "a.txt", "--model", "store", code=4)
    assert said.err.startswith("error: store is a store of embeddings, not a model: it has rows, and no weights")
