"""Triples out of a csv, tsv, jsonl or parquet file, row by row, each checked and named by its line."""

import csv
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilcse_cli import console
from distilcse_cli.config import TRIPLET_COLUMNS
from distilcse_cli.data.cleaning import clean
from distilcse_cli.data.lines import MAX_LINE_BYTES, BadLines, is_unicode, read_lines
from distilcse_cli.data.readers import file_format
from distilcse_cli.errors import DataError

ROLES = ("anchor", "positive", "hard negative")
_PARQUET_ROWS = 1024
_LIKE_A_NAME = re.compile(r"[A-Za-z][\w-]*")
_KNOWN = " or ".join(",".join(names) for names in TRIPLET_COLUMNS[:2])


@dataclass(frozen=True)
class Columns:
    """Which columns of a table hold anchor, positive and, if there are any, hard negative."""

    names: tuple[str, ...]
    """Two or three, as the file spells them; numbered from 1 where it has no header."""
    at: tuple[int, ...]
    """Their places in a row, from 0."""
    width: int
    """Columns of a whole row."""


def triplet_rows(
    path: Path, columns: Sequence[str] | None, header: bool | None, bad: BadLines
) -> Iterator[tuple[str, ...]]:
    """Yield the clean cells of each triple (anchor, positive, hard negative) or pair (anchor, positive).

    All rows of a file have as many as its first one. Blank lines between rows are left out.

    Args:
        path: `.csv`, `.tsv` or `.jsonl`, each also as `.gz`, or `.parquet`.
        columns: names of the two or three columns; None takes a known set of names, else the place.
        header: whether the first row of a csv or tsv names its columns; None decides by the names.
        bad: meets rows with another number of columns, a blank cell, or text that is not UTF-8.

    Raises:
        DataError: the file cannot be read, is no such table, or has no such columns.
    """
    kind = file_format(path)
    if kind == "text":
        raise DataError(f"{path}: triples are read from .csv, .tsv, .jsonl and .parquet", hint="rename or convert it")
    rows: Iterator[tuple[str, Sequence[object]]]
    if kind == "jsonl":
        rows = _jsonl_rows(path, columns, bad)
    elif kind == "parquet":
        rows = _parquet_rows(path, columns)
    else:
        rows = _csv_rows(path, columns, header, bad, tabs=kind == "tsv")
    for place, cells in rows:
        sound = _clean_cells(place, cells, bad)
        if sound is not None:
            yield sound


def _clean_cells(place: str, cells: Sequence[object], bad: BadLines) -> tuple[str, ...] | None:
    """The cells of one row, each on one line; None if the row is of no use."""
    texts = [clean(cell) if isinstance(cell, str) and is_unicode(cell) else "" for cell in cells]
    if all(texts):
        return tuple(texts)
    role, cell = next((role, cell) for role, cell, text in zip(ROLES, cells, texts, strict=False) if not text)
    bad.meet(f"{place}: the {role} {_fault(cell)}")
    return None


def _fault(cell: object) -> str:
    if cell is None or (isinstance(cell, str) and is_unicode(cell)):
        return "is blank"
    return "is not UTF-8" if isinstance(cell, str | bytes) else f"is not text but {type(cell).__name__}"


def find_columns(names: Sequence[str], wanted: Sequence[str] | None, source: object) -> Columns | None:
    """Find the columns by name, capitals or not; None if none of the known sets of names is there.

    Raises:
        DataError: a wanted name is not there.
    """
    folded = [name.strip().lower() for name in names]
    for known in (wanted,) if wanted is not None else TRIPLET_COLUMNS:
        have = [name for name in known if name.lower() in folded]
        # a hard negative need not be there, but one that is asked for by name must
        if len(have) == len(known) or (wanted is None and have == list(known[:2])):
            at = tuple(folded.index(name.lower()) for name in have)
            return Columns(tuple(names[i].strip() for i in at), at, len(names))
    if wanted is None:
        return None
    lacking = ", ".join(repr(name) for name in wanted if name.lower() not in folded)
    raise DataError(f"{source} has no column {lacking}: it has {', '.join(names)}", hint="name others with --columns")


