"""Vectors of other programs become a store: the same rows, the same order, and a name for every fault."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.cleaning import FirstRows
from distilcse_cli.data.corpus import prepare_corpus
from distilcse_cli.errors import DataError, UsageError
from distilcse_cli.teacher.imported import Imported, import_vectors
from distilcse_cli.teacher.settings import ImportSettings
from distilcse_cli.teacher.store import open_store, vectors_fingerprint

TEXTS = ["a cat", " a\tdog ", "", "a cat", "the man"]
VECTORS = [[1, 0.5], [0.25, 1], [9, 9], [1, 0.5], [3, 4]]
KEPT = ["a cat", "a dog", "the man"]
ROWS = [[1, 0.5], [0.25, 1], [3, 4]]


def as_jsonl(path: Path, texts: list[Any], vectors: list[Any]) -> list[str]:
    pairs = zip(texts, vectors, strict=True)
    path.write_text("".join(json.dumps({"text": a, "embedding": b}) + "\n" for a, b in pairs), encoding="utf-8")
    return [str(path)]


def as_csv(path: Path, texts: list[Any], vectors: list[Any]) -> list[str]:
    pairs = zip(texts, vectors, strict=True)
    rows = "".join(f'"{a}","{json.dumps(b)}",7\n' for a, b in pairs)
    path.with_suffix(".csv").write_text("text,vector,id\n" + rows, encoding="utf-8")
    return [str(path.with_suffix(".csv"))]


def as_parquet(path: Path, texts: list[Any], vectors: list[Any], kind: pa.DataType | None = None) -> list[str]:
    columns = {"id": list(range(len(texts))), "text": texts, "embedding": pa.array(vectors, kind)}
    pq.write_table(pa.table(columns), path)
    return [str(path)]


def side_by_side(path: Path, texts: list[Any], vectors: list[Any], dtype: str = "float32") -> list[str]:
    np.save(path.with_suffix(".npy"), np.array(vectors, dtype))
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return [str(path.with_suffix(".npy")), str(path)]


def imported(files: list[str], out: Path, **settings: Any) -> Imported:
    return import_vectors(files, out, ImportSettings(name="a/model", **settings))


FORMATS: dict[str, Callable[[Path], list[str]]] = {
    "jsonl": lambda path: as_jsonl(path, TEXTS, VECTORS),
    "csv with JSON lists": lambda path: as_csv(path, TEXTS, VECTORS),
    "parquet, lists of float": lambda path: as_parquet(path, TEXTS, VECTORS, pa.list_(pa.float32())),
    "parquet, lists of double": lambda path: as_parquet(path, TEXTS, VECTORS, pa.large_list(pa.float64())),
    "parquet, fixed float16": lambda path: as_parquet(
        path, TEXTS, [np.float16(row) for row in VECTORS], pa.list_(pa.float16(), 2)
    ),
    "npy float32": lambda path: side_by_side(path, TEXTS, VECTORS),
    "npy float64": lambda path: side_by_side(path, TEXTS, VECTORS, "float64"),
    "npy big-endian float16": lambda path: side_by_side(path, TEXTS, VECTORS, ">f2"),
    "texts before vectors": lambda path: side_by_side(path, TEXTS, VECTORS)[::-1],
}


@pytest.mark.parametrize("form", FORMATS)
def test_rows_stay_with_their_texts_whatever_the_format(form: str, tmp_path: Path) -> None:
    made = imported(FORMATS[form](tmp_path / "vectors"), tmp_path / "store")
    store = open_store(tmp_path / "store")
    assert store.embeddings.dtype == np.float32
    assert store.embeddings.tolist() == ROWS
    assert store.sentences_path.read_text(encoding="utf-8").splitlines() == KEPT
    assert sorted(path.name for path in store.folder.iterdir()) == ["embeddings.npy", "manifest.json", "sentences.txt"]
    assert made.report.dropped == {"blank": 1, "duplicate": 1}
    assert store.manifest["normalized"] is False
    assert not store.has_model


def test_columns_of_fortran_order_are_rows_too(tmp_path: Path) -> None:
    files = side_by_side(tmp_path / "texts", TEXTS, VECTORS)
    np.save(files[0], np.asfortranarray(np.array(VECTORS)))
    imported(files, tmp_path / "store")
    assert open_store(tmp_path / "store").embeddings.tolist() == ROWS


def test_several_files_and_a_corpus_of_the_same_bytes_as_their_texts_make(tmp_path: Path, home: Path) -> None:
    files = [
        *as_jsonl(tmp_path / "one.jsonl", TEXTS[:2], VECTORS[:2]),
        *side_by_side(tmp_path / "two", TEXTS[2:], VECTORS[2:]),
    ]
    store = imported(files, tmp_path / "store", terms="for research").store
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    corpus = prepare_corpus([str(tmp_path / "texts.txt")], CorpusSettings())
    assert open_store(store.folder, corpus=corpus).embeddings.tolist() == ROWS
    assert prepare_corpus([str(store.folder)], CorpusSettings()).fingerprint == corpus.fingerprint
    facts = {name: store.manifest[name] for name in ("origin", "teacher", "terms", "source_files")}
    assert facts == {"origin": "import", "teacher": "a/model", "terms": "for research", "source_files": files}
    assert store.manifest["teacher_fingerprint"] == vectors_fingerprint("a/model", 2)
    assert home.exists()


def test_a_stores_sentences_are_lines_even_if_they_look_like_json(tmp_path: Path, home: Path) -> None:
    texts = ['{"text": "x"}', "plain"]
    store = imported(as_jsonl(tmp_path / "a", texts, [[1], [2]]), tmp_path / "store").store
    assert list(prepare_corpus([str(store.folder)], CorpusSettings())) == texts
    assert home.exists()


def test_more_rows_than_a_batch_stay_in_step(tmp_path: Path) -> None:
    # every third text is a blank, every fifth repeats the one before
    texts = ["" if i % 3 == 0 else f"text {i - (i % 5 == 0)}" for i in range(2500)]
    vectors = [[float(text.split()[1]) if text else 0.0, 1.0] for text in texts]
    imported(as_parquet(tmp_path / "a", texts, vectors), tmp_path / "store")
    store = open_store(tmp_path / "store")
    lines = store.sentences_path.read_text(encoding="utf-8").splitlines()
    assert lines == list(dict.fromkeys(text for text in texts if text))
    assert [f"text {row:.0f}" for row in store.embeddings[:, 0]] == lines


def test_float16_and_unit_length(tmp_path: Path) -> None:
    store = imported(as_jsonl(tmp_path / "a", ["x", "y"], [[0.6, 0.8], [1, 0]]), tmp_path / "store", dtype="float16")
    assert store.store.embeddings.dtype == np.float16
    assert store.store.manifest["normalized"] is True


FAULTS: dict[str, tuple[list[Any], list[Any], str]] = {
    "NaN": (["x", "y"], [[1.0, 2.0], [1.0, float("nan")]], "row 2: the vector has NaN or infinity"),
    "infinity": (["x", "y"], [[1.0, 2.0], [float("inf"), 0.0]], "row 2: the vector has NaN or infinity"),
    "a zero row": (["x", "y"], [[1.0, 2.0], [0.0, 0.0]], "row 2: the vector is zero"),
    "another width": (["x", "y"], [[1.0, 2.0], [1.0]], "row 2: the vector has 1 numbers, but the first one has 2"),
    "no vector": (["x", "y"], [[1.0, 2.0], None], "row 2: the vector is no list of numbers"),
    "a null in it": (["x", "y"], [[1.0, 2.0], [1.0, None]], "row 2: the vector is no list of numbers"),
    "two vectors": (
        ["x", "y", "x "],
        [[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]],
        r"row 3: 'x' has another vector than in .*vectors, row 1 \(cosine 0.00\)",
    ),
    "two vectors in two batches": (
        ["x", *(f"y{i}" for i in range(1100)), "x"],
        [[1.0, 0.0], *([[1.0, 1.0]] * 1100), [-1.0, 0.0]],
        r"row 1102: 'x' has another vector than in .*vectors, row 1 \(cosine -1.00\)",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_vector_that_cannot_be_used_is_named_and_nothing_is_written(fault: str, tmp_path: Path) -> None:
    texts, vectors, message = FAULTS[fault]
    files = as_parquet(tmp_path / "vectors", texts, vectors)
    with pytest.raises(DataError, match=message) as caught:
        imported(files, tmp_path / "store")
    assert caught.value.hint == "mend it, or leave such lines out with --on-bad-line skip"
    assert [path.name for path in tmp_path.iterdir()] == ["vectors"]
    made = imported(files, tmp_path / "store", on_bad_line="skip")
    assert made.report.dropped == {"unreadable": 1}
    assert made.report.num_kept == len(texts) - 1
    assert made.store.embeddings[0].tolist() == vectors[0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "y", "embedding": "nonsense"}', "line 2: the vector is no list of numbers"),
        ('{"text": "y", "embedding": [[1], [2, 3]]}', "line 2: the vector is no list of numbers"),
        ('{"text": 7, "embedding": [1]}', "line 2: the text column is not text but int"),
        ('{"text": "y", "embedding": [1]', "line 2 is no JSON object"),
        ('{"text": "y"}', "line 2: the vector is no list of numbers"),
        ('{"text": "y", "embedding": [1e6]}', "line 2: the vector is too large for float16"),
    ],
)
def test_a_wrong_line_is_named(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"text": "x", "embedding": [1]}}\n{line}\n', encoding="utf-8")
    with pytest.raises(DataError, match=f"a.jsonl, {message}"):
        imported([str(tmp_path / "a.jsonl")], tmp_path / "store", dtype="float16")


@pytest.mark.parametrize(("num_texts", "num_vectors"), [(3, 2), (2, 3), (3000, 2000), (2000, 3000), (1024, 2048)])
def test_fewer_vectors_than_texts_or_more(num_texts: int, num_vectors: int, tmp_path: Path) -> None:
    files = side_by_side(tmp_path / "texts", [f"t{i}" for i in range(num_texts)], [])
    np.save(files[0], np.ones((num_vectors, 2)))
    with pytest.raises(DataError, match=rf"npy has {num_vectors:,} vectors, but .*texts has {num_texts:,} texts"):
        imported(files, tmp_path / "store")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        ({"text": ["x"], "v": [[1.0]]}, {}, "has no column of vectors: it has text, v"),
        ({"text": ["x"], "v": [[1.0]]}, {"vector_column": "w"}, "has no column 'w': it has text, v"),
        ({"text": ["x"], "v": ["1"]}, {"vector_column": "v"}, "column 'v' of .* holds string, not lists of numbers"),
        ({"a": ["x"], "b": ["y"], "embedding": [[1.0]]}, {}, "which column of .* holds the text"),
        ({"a": [1], "embedding": [[1.0]]}, {}, "column 'a' of .* holds int64, not text"),
        ({"a": [""], "embedding": [[1.0]]}, {}, r"no text with a vector in .*: 1 read, 0 kept, 1 dropped \(1 blank\)"),
    ],
)
def test_columns_that_do_not_fit(
    columns: dict[str, Any], settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=message):
        imported([str(tmp_path / "a.parquet")], tmp_path / "store", **settings)


def test_files_that_hold_no_vectors(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("x\n", encoding="utf-8")
    np.save(tmp_path / "flat.npy", np.ones(1))
    (tmp_path / "no.npy").write_bytes(b"nothing")
    for files, kind, message in (
        (["t.txt"], DataError, "is text without vectors"),
        (["flat.npy"], UsageError, "which file holds the texts of"),
        (["flat.npy", "t.txt"], DataError, r"holds float64 \(1,\), but must hold a row of numbers a text"),
        (["no.npy", "t.txt"], DataError, "no.npy is no .npy array"),
        (["none.npy", "t.txt"], DataError, "cannot read .*none.npy"),
        (["none.parquet"], DataError, "no file"),
    ):
        with pytest.raises(kind, match=message):
            imported([str(tmp_path / file) for file in files], tmp_path / "store")


def test_overwrite_replaces_a_store_and_nothing_else(tmp_path: Path) -> None:
    files, out = as_jsonl(tmp_path / "a", TEXTS, VECTORS), tmp_path / "store"
    imported(files, out)
    before = (out / "manifest.json").read_bytes()
    with pytest.raises(DataError, match="holds a store"):
        imported(files, out)
    settings = ImportSettings(name="another")
    with pytest.raises(DataError, match="is no list of numbers"):
        import_vectors(as_jsonl(tmp_path / "b", ["x"], ["y"]), out, settings, overwrite=True)
    assert (out / "manifest.json").read_bytes() == before
    assert import_vectors(files, out, settings, overwrite=True).store.manifest["teacher"] == "another"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "store"]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(DataError, match="is not empty"):
        import_vectors(files, tmp_path / "full", settings, overwrite=True)


def test_first_rows_by_hand() -> None:
    seen = FirstRows()
    is_first, rows = seen.add(np.array([7, 5, 7, 9], np.uint64), 0)
    assert (is_first.tolist(), rows.tolist()) == ([True, True, False, True], [0, 1, 0, 2])
    is_first, rows = seen.add(np.array([1, 9, 5, 1, 2], np.uint64), 3)
    assert (is_first.tolist(), rows.tolist()) == ([True, False, False, False, True], [3, 2, 1, 3, 4])
