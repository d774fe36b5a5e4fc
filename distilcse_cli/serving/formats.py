"""Embeddings on disk in the formats that other programs read, written window by window.

| suffix     | content                                                                      |
|------------|------------------------------------------------------------------------------|
| `.npy`     | one (N, D) array, for `np.load` with or without `mmap_mode`                  |
| `.npz`     | the same array under the name `embeddings`, uncompressed                     |
| `.jsonl`   | `{"sentence": …, "embedding": […]}` a line; enough digits for the exact value |
| `.parquet` | columns `sentence` and `embedding` (a list of D numbers), a row group a window |

Shape letters: n rows appended at a time, D width.
"""

import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from distilcse_cli.data.npy import NpyWriter
from distilcse_cli.errors import UsageError

_JSON_DIGITS = {"float32": 9, "float16": 5}
"""Decimal digits that give back the same binary number."""


class RowWriter(Protocol):
    """A file that grows by rows. Leaving the context completes it."""

    def append(self, sentences: list[str], embeddings: np.ndarray) -> None:
        """Add n sentences and their (n, D) embeddings."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


def check_suffix(path: Path) -> None:
    """Check that a file's suffix names a format that we write.

    Raises:
        UsageError: it does not.
    """
    if path.suffix.lower() not in _WRITERS:
        raise UsageError(f"cannot tell the format of {path} from its name", hint=f"let it end in {', '.join(_WRITERS)}")


def open_rows(path: Path, width: int, dtype: str) -> RowWriter:
    """Make a file of `width` numbers a row, in the format that the suffix of `path` names.

    Raises:
        UsageError: an unknown suffix.
        OSError: the file cannot be written; also from the writer's methods.
    """
    check_suffix(path)
    return _WRITERS[path.suffix.lower()](path, width, dtype)


class _Npy:
    def __init__(self, path: Path, width: int, dtype: str) -> None:
        self._array = NpyWriter(path, dtype, width)

    def append(self, sentences: list[str], embeddings: np.ndarray) -> None:  # noqa: ARG002
        self._array.append(embeddings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._array.close()


class _Npz(_Npy):
    def __init__(self, path: Path, width: int, dtype: str) -> None:
        self._path = path
        # a member of an archive cannot be changed later, when the number of rows is known; a file without a name
        # leaves nothing behind
        self._file = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115
        self._array = NpyWriter(self._file, dtype, width)

    def __exit__(self, *exception: object) -> None:
        with self._file, zipfile.ZipFile(self._path, "w") as archive:
            self._array.complete()
            self._file.seek(0)
            with archive.open("embeddings.npy", "w", force_zip64=True) as member:
                shutil.copyfileobj(self._file, member, 1 << 20)


class _Jsonl:
    def __init__(self, path: Path, width: int, dtype: str) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")
        self._numbers = ", ".join([f"%.{_JSON_DIGITS[dtype]}g"] * width)

    def append(self, sentences: list[str], embeddings: np.ndarray) -> None:
        for sentence, row in zip(sentences, embeddings.tolist(), strict=True):
            text = json.dumps(sentence, ensure_ascii=False)
            self._file.write(f'{{"sentence": {text}, "embedding": [{self._numbers % tuple(row)}]}}\n')

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


class _Parquet:
    def __init__(self, path: Path, width: int, dtype: str) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self._embedding = pa.list_(pa.float16() if dtype == "float16" else pa.float32(), width)
        self._schema = pa.schema([("sentence", pa.string()), ("embedding", self._embedding)])
        # as bytes, since a file's name need not be UTF-8
        self._file = pa.OSFile(os.fsencode(path), "wb")
        self._writer = parquet.ParquetWriter(self._file, self._schema, use_dictionary=False)

    def append(self, sentences: list[str], embeddings: np.ndarray) -> None:
        import pyarrow as pa

        numbers = pa.array(embeddings.reshape(-1))
        columns: list[Any] = [
            pa.array(sentences, pa.string()),
            pa.FixedSizeListArray.from_arrays(numbers, type=self._embedding),
        ]
        self._writer.write_table(pa.table(columns, schema=self._schema))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        with self._file:
            self._writer.close()


_WRITERS: dict[str, type[_Npy | _Jsonl | _Parquet]] = {
    ".npy": _Npy,
    ".npz": _Npz,
    ".jsonl": _Jsonl,
    ".parquet": _Parquet,
}
