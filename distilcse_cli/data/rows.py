"""The rows of a csv, tsv, JSON or parquet file, each with the file and line where it stands."""

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distilcse_cli.data.lines import MAX_LINE_BYTES, BadLines, is_unicode, read_lines
from distilcse_cli.data.opening import Kind, kind_of
from distilcse_cli.data.records import Record, read_records
from distilcse_cli.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

PARQUET_ROWS = 1024
"""Rows of a parquet file in memory at a time."""


@dataclass(frozen=True)
class Columns:
    """The columns that a reader takes out of a table."""

    names: tuple[str, ...]
    """As the file spells them; numbered from 1 in a table without a header."""
    at: tuple[int, ...]
    """Their positions in a row, from 0."""
    num_columns: int
    """Columns of a whole row, those that are not taken included."""
    is_header: bool = True
    """Whether the row in which they were found names them. If not, it is data itself."""
    num_texts: int | None = None
    """The first that many must hold text in a parquet file; None for all."""


Choose = Callable[[list[str], str], Columns]
"""Chooses columns by the names in the first row, or the keys of the first record. The string says where these stand."""


def read_rows(
    path: Path, choose: Choose, bad: BadLines, *, strict: bool, encoding: str | None = None
) -> Iterator[tuple[str, Sequence[object]]]:
    """Yield for each row where it stands, such as `data.csv, line 7`, and the chosen cells.

    A cell is text, None for a null, bytes for text of a parquet file that is not UTF-8, or another
    JSON value; see `cell_fault`. A blank line has no cells.

    Args:
        path: a file whose `Kind` is a table.
        choose: called with the names in the first row, or with the keys of JSON records: those of the first
            one, or of all in the first mebibyte unless `strict`.
        bad: receives lines that are no row, no JSON object or not in the encoding.
        strict: every row must have the columns of the first, which need not be a header. Otherwise
            the first row must be a header; a row may lack cells at its end that are not taken, and a
            record may lack keys.
        encoding: of the text; None is UTF-8.

    Raises:
        DataError: the file cannot be read or is damaged, a chosen column is there twice, or a chosen parquet
            column holds no text; and whatever `choose` raises.
    """
    kind = kind_of(path, encoding)

    def choose_one(names: list[str], where: str) -> Columns:
        columns = choose(names, where)
        for name in columns.names if columns.is_header else ():
            if names.count(name) > 1:
                raise DataError(f"{where} has {names.count(name)} columns {name!r}", hint="rename all but one of them")
        return columns

    if kind.is_json:
        return _json_rows(read_records(path, kind, bad, encoding), choose_one, bad, strict=strict)
    if kind.format == "parquet":
        return _parquet_rows(path, choose_one)
    return _csv_rows(path, kind, choose_one, bad, strict=strict, encoding=encoding)


def cell_fault(cell: object) -> str | None:
    """Say why a cell is not text, to follow the name of the cell; None for text."""
    if isinstance(cell, str):
        return None if is_unicode(cell) else "is not UTF-8"
    if cell is None:
        return "is blank"
    return "is not UTF-8" if isinstance(cell, bytes) else f"is not text but {type(cell).__name__}"


def _recorded(lines: Iterable[str], row: list[str]) -> Iterator[str]:
    for line in lines:
        row.append(line)
        yield line


def _csv_rows(
    path: Path, kind: Kind, choose: Choose, bad: BadLines, *, strict: bool, encoding: str | None
) -> Iterator[tuple[str, Sequence[str]]]:
    """Split with RFC 4180 quoting; in a tsv file at tabs, where a quotation mark is part of the text."""
    # a global of the csv module; its default would refuse an article of 131,073 characters
    csv.field_size_limit(MAX_LINE_BYTES)
    tabs = kind.format == "tsv"
    dialect: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {"delimiter": kind.delimiter}
    of_row: list[str] = []
    batches = read_lines(path, bad, encoding)
    lines = _recorded((line.rstrip("\r").replace("\r", " ") + "\n" for _, batch in batches for line in batch), of_row)
    rows = csv.reader(lines, **dialect, strict=True)
    columns = None
    prefix, before = f"{path}, line ", 1
    while True:
        number = before + rows.line_num
        where = prefix + str(number)
        of_row.clear()
        try:
            row = next(rows, None)
        except csv.Error as error:
            fault = f"{where}: {_csv_fault(error)}"
            if columns is None and not strict:
                raise DataError(fault, hint="the first row must name the columns") from error
            bad.meet(fault)
            if "expected after" in str(error):
                bad.num_skipped += len(of_row) - 1  # any of these lines may be at fault
            else:
                # the quotation mark is wrong, not the rows that follow it
                before = number + 1
                rows = csv.reader(chain(_recorded(of_row[1:], of_row), lines), **dialect, strict=True)
            continue
        if row is None:
            return
        if not row:
            yield where, ()
            continue
        if columns is None:
            columns = choose([name.strip() for name in row], where)
            fewest = columns.num_columns if strict else max(columns.at) + 1
            if columns.is_header:
                continue
        if not fewest <= len(row) <= columns.num_columns:
            bad.meet(f"{where} has {len(row)} columns, but the first row {columns.num_columns}")
        else:
            yield where, [row[i] for i in columns.at]