def _csv_rows(
    path: Path, wanted: Sequence[str] | None, header: bool | None, bad: BadLines, *, tabs: bool
) -> Iterator[tuple[str, list[str]]]:
    """Rows of commas and RFC 4180 quoting; with `tabs`, of tabs, where a quotation mark is one that somebody wrote."""
    csv.field_size_limit(MAX_LINE_BYTES)
    lines = (line.rstrip("\r").replace("\r", " ") + "\n" for _, batch in read_lines(path, bad) for line in batch)
    if tabs:
        rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
    else:
        rows = csv.reader(lines, strict=True)
    columns = None
    while True:
        place = f"{path}, line {rows.line_num + 1}"
        try:
            row = next(rows, None)
        except csv.Error as error:
            bad.meet(f"{place}: {_csv_fault(error)}")
            continue
        if row is None:
            return
        if not row:
            continue
        if columns is None:
            columns, is_header = _first_row(row, wanted, header, place)
            if is_header:
                continue
        if len(row) != columns.width:
            bad.meet(f"{place} has {len(row)} columns, but the first row {columns.width}")
        else:
            yield place, [row[i] for i in columns.at]


def _csv_fault(error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return "a quotation mark that opens in this row is never closed"
    if "expected after" in str(error):
        return "text follows a closing quotation mark, so one is missing or not doubled"
    return str(error)


def _first_row(row: list[str], wanted: Sequence[str] | None, header: bool | None, place: str) -> tuple[Columns, bool]:
    """The columns that the first row announces by name or by number, and whether it is a header."""
    found = None if header is False else find_columns(row, wanted, place)
    if found is not None:
        return found, True
    width = len(row)
    if width not in (2, 3):
        raise DataError(
            f"{place} has {width} column{'s' * (width != 1)}, but a triple has 3 (anchor, positive, hard negative)"
            " and a pair 2",
            hint=f"a first line with {_KNOWN} may name them, or --columns",
        )
    if header is None and all(_LIKE_A_NAME.fullmatch(cell) for cell in row):
        console.warn(f"{place} ({', '.join(row)}) is taken for a triple: if it names the columns, say --header")
    names = row if header else [str(number) for number in range(1, width + 1)]
    return Columns(tuple(names), tuple(range(width)), width), bool(header)


def _jsonl_rows(path: Path, wanted: Sequence[str] | None, bad: BadLines) -> Iterator[tuple[str, list[object]]]:
    columns = None
    for first, lines in read_lines(path, bad):
        for number, line in enumerate(lines, first):
            if not line or line.isspace():
                continue
            place = f"{path}, line {number}"
            record, fault = _json_object(line)
            if record is None:
                bad.meet(f"{place} is no JSON object: {fault}")
                continue
            columns = columns or _named(list(record), wanted, place)
            found = find_columns(list(record), wanted, place) if wanted is None else columns
            if found is None or found.names != columns.names:
                keys = ", ".join(record) or "nothing"
                bad.meet(f"{place} has {keys}, but the first record {', '.join(columns.names)}")
            else:
                yield place, [record.get(name) for name in columns.names]


def _json_object(line: str) -> tuple[dict[str, Any] | None, str]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        return None, str(error)
    return (record, "") if isinstance(record, dict) else (None, f"it is a {type(record).__name__}")


def _parquet_rows(path: Path, wanted: Sequence[str] | None) -> Iterator[tuple[str, list[object]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pa.OSFile(os.fsencode(path)) as opened, pq.ParquetFile(opened, pre_buffer=False) as file:
            names = list(_named(file.schema_arrow.names, wanted, path).names)
            number = 1
            for batch in file.iter_batches(_PARQUET_ROWS, columns=names, use_threads=False):
                for cells in zip(*(_cells(batch.column(name)) for name in names), strict=True):
                    yield f"{path}, row {number}", list(cells)
                    number += 1
    except (OSError, ValueError, pa.ArrowException) as error:  # names of columns need not be UTF-8
        raise DataError(
            f"cannot read {path} as parquet: {' '.join(str(error).split())}", hint="fetch or make it again"
        ) from error


def _cells(column: Any) -> list[object]:
    """Values of an arrow column; of one with text that is not UTF-8, such values as bytes."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        raw = column.cast(pa.large_binary()).to_pylist()
        return [value if value is None else _text_or_bytes(value) for value in raw]


def _text_or_bytes(value: bytes) -> str | bytes:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value


def _named(names: list[str], wanted: Sequence[str] | None, source: object) -> Columns:
    found = find_columns(names, wanted, source)
    if found is None:
        have = ", ".join(names) or "no columns"
        raise DataError(f"which columns of {source} hold the triples? it has {have}", hint=f"--columns {_KNOWN}")
    return found
