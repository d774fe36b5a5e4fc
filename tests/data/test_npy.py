"""Arrays written piece by piece are the files that NumPy writes."""

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


def test_a_row_starts_where_its_position_says(tmp_path: Path) -> None:
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.save(tmp_path / "a.npy", rows)
    content = (tmp_path / "a.npy").read_bytes()
    for row in range(4):
        start = npy.position("float32", rows.shape, row)
        assert content[start : start + 12] == rows[row].tobytes()
