import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from distilcse_cli.errors import UsageError
from distilcse_cli.serving.formats import check_suffix, open_rows

SENTENCES = ["the cat", "", 'a "quoted" one, with a \\ and\ta tab', "déjà vu 日本 😀\u2028"]
SUFFIXES = (".npy", ".npz", ".jsonl", ".parquet")


@pytest.fixture
def embeddings() -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    rows[0] = [0.0, -1.0, 1 / 3]
    return rows


def write(path: Path, embeddings: np.ndarray) -> Path:
    """Write in two steps, as windows of a stream would."""
    with open_rows(path, embeddings.shape[1], str(embeddings.dtype)) as rows:
        rows.append(SENTENCES[:3], embeddings[:3])
        rows.append(SENTENCES[3:], embeddings[3:])
    return path


def read(path: Path) -> tuple[list[str] | None, np.ndarray]:
    """Read a file as its own tools do."""
    match path.suffix:
        case ".npy":
            return None, np.load(path)
        case ".npz":
            return None, np.load(path)["embeddings"]
        case ".jsonl":
            with path.open(encoding="utf-8", newline="\n") as file:
                records = [json.loads(line) for line in file]
        case _:
            records = pq.read_table(path).to_pylist()
    return [record["sentence"] for record in records], np.array([record["embedding"] for record in records])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_back_the_very_numbers(
    tmp_path: Path, embeddings: np.ndarray, suffix: str, dtype: str
) -> None:
    embeddings = embeddings.astype(dtype)
    sentences, rows = read(write(tmp_path / f"rows{suffix}", embeddings))
    assert sentences in (None, SENTENCES)
    np.testing.assert_array_equal(rows.astype(dtype), embeddings)


def test_npy_is_as_numpy_itself_writes_it(tmp_path: Path, embeddings: np.ndarray) -> None:
    expected = io.BytesIO()
    np.save(expected, embeddings)
    assert write(tmp_path / "rows.npy", embeddings).read_bytes() == expected.getvalue()


def test_npz_has_one_uncompressed_array_and_leaves_nothing_beside_it(tmp_path: Path, embeddings: np.ndarray) -> None:
    path = write(tmp_path / "rows.npz", embeddings)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        (member,) = archive.infolist()
    assert (member.filename, member.compress_type) == ("embeddings.npy", zipfile.ZIP_STORED)
    assert list(tmp_path.iterdir()) == [path]


def test_parquet_has_a_column_of_fixed_width_and_a_row_group_a_window(tmp_path: Path, embeddings: np.ndarray) -> None:
    file = pq.ParquetFile(write(tmp_path / "rows.parquet", embeddings))
    assert str(file.schema_arrow.field("embedding").type) == "fixed_size_list<element: float>[3]"
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [3, 1]


def test_jsonl_is_a_line_a_row(tmp_path: Path, embeddings: np.ndarray) -> None:
    content = write(tmp_path / "rows.jsonl", embeddings).read_bytes()
    # nine digits of float32's 1/3
    assert content.split(b"\n")[0] == b'{"sentence": "the cat", "embedding": [0, -1, 0.333333343]}'
    assert content.count(b"\n") == 4


def test_the_case_of_a_suffix_does_not_matter() -> None:
    check_suffix(Path("ROWS.NPY"))


@pytest.mark.parametrize("name", ["rows", "rows.txt", "rows.npy.gz", ".npy"])
def test_other_suffixes_are_a_usage_error_that_lists_ours(name: str) -> None:
    with pytest.raises(UsageError, match="cannot tell the format") as caught:
        check_suffix(Path(name))
    assert caught.value.hint == "let it end in .npy, .npz, .jsonl, .parquet"
