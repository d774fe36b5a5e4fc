"""`.npy` files that grow row by row, so that an array need never be in memory as a whole."""

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np


class NpyWriter:
    """A flat `.npy` file written by appending; `np.load` reads it once it is closed.

    Args:
        path: the file to make.
        dtype: number format of the file; what is appended is converted to it.
    """

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        self.dtype = dtype
        self.size = 0
        self._file = path.open("wb")
        self._write_header()

    def append(self, values: np.ndarray) -> None:
        """Add a flat array at the end."""
        self._file.write(np.ascontiguousarray(values, dtype=self.dtype).data)
        self.size += len(values)

    def close(self) -> None:
        """Write the true length into the header; NumPy leaves room for it to grow."""
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def _write_header(self) -> None:
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.size,)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
