"""Arrays written piece by piece are the files that NumPy writes; unfinished ones are cut at a row."""

import io
from pathlib import Path

import numpy as np
import pytest

from distilcse_cli.data import npy
from distilcse_cli.data.npy import NpyWriter


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int64"])
def test_npy_writer_appends_what_numpy_loads(tmp_path: Path, dtype: str) -> None:
    with NpyWriter(tmp_path / "a.npy", np.dtype(dtype)) as writer:
        for start in range(0, 200, 7):
            writer.append(np.arange(start, start + 7))
        writer.append(np.zeros(0))
    loaded = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert writer.num_rows == 203
    assert (loaded.tolist(), loaded.dtype) == (list(range(203)), np.dtype(dtype))


def test_rows_appended_are_the_bytes_that_numpy_saves(tmp_path: Path) -> None:
    rows = np.arange(15, dtype=np.float32).reshape(5, 3)
    np.save(tmp_path / "numpy.npy", rows.astype(np.float16))
    in_memory = io.BytesIO()
    writer = NpyWriter(in_memory, "float16", width=3)
    for part in (rows[:2], rows[2:2], rows[2:]):
        writer.append(part)
    writer.complete()
    assert in_memory.getvalue() == (tmp_path / "numpy.npy").read_bytes()


def test_the_header_is_as_long_for_any_number_of_rows() -> None:
    assert len({len(npy.header("float16", (rows, 1024))) for rows in (0, 1, 10**6, 10**15)}) == 1


def test_an_unfinished_array_is_started_and_cut_after_its_finished_rows(tmp_path: Path) -> None:
    path, rows = tmp_path / "a.npy", np.arange(12, dtype=np.float32).reshape(4, 3)
    npy.start_or_cut(path, "float32", rows.shape, 0)
    assert path.read_bytes() == npy.header("float32", rows.shape)
    assert path.stat().st_size == npy.position("float32", rows.shape, 0)
    with path.open("ab") as file:
        file.write(rows[:3].tobytes())
    npy.start_or_cut(path, "float32", rows.shape, 2)
    assert path.stat().st_size == npy.position("float32", rows.shape, 2)
    with path.open("ab") as file:
        file.write(rows[2:].tobytes())
    assert np.array_equal(npy.open_map(path), rows)


@pytest.mark.parametrize(("dtype", "num_rows"), [("float16", 1), ("float32", 2)])
def test_an_array_with_another_header_or_lost_rows_is_not_continued(tmp_path: Path, dtype: str, num_rows: int) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(npy.header("float32", (4, 3)) + bytes(12))
    with pytest.raises(ValueError, match="does not hold"):
        npy.start_or_cut(path, dtype, (4, 3), num_rows)
    assert path.stat().st_size == npy.position("float32", (4, 3), 1)
