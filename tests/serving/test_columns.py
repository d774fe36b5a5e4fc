"""Columns that stay beside the vectors keep their cells as they were."""

import datetime
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distilcse_cli.config import TextSettings
from distilcse_cli.data.every_line import Lines
from distilcse_cli.errors import DataError, UsageError
from distilcse_cli.serving.columns import output_cells, output_columns
from distilcse_cli.serving.formats import check_suffix, open_rows

RECORDS: list[dict[str, Any]] = [
    {"id": 7, "50%": "007", "f": 0.5, "mix": 1, "t": "a cat"},
    {"id": None, "50%": "é", "f": 1, "mix": "one", "t": "a dog"},
]


def write(path: Path, inputs: Lines) -> Path:
    """The rows with embeddings 0, 1, …"""
    columns, rows = output_columns(inputs, path), list(inputs.rows())
    embeddings = np.arange(len(rows), dtype=np.float32)[:, None]
    with open_rows(path, 1, "float32", columns) as writer:
        writer.append([text for _, text, _ in rows], embeddings, output_cells(rows, columns))
    return path


def lines(*sources: Path, columns: tuple[str, ...]) -> Lines:
    return Lines(sources=sources, text=TextSettings(text_column="t"), columns=columns)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS), encoding="utf-8")
    return path


def test_json_cells_stay_as_they_are_in_json_lines(table: Path, tmp_path: Path) -> None:
    out = write(tmp_path / "out.jsonl", lines(table, columns=("50%", "mix", "id")))
    assert out.read_text(encoding="utf-8").splitlines() == [
        '{"50%": "007", "mix": 1, "id": 7, "sentence": "a cat", "embedding": [0]}',
        '{"50%": "é", "mix": "one", "id": null, "sentence": "a dog", "embedding": [1]}',
    ]


def test_json_and_csv_cells_have_one_type_a_column_in_parquet(table: Path, tmp_path: Path) -> None:
    csv = tmp_path / "table.csv"
    csv.write_text("50%,t\n008,a man\n", encoding="utf-8")
    schema = pq.read_schema(write(tmp_path / "out.parquet", lines(table, columns=("id", "f", "50%"))))
    assert [str(schema.field(i).type) for i in range(3)] == ["int64", "double", "string"]
    both = pq.read_table(write(tmp_path / "both.parquet", lines(table, csv, columns=("50%",))))
    assert both.column("50%").to_pylist() == ["007", "é", "008"]
    (tmp_path / "empty.jsonl").touch()
    assert output_columns(lines(tmp_path / "empty.jsonl", columns=("id",)), tmp_path / "out.parquet") == {
        "id": pa.null()
    }
    for sources, column in (((table,), "mix"), ((table, tmp_path / "number.jsonl"), "50%")):
        (tmp_path / "number.jsonl").write_text('{"50%": 8, "t": "a man"}\n', encoding="utf-8")
        with pytest.raises(DataError, match=r"\.jsonl, line 1 and the next .*type") as refused:
            write(tmp_path / "no.parquet", lines(*sources, columns=(column,)))
        assert "write .jsonl" in str(refused.value.hint)


def test_parquet_columns_keep_their_types(tmp_path: Path) -> None:
    when = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901)
    columns = {
        "n": pa.array([1, None], pa.int32()),
        "when": pa.array([when, None], pa.timestamp("us")),
        "blob": pa.array([b"\xff", b""], pa.binary()),
        "list": pa.array([[1], []], pa.list_(pa.int8())),
        "kind": pa.array(["a", "b"]).dictionary_encode(),
    }
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table(columns | {"t": ["a cat", "a dog"]}), source)
    written = pq.read_table(write(tmp_path / "out.parquet", lines(source, columns=tuple(columns))))
    assert written.column_names == [*columns, "sentence", "embedding"]
    assert str(written.schema.field("kind").type) == "string"
    for name, column in columns.items():
        assert written.column(name).to_pylist() == column.to_pylist()
        assert name == "kind" or written.schema.field(name).type == column.type
    with pytest.raises(DataError, match=r"in\.parquet, row 1: JSON has no form of column 'when'"):
        write(tmp_path / "out.jsonl", lines(source, columns=("when",)))


@pytest.mark.parametrize("kind", [pa.time64("ns"), pa.timestamp("ns", "UTC"), pa.duration("ns")], ids=str)
def test_nanoseconds_keep_their_last_digit(kind: pa.DataType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)  # without it, arrow refuses them
    cells = pa.array([1_700_000_001, None], pa.int64()).cast(kind)
    pq.write_table(pa.table({"when": cells, "t": ["a cat", "a dog"]}), tmp_path / "in.parquet")
    inputs = lines(tmp_path / "in.parquet", columns=("when",))
    written = pq.read_table(write(tmp_path / "out.parquet", inputs)).column("when")
    assert written.type == kind
    assert written.combine_chunks().equals(cells)
    with pytest.raises(DataError, match=r"JSON has no form of column 'when'"):
        write(tmp_path / "out.jsonl", inputs)


def test_a_column_that_is_not_there_or_has_no_place_is_named(table: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"table\.jsonl, line 1 has no column 'key': it has id, ") as refused:
        write(tmp_path / "out.jsonl", lines(table, columns=("key",)))
    assert refused.value.hint == "name one of them with --id-column"
    for name, columns, says in (
        ("out.npy", ["id"], "no room for --id-column"),
        ("out.parquet", ["sentence"], "--id-column sentence has the name of a column of the output's own"),
        ("out.jsonl", ["id", "id"], "--id-column id is named twice"),
    ):
        with pytest.raises(UsageError, match=says):
            check_suffix(Path(name), columns)
