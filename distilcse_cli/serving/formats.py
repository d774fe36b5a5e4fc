"""Embeddings on disk in the formats that other programs read, written window by window.

| suffix     | content                                                                      |
|------------|------------------------------------------------------------------------------|
| `.npy`     | one (N, D) array, for `np.load` with or without `mmap_mode`                  |
| `.npz`     | the same array under the name `embeddings`, uncompressed                     |
| `.jsonl`   | `{"sentence": …, "embedding": […]}` a line; enough digits for the exact value |
| `.parquet` | columns `sentence` and `embedding` (a list of D numbers), a row group a window |

The last two may have other columns before these.

Shape letters: n rows appended at a time, D width.
"""

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from distilcse_cli.data.npy import NpyWriter
from distilcse_cli.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

_JSON_DIGITS = {"float32": 9, "float16": 5}
"""Decimal digits that give back the same binary number."""


OWN_COLUMNS = ("sentence", "embedding")
Columns = Mapping[str, "pa.DataType | None"]
"""Names of other columns, and what they hold: a type for parquet; None for JSON lines, whose cells are JSON texts."""


class RowWriter(Protocol):
    """A file that grows by rows. Leaving the context completes it."""

    def append(self, sentences: Sequence[str], embeddings: np.ndarray, cells: Sequence[Sequence[Any]] = ()) -> None:
        """Add n sentences, their (n, D) embeddings, and the n cells of each other column."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


def check_suffix(path: Path, columns: Sequence[str] = ()) -> None:
    """Check that a file's suffix names a format that we write, and that it can hold other columns of these names.

    Raises:
        UsageError: it does not, or it cannot.
    """
    suffix = path.suffix.lower()
    if suffix not in _WRITERS:
        raise UsageError(f"cannot tell the format of {path} from its name", hint=f"let it end in {', '.join(_WRITERS)}")
    if columns and suffix not in (".jsonl", ".parquet"):
        raise UsageError(f"{path} has no room for --id-column", hint="let it end in .parquet or .jsonl")
    for name in columns:
        if name in OWN_COLUMNS or columns.count(name) > 1:
            what = "is named twice" if columns.count(name) > 1 else "has the name of a column of the output's own"
            raise UsageError(f"--id-column {name} {what}", hint="rename it, or leave it out")


def open_rows(path: Path, width: int, dtype: str, columns: Columns | None = None) -> RowWriter:
    """Make a file of `width` numbers a row, in the format that the suffix of `path` names.

    Raises:
        UsageError: an unknown suffix.
        OSError: the file cannot be written; also from the writer's methods.
    """
    check_suffix(path, list(columns or ()))
    return _WRITERS[path.suffix.lower()](path, width, dtype, columns or {})


def state_folder(out: Path, num_files: int | None = None) -> Path:
    """Where the finished rows of an output are kept; of one in parts, if their number is given."""
    return out.with_name(f".{out.name if num_files is None else f'{out.stem}-of-{num_files:05d}{out.suffix}'}.run")


class _Npy:
    def __init__(self, path: Path, width: int, dtype: str, columns: Columns) -> None:  # noqa: ARG002
        self._array = NpyWriter(path, dtype, width)

    def append(self, sentences: Sequence[str], embeddings: np.ndarray, cells: Any = ()) -> None:  # noqa: ARG002
        self._array.append(embeddings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._array.close()


class _Npz(_Npy):
    def __init__(self, path: Path, width: int, dtype: str, columns: Columns) -> None:  # noqa: ARG002
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
    def __init__(self, path: Path, width: int, dtype: str, columns: Columns) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")
        self._numbers = ", ".join([f"%.{_JSON_DIGITS[dtype]}g"] * width)
        names = (json.dumps(name, ensure_ascii=False).replace("%", "%%") for name in columns)
        self._others = "".join(f"{name}: %s, " for name in names)

    def append(self, sentences: Sequence[str], embeddings: np.ndarray, cells: Sequence[Sequence[Any]] = ()) -> None:
        others = zip(*cells, strict=True) if cells else repeat(())
        for sentence, row, before in zip(sentences, embeddings.tolist(), others, strict=False):
            text = f'{self._others % before}"sentence": {json.dumps(sentence, ensure_ascii=False)}'
            self._file.write(f'{{{text}, "embedding": [{self._numbers % tuple(row)}]}}\n')

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


class _Parquet:
    def __init__(self, path: Path, width: int, dtype: str, columns: Columns) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self._embedding = pa.list_(pa.float16() if dtype == "float16" else pa.float32(), width)
        self._schema = pa.schema([*columns.items(), ("sentence", pa.string()), ("embedding", self._embedding)])
        # as bytes, since a file's name need not be UTF-8
        self._file = pa.OSFile(os.fsencode(path), "wb")
        self._writer = parquet.ParquetWriter(self._file, self._schema, use_dictionary=False)

    def append(self, sentences: Sequence[str], embeddings: np.ndarray, cells: Sequence[Sequence[Any]] = ()) -> None:
        import pyarrow as pa

        numbers = pa.array(embeddings.reshape(-1))
        columns: list[Any] = [
            *(pa.array(column, field.type) for column, field in zip(cells, self._schema, strict=False)),
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
