import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distilcse_cli.data.npy import header
from distilcse_cli.errors import DataError
from distilcse_cli.models.prompts import Prompts
from distilcse_cli.teacher.store import open_store

NUM_ROWS, WIDTH = 5, 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete store, written without the code under test."""
    np.save(tmp_path / "embeddings.npy", np.arange(NUM_ROWS * WIDTH, dtype=np.float32).reshape(NUM_ROWS, WIDTH))
    (tmp_path / "sentences.txt").write_text("".join(f"sentence {i}\n" for i in range(NUM_ROWS)), encoding="utf-8")
    fields = {
        "format_version": 1,
        "num_rows": NUM_ROWS,
        "rows_done": NUM_ROWS,
        "num_truncated": 0,
        "max_length": 64,
        "normalized": False,
        "width": WIDTH,
        "dtype": "float32",
        "pooling": "avg",
        "teacher_fingerprint": "a" * 64,
        "corpus_fingerprint": "c" * 64,
    }
    (tmp_path / "manifest.json").write_text(json.dumps(fields), encoding="utf-8")
    return tmp_path


def amend(folder: Path, **fields: Any) -> None:
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text(encoding="utf-8")) | fields), encoding="utf-8")


class Teacher:
    pooling = "avg"
    prompts = Prompts()
    fingerprint = "a" * 64


class Corpus:
    fingerprint = "c" * 64
    num_sentences = NUM_ROWS

    def __len__(self) -> int:
        return self.num_sentences


def test_a_store_opens_as_a_read_only_memory_map(folder: Path) -> None:
    store = open_store(folder, corpus=Corpus(), teacher=Teacher())  # type: ignore[arg-type]
    assert isinstance(store.embeddings, np.memmap)
    assert not store.embeddings.flags.writeable
    assert len(store) == NUM_ROWS
    assert store.embeddings[4].tolist() == [16, 17, 18, 19]
    assert store.sentences_path.read_text(encoding="utf-8").splitlines()[4] == "sentence 4"
    store.check_rows()


def test_another_teacher_is_an_error_that_names_both(folder: Path) -> None:
    other = Teacher()
    other.fingerprint = "b" * 64
    with pytest.raises(DataError, match="teacher_fingerprint is aaaaaaaaaaaa… there, bbbbbbbbbbbb… here"):
        open_store(folder, teacher=other)  # type: ignore[arg-type]


def test_another_pooling_of_the_same_teacher_is_an_error_that_names_both(folder: Path) -> None:
    other = Teacher()
    other.pooling = "cls"
    with pytest.raises(DataError, match="pooling is avg there, cls here"):
        open_store(folder, teacher=other)  # type: ignore[arg-type]


def test_another_corpus_is_an_error_that_names_both(folder: Path) -> None:
    other = Corpus()
    other.num_sentences = 6
    with pytest.raises(DataError, match="num_rows is 5 there, 6 here"):
        open_store(folder, corpus=other)  # type: ignore[arg-type]
    other = Corpus()
    other.fingerprint = "d" * 64
    with pytest.raises(DataError, match="corpus_fingerprint is cccccccccccc… there, dddddddddddd… here"):
        open_store(folder, corpus=other)  # type: ignore[arg-type]


def test_a_missing_folder_and_one_without_a_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        open_store(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is no embedding store"):
        open_store(tmp_path)


def test_an_unfinished_store_says_how_far_it_is(folder: Path) -> None:
    amend(folder, rows_done=2)
    (folder / "manifest.json").rename(folder / "manifest.partial.json")
    with pytest.raises(DataError, match="is unfinished: 2 of 5 rows") as caught:
        open_store(folder)
    assert caught.value.hint is not None
    assert "same distilcse extract command" in caught.value.hint


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format_version": 2}, "has format version 2, this program reads up to 1"),
        ({"format_version": None}, "is not the manifest of an embedding store"),
        ({"num_rows": "5"}, "num_rows is '5', but must be a whole number from 1"),
        ({"num_rows": -1}, "num_rows is -1"),
        ({"width": None}, "width is None"),
        ({"dtype": "object"}, "dtype is 'object', but must be one of float32, float16"),
        ({"rows_done": 3}, "rows_done is 3 there, 5 here"),
        ({"num_rows": 6, "rows_done": 6}, r"holds float32 \(5, 4\), its manifest says float32 \(6, 4\)"),
        ({"dtype": "float16"}, r"holds float32 \(5, 4\), its manifest says float16 \(5, 4\)"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused(folder: Path, fields: dict[str, Any], message: str) -> None:
    amend(folder, **fields)
    with pytest.raises(DataError, match=message):
        open_store(folder)


def test_a_manifest_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="not valid JSON"):
        open_store(folder)


def as_bytes(array: np.ndarray, **settings: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **settings)
    return file.getvalue()


ROWS = np.zeros((NUM_ROWS, WIDTH), np.float32)
BROKEN_ARRAYS = {
    "empty": (b"", "damaged or no array"),
    "text": (b"no array at all\n", "damaged or no array"),
    "header only": (header("float32", (NUM_ROWS, WIDTH)), "damaged or no array"),
    "cut short": (as_bytes(ROWS)[:-1], "damaged or no array"),
    "too long": (as_bytes(ROWS) + b"\0", "has 209 bytes, its header 208"),
    "header of too many rows": (header("float32", (10**15, WIDTH)) + bytes(80), "damaged or no array"),
    "header cut": (as_bytes(ROWS)[:40], "damaged or no array"),
    "column order": (as_bytes(np.asfortranarray(ROWS)), "its manifest says float32"),
    "big endian": (as_bytes(ROWS.astype(">f4")), "its manifest says float32"),
    "one dimension": (as_bytes(ROWS.reshape(-1)), r"holds float32 \(20,\)"),
    "objects": (as_bytes(ROWS.astype(object), allow_pickle=True), "damaged or no array"),
}


@pytest.mark.parametrize("name", BROKEN_ARRAYS)
def test_a_broken_array_is_refused(folder: Path, name: str) -> None:
    content, message = BROKEN_ARRAYS[name]
    (folder / "embeddings.npy").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_store(folder)


def test_an_archive_in_place_of_the_array_is_refused(folder: Path) -> None:
    with (folder / "embeddings.npy").open("wb") as file:
        np.savez(file, embeddings=ROWS)
    with pytest.raises(DataError, match="is an archive, not an array"):
        open_store(folder)


def test_a_missing_array_is_refused(folder: Path) -> None:
    (folder / "embeddings.npy").unlink()
    with pytest.raises(DataError, match=r"cannot read .*: No such file"):
        open_store(folder)


def test_a_pickle_in_place_of_the_array_is_not_run(folder: Path) -> None:
    trap = folder / "trap"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return trap.touch, ()

    np.save(folder / "embeddings.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="damaged or no array"):
        open_store(folder)
    assert not trap.exists()


def test_a_row_with_nan_is_found_and_named(folder: Path) -> None:
    rows = ROWS.copy()
    rows[3, 2] = np.nan
    np.save(folder / "embeddings.npy", rows)
    with pytest.raises(DataError, match="NaN or infinity in row 3"):
        open_store(folder).check_rows()
