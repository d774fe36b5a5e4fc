"""Columns of the input that stay beside the vectors, each cell with the type that it had."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distilcse_cli.data.every_line import Lines, Row
from distilcse_cli.data.lines import is_unicode
from distilcse_cli.data.opening import kind_of
from distilcse_cli.data.rows import PARQUET_ROWS, Nanoseconds, open_parquet
from distilcse_cli.errors import DataError
from distilcse_cli.serving.formats import Columns

if TYPE_CHECKING:
    import pyarrow as pa

_OR_JSON = "write .jsonl, which keeps each cell as it is"


def output_columns(inputs: Lines, out: Path) -> Columns:
    """What the other columns hold in `out`.

    Raises:
        DataError: for parquet, which needs one type a column: there is none that holds all cells of a column.
    """
    if out.suffix.lower() != ".parquet" or not inputs.columns:
        return dict.fromkeys(inputs.columns)
    import pyarrow as pa

    schema = pa.schema([(name, pa.null()) for name in inputs.columns])  # of files without rows
    for source in inputs.sources:
        for where, of_source in _schemas(inputs, source):
            try:
                schema = pa.unify_schemas([schema, of_source], promote_options="permissive")
            except pa.ArrowException as error:
                message = f"{where}: --id-column changes its type: {' '.join(str(error).split())}"
                raise DataError(message, hint=_OR_JSON) from error
    return {name: schema.field(name).type for name in inputs.columns}


def _schemas(inputs: Lines, source: Path) -> "Iterator[tuple[str, pa.Schema]]":
    """The types of a file's columns: those that a parquet file names, text in csv, what the cells are in JSON."""
    import pyarrow as pa

    kind = kind_of(source, inputs.text.encoding)
    if kind.format == "parquet":
        with open_parquet(source) as file:
            schema = file.schema_arrow
        if set(inputs.columns) <= set(schema.names):  # else the reader says what is missing
            yield str(source), pa.schema([(name, _plain(schema.field(name).type)) for name in inputs.columns])
            return
    if kind.is_csv:
        yield str(source), pa.schema([(name, pa.string()) for name in inputs.columns])
        return
    rows = Lines(sources=(source,), text=inputs.text, columns=inputs.columns).rows()
    while batch := list(islice(rows, PARQUET_ROWS)):
        where = f"{batch[0][0]} and the next {len(batch) - 1:,}"
        cells = zip(inputs.columns, zip(*(row[2] for row in batch), strict=True), strict=True)
        yield where, pa.schema([(name, _array(column, None, where, name).type) for name, column in cells])


def _plain(kind: "pa.DataType") -> "pa.DataType":
    import pyarrow as pa

    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _array(cells: Sequence[object], kind: "pa.DataType | None", where: str, name: str) -> "pa.Array":
    import pyarrow as pa

    try:
        return pa.array(cells, kind)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        message = f"{where}: the cells of column {name!r} have no one type: {' '.join(str(error).split())}"
        raise DataError(message, hint=_OR_JSON) from error


def output_cells(rows: Sequence[Row], columns: Columns) -> list[Any]:
    """The cells of each other column in some rows, as a writer takes them.

    Raises:
        DataError: JSON has no form of a cell, or it does not fit the column's type.
    """
    if None in columns.values():
        return [[_json(cells[i], where, name) for where, _, cells in rows] for i, name in enumerate(columns)]
    where = f"{rows[0][0]} and the next {len(rows) - 1:,}"
    cells = zip(*(row[2] for row in rows), strict=True)
    return [_array(column, kind, where, name) for (name, kind), column in zip(columns.items(), cells, strict=False)]


def _json(cell: object, where: str, name: str) -> str:
    try:
        if isinstance(cell, Nanoseconds):
            raise TypeError("a time is no number")
        text = json.dumps(cell, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        message = f"{where}: JSON has no form of column {name!r}, which holds {type(cell).__name__}: {error}"
        raise DataError(message, hint="write .parquet") from error
    if not is_unicode(text):
        raise DataError(f"{where}: column {name!r} is not UTF-8", hint="mend the cell")
    return text
