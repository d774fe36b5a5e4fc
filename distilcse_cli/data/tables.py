"""Texts in a column of a csv, tsv, jsonl or parquet file, row by row."""

import csv
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distilcse_cli.data.lines import MAX_LINE_BYTES, BadLines, is_unicode, read_lines
from distilcse_cli.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

TEXT_COLUMNS = ("text", "sentence")
_PARQUET_ROWS = 1024


def choose_column(columns: Sequence[str], wanted: str | None, source: object) -> str:
    """Return the column that holds the text: the wanted one, the only one, or one of `TEXT_COLUMNS`.

    Raises:
        DataError: there is no such column; the message lists those there are.
    """
    have = f"it has {', '.join(columns)}" if columns else "it has none"
    if wanted is not None:
        if wanted in columns:
            return wanted
        raise DataError(f"{source} has no column {wanted!r}: {have}", hint="name one of them with --text-column")
    if len(columns) == 1:
        return columns[0]
    for name in TEXT_COLUMNS:
        if name in columns:
            return name
    raise DataError(f"which column of {source} holds the text? {have}", hint="name it with --text-column")


def jsonl_texts(path: Path, text_column: str | None, bad: BadLines) -> Iterator[str]:
    """Yield the text of each line's JSON object; a blank line, a missing or a null text gives an empty one."""
    column = None
    for first, lines in read_lines(path, bad):
        for number, line in enumerate(lines, first):
            if not line or line.isspace():
                yield ""
                continue
            record, fault = _json_object(line)
            if record is None:
                bad.meet(f"{path}, line {number} is no JSON object: {fault}")
                continue
            if column is None:
                column = choose_column(list(record), text_column, path)
            text = record.get(column)
            if text is None:
                yield ""
            elif isinstance(text, str) and is_unicode(text):
                yield text
            else:
                bad.meet(f"{path}, line {number}: {column!r} holds no valid text")


def _json_object(line: str) -> tuple[dict[str, object] | None, str]:
    """Parse one line: the object, or None and what is wrong."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        return None, str(error)
    if not isinstance(record, dict):
        return None, f"it is a {type(record).__name__}"
    return record, ""


def csv_texts(path: Path, text_column: str | None, bad: BadLines, *, tabs: bool) -> Iterator[str]:
    """Yield the text of each row; the first row names the columns.

    Commas and RFC 4180 quoting; with `tabs`, tabs and no quoting, since a quotation mark in a
    tab-separated file is one that somebody wrote.
    """
    # a global of the csv module; its default would refuse an article of 131,073 characters
    csv.field_size_limit(MAX_LINE_BYTES)
    lines = (line.rstrip("\r").replace("\r", " ") + "\n" for _, batch in read_lines(path, bad) for line in batch)
    if tabs:
        rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
    else:
        rows = csv.reader(lines, strict=True)
    num_columns = at = 0
    while True:
        start = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            fault = f"{path}, row at line {start}: {error}"
            if not num_columns:
                raise DataError(fault, hint="the first row has to name the columns") from error
            bad.meet(fault)
            continue
        if row is None:
            return
        if not row:
            yield ""
        elif not num_columns:
            names = [name.strip() for name in row]
            num_columns, at = len(names), names.index(choose_column(names, text_column, path))
        elif len(row) > num_columns or len(row) <= at:
            bad.meet(f"{path}, row at line {start} has {len(row)} columns, but the header {num_columns}")
        elif not is_unicode(row[at]):
            bad.meet(f"{path}, row at line {start} is not UTF-8")
        else:
            yield row[at]


def parquet_texts(path: Path, text_column: str | None, bad: BadLines) -> Iterator[list[str]]:
    """Yield the texts of each record batch; a null gives an empty one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # by its bytes, as a file's name need not be UTF-8
        with pa.OSFile(os.fsencode(path)) as opened, pq.ParquetFile(opened, pre_buffer=False) as file:
            schema = file.schema_arrow
            column = choose_column(schema.names, text_column, path)
            if not _holds_text(schema.field(column).type):
                raise DataError(
                    f"column {column!r} of {path} holds {schema.field(column).type}, not text",
                    hint="name another one with --text-column",
                )
            number = 1
            for batch in file.iter_batches(_PARQUET_ROWS, columns=[column], use_threads=False):
                yield _arrow_texts(batch.column(0), path, number, bad)
                number += batch.num_rows
    except (OSError, ValueError, pa.ArrowException) as error:  # names of columns need not be UTF-8
        raise DataError(
            f"cannot read {path} as parquet: {' '.join(str(error).split())}", hint="fetch or make it again"
        ) from error


def _holds_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _arrow_texts(column: "pa.Array", path: Path, first: int, bad: BadLines) -> list[str]:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        return [text or "" for text in column.to_pylist()]
    except UnicodeDecodeError:
        pass
    texts = []
    for number, raw in enumerate(column.cast(pa.large_binary()).to_pylist(), first):
        try:
            texts.append((raw or b"").decode("utf-8"))
        except UnicodeDecodeError:
            bad.meet(f"{path}, row {number} is not UTF-8")
    return texts
