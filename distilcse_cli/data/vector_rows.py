"""Texts with their vectors, in batches: from two columns of a table or hub data set, or from two files side by side.

Shape letters: N rows of a batch, D numbers of a vector.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from distilcse_cli.config import CorpusSettings, TextSettings
from distilcse_cli.data.every_line import lines, require_lines
from distilcse_cli.data.lines import BadLines
from distilcse_cli.data.opening import BLOCK_BYTES, kind_of
from distilcse_cli.data.rows import PARQUET_ROWS, Columns, cells_of, open_parquet, read_rows, require_text
from distilcse_cli.data.sources import FileSource, Source, find_source
from distilcse_cli.data.texts import choose_column
from distilcse_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

VECTOR_COLUMNS = ("embedding", "embeddings", "vector", "vectors")
_ROWS = PARQUET_ROWS
_PAIR = "name the .npy file and the file of its texts, a line a row: vectors.npy texts.txt"


@dataclass(frozen=True)
class VectorRows:
    """N rows of an input."""

    place: str
    """What comes before the number of a row in a message, such as `data.csv, line `."""
    numbers: Sequence[int]
    texts: Sequence[object]
    """Text, None for a null, or a value that is no text."""
    vectors: np.ndarray | Sequence[object]
    """(N, D); or N cells, where they are not arrays of one width: lists, JSON, nulls."""

    def where(self, i: int) -> str:
        """Where the i-th row stands, such as `data.csv, line 7`."""
        return f"{self.place}{self.numbers[i]}"


def vector_rows(inputs: Sequence[str], settings: CorpusSettings, column: str | None, bad: BadLines) -> Iterator[Any]:
    """Yield the `VectorRows` of all inputs in order.

    Args:
        inputs: tables, hub data sets, and pairs of a `.npy` file and the file of its texts.
        settings: the text's column and encoding.
        column: of the vectors; None takes the first of `VECTOR_COLUMNS` that is there.
        bad: receives lines that are no rows.

    Raises:
        UsageError: a `.npy` file without its texts.
        DataError: an input cannot be read, has no such column, or has fewer vectors than texts, or more.
        NetworkError: the hub does not answer.
    """
    names = list(inputs)
    while names:
        name = names.pop(0)
        if names and names[0].endswith(".npy") and not name.endswith(".npy") and not _is_table(name, settings):
            name, names[0] = names[0], name
        if name.endswith(".npy"):
            if not names or names[0].endswith(".npy"):
                raise UsageError(f"which file holds the texts of {name}?", hint=_PAIR)
            yield from _side_by_side(Path(name), Path(names.pop(0)), settings)
            continue
        source = find_source(name, settings.encoding)
        choose = _Choice(settings.text_column, column)
        if not isinstance(source, FileSource):
            yield from _of_data_set(source, choose)
        elif kind_of(source.path, settings.encoding).format == "parquet":
            yield from _of_parquet(source.path, choose)
        elif kind_of(source.path, settings.encoding).is_table:
            yield from _of_table(source.path, choose, bad, settings.encoding)
        else:
            raise DataError(f"{name} is text without vectors", hint=_PAIR)


def _is_table(name: str, settings: CorpusSettings) -> bool:
    return not Path(name).is_file() or kind_of(Path(name), settings.encoding).is_table


@dataclass(frozen=True)
class _Choice:
    """Chooses the two columns."""

    text: str | None
    vector: str | None

    def names(self, columns: Sequence[str], where: object) -> tuple[str, str]:
        have = f"it has {', '.join(columns) or 'none'}"
        known = (self.vector,) if self.vector is not None else VECTOR_COLUMNS
        vector = next((name for name in known if name in columns), None)
        if vector is None:
            message = f"has no column {self.vector!r}" if self.vector is not None else "has no column of vectors"
            raise DataError(f"{where} {message}: {have}", hint="name one of them with --vector-column")
        return choose_column([name for name in columns if name != vector], self.text, where), vector

    def __call__(self, columns: list[str], where: str) -> Columns:
        names = self.names(columns, where)
        return Columns(names, tuple(columns.index(name) for name in names), len(columns))


def _of_table(path: Path, choose: _Choice, bad: BadLines, encoding: str | None) -> Iterator[VectorRows]:
    rows = read_rows(path, choose, bad, strict=False, encoding=encoding)
    for batch in _batched(row for row in rows if row[1]):
        place = batch[0][0].rpartition(" ")[0] + " "
        numbers = [int(where.rpartition(" ")[2]) for where, _ in batch]
        yield VectorRows(place, numbers, [cells[0] for _, cells in batch], [_parsed(cells[1]) for _, cells in batch])


_T = TypeVar("_T")


def _batched(items: Iterable[_T]) -> Iterator[list[_T]]:
    rest = iter(items)
    while batch := list(islice(rest, _ROWS)):
        yield batch


def _parsed(cell: object) -> object:
    """A csv file has its vectors as JSON."""
    try:
        return json.loads(cell) if isinstance(cell, str) else cell
    except (ValueError, RecursionError):
        return cell


def _of_parquet(path: Path, choose: _Choice) -> Iterator[VectorRows]:
    with open_parquet(path, buffer_bytes=BLOCK_BYTES) as file:
        names = choose.names(file.schema_arrow.names, path)
        _require_columns(file.schema_arrow, names, path)
        number = 1
        for batch in file.iter_batches(_ROWS, columns=list(names), use_threads=False):
            yield _of_arrow(f"{path}, row ", number, *(batch.column(name) for name in names))
            number += len(batch)


def _of_data_set(source: Source, choose: _Choice) -> Iterator[VectorRows]:
    number = 1
    for table in source.tables(_ROWS):  # type: ignore[attr-defined]
        names = choose.names(table.schema.names, source.name)
        _require_columns(table.schema, names, source.name)
        columns = (table.column(name).combine_chunks() for name in names)
        yield _of_arrow(f"{source.name}, row ", number, *columns)
        number += len(table)


def _require_columns(schema: "pa.Schema", names: tuple[str, str], where: object) -> None:
    import pyarrow.types as kinds

    text, vector = names
    require_text(schema, text, where)
    kind = schema.field(vector).type
    is_list = kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind)
    if not is_list or not (kinds.is_floating(kind.value_type) or kinds.is_integer(kind.value_type)):
        message = f"column {vector!r} of {where} holds {kind}, not lists of numbers"
        raise DataError(message, hint="name a column of vectors with --vector-column")


def _of_arrow(place: str, first: int, texts: "pa.Array", vectors: "pa.Array") -> VectorRows:
    return VectorRows(place, range(first, first + len(texts)), cells_of(texts), _matrix(vectors))


def _matrix(column: "pa.Array") -> np.ndarray | list[object]:
    import pyarrow.compute as pc

    if len(column) and not column.null_count:
        values = column.flatten()
        width, rest = divmod(len(values), len(column))
        if not rest and not values.null_count and pc.all(pc.equal(pc.list_value_length(column), width)).as_py():
            return values.to_numpy(zero_copy_only=False).reshape(len(column), width)
    return column.to_pylist()


def _side_by_side(array: Path, texts: Path, settings: CorpusSettings) -> Iterator[VectorRows]:
    text = TextSettings(text_column=settings.text_column, encoding=settings.encoding)
    require_lines(texts, text)
    vectors = _opened(array)
    num_texts = 0
    pairs = zip_longest(_batched(lines(texts, text)), _blocks(array, vectors))
    for batch, block in pairs:
        num_texts += len(batch or ())
        if batch is None or block is None or len(batch) != len(block):
            num_texts += sum(len(more or ()) for more, _ in pairs)
            raise DataError(
                f"{array} has {len(vectors):,} vectors, but {texts} has {num_texts:,} texts",
                hint="row i must belong to line i: write both again from one list",
            )
        first = num_texts - len(batch) + 1
        yield VectorRows(f"{texts}, line ", range(first, num_texts + 1), batch, block)


def _opened(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        hint = "check the file and its permissions"
        raise DataError(f"cannot read {path}: {error.strerror or error}", hint=hint) from error
    except Exception as error:  # a damaged header raises whatever NumPy's parsers raise
        hint = "write it with numpy.save, without objects"
        raise DataError(f"{path} is no .npy array: {' '.join(str(error).split())}", hint=hint) from error
    if not isinstance(array, np.memmap) or array.ndim != 2 or array.dtype.kind not in "fiu":
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "an archive"
        raise DataError(f"{path} holds {found}, but must hold a row of numbers a text", hint="save an (N, D) array")
    return array


def _blocks(path: Path, array: Any) -> Iterator[np.ndarray]:
    for start in range(0, len(array), _ROWS):
        rows, width = min(_ROWS, len(array) - start), array.shape[1]
        if array.flags.c_contiguous:  # not through the map, whose pages would count as this process's memory
            offset = array.offset + start * width * array.itemsize
            yield np.fromfile(path, array.dtype, rows * width, offset=offset).reshape(rows, width)
        else:
            yield np.asarray(array[start : start + rows])
