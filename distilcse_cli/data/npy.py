"""`.npy` files written piece by piece, so that an array need never be in memory as a whole."""

import io
from pathlib import Path
from typing import IO, Self

import numpy as np
from numpy.typing import DTypeLike


def header(dtype: DTypeLike, shape: tuple[int, ...]) -> bytes:
    """Return the first bytes of a `.npy` file. Their number does not depend on the number of rows."""
    buffer = io.BytesIO()
    fields = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, fields)
    return buffer.getvalue()


def position(dtype: DTypeLike, shape: tuple[int, int], row: int) -> int:
    """Return the byte of the file at which row `row` of an array of this shape starts."""
    return len(header(dtype, shape)) + row * shape[1] * np.dtype(dtype).itemsize


def open_map(path: Path) -> np.ndarray:
    """Map a `.npy` file into memory, read-only.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no `.npy` file, or it is shorter than its header says.
    """
    return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)


class NpyWriter:
    """A `.npy` file that grows by appending. Leaving the context completes it.

    Args:
        file: path of the file to make, or an open binary file.
        dtype: number format of the file; appended values are converted to it.
        width: numbers in a row; None makes a flat array.
    """

    def __init__(self, file: Path | IO[bytes], dtype: DTypeLike, width: int | None = None) -> None:
        self.num_rows = 0
        self._dtype = np.dtype(dtype)
        self._row_shape = () if width is None else (width,)
        self._file = file.open("wb") if isinstance(file, Path) else file
        self._write_header()

    def append(self, values: np.ndarray) -> None:
        """Add n rows: (n,) values for a flat array, else (n, width)."""
        self._file.write(np.ascontiguousarray(values, dtype=self._dtype).data)
        self.num_rows += len(values)

    def complete(self) -> None:
        """Write the true number of rows into the header, for which NumPy has left room; leave the file open."""
        self._file.seek(0)
        self._write_header()

    def _write_header(self) -> None:
        self._file.write(header(self._dtype, (self.num_rows, *self._row_shape)))

    def close(self) -> None:
        """Complete the file and close it."""
        with self._file:
            self.complete()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