def _csv_fault(error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return "a quotation mark that opens in this row is never closed"
    if "expected after" in str(error):
        return "text follows a closing quotation mark, so one is missing or not doubled"
    return str(error)


def _json_rows(
    batches: Iterator[Iterator[Record]], choose: Choose, bad: BadLines, *, strict: bool
) -> Iterator[tuple[str, Sequence[object]]]:
    columns = None
    keys: list[str] = []
    for batch in batches:
        start = list(batch) if columns is None and not strict else []
        for where, record in chain(start, batch):
            if record is None:
                yield where, ()
                continue
            if columns is None:
                keys = list(dict.fromkeys(chain(record, *(other for _, other in start if other))))
                columns = choose(keys, where)
            if strict and list(record) != keys and not _has_columns(record, columns, choose):
                names = ", ".join(record) or "nothing"
                bad.meet(f"{where} has {names}, but the first record {', '.join(columns.names)}")
            else:
                yield where, [record.get(name) for name in columns.names]


def _has_columns(record: dict[str, object], columns: Columns, choose: Choose) -> bool:
    try:
        return choose(list(record), "").names == columns.names
    except DataError:
        return False


def _parquet_rows(path: Path, choose: Choose) -> Iterator[tuple[str, Sequence[object]]]:
    with open_parquet(path) as file:
        schema = file.schema_arrow
        columns = choose(schema.names, str(path))
        names = list(columns.names)
        for name in names[: columns.num_texts]:
            require_text(schema, name, path)
        number = 1
        for batch in file.iter_batches(PARQUET_ROWS, columns=names, use_threads=False):
            for cells in zip(*(cells_of(batch.column(name)) for name in names), strict=True):
                yield f"{path}, row {number}", cells
                number += 1


@contextmanager
def open_parquet(path: Path, buffer_bytes: int = 0) -> "Iterator[pq.ParquetFile]":
    """Open a parquet file to read batches from it.

    Args:
        path: the file.
        buffer_bytes: read columns through a buffer of this size; 0 takes a row group's whole column into memory.

    Raises:
        DataError: it cannot be read, or is damaged; also for what the block reads from it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # by its bytes, as a file's name need not be UTF-8
        with (
            pa.OSFile(os.fsencode(path)) as opened,
            pq.ParquetFile(opened, pre_buffer=False, buffer_size=buffer_bytes) as file,
        ):
            yield file
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:  # names of columns need not be UTF-8
        raise DataError(
            f"cannot read {path} as parquet: {' '.join(str(error).split())}", hint="download it or make it again"
        ) from error


def require_text(schema: "pa.Schema", name: str, where: object) -> None:
    """Check that a column of an arrow table holds text.

    Raises:
        DataError: it does not.
    """
    kind = schema.field(name).type
    if not _holds_text(kind):
        raise DataError(f"column {name!r} of {where} holds {kind}, not text", hint="name a column of text instead")


def _holds_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


class Nanoseconds(int):
    """A time, timestamp or duration of a column in nanoseconds, of which Python's own types would lose digits."""


def cells_of(column: "pa.Array") -> list[object]:
    """Return the values of an arrow column; text that is not UTF-8 as bytes."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_temporal(column.type) and getattr(column.type, "unit", "") == "ns":
        return [None if value is None else Nanoseconds(value) for value in column.cast(pa.int64()).to_pylist()]
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_text_or_bytes(value) for value in column.cast(pa.large_binary()).to_pylist()]


def _text_or_bytes(value: bytes | None) -> str | bytes | None:
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return value
