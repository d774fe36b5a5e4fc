"""Every format gives the same triples; headers are never triples; what is broken is named by file and line."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distilcse_cli.config import TripletSettings
from distilcse_cli.data.cleaning import clean
from distilcse_cli.data.lines import BadLines
from distilcse_cli.data.triplet_rows import triplet_rows
from distilcse_cli.data.triplets import open_triplets, prepare_triplets
from distilcse_cli.errors import DataError, UsageError

TRIPLES = [
    ("A cat sleeps.", "An animal, asleep.", "A cat runs."),
    ('He said "no".', "He refused.", "He said yes."),
    ("Zoë eats.", "Someone eats.", "Nobody eats."),
]
HEADER = ("sent0", "sent1", "hard_neg")


def read(
    path: Path, columns: tuple[str, ...] | None = None, header: bool | None = None, policy: str = "stop"
) -> list[tuple[str, ...]]:
    return list(triplet_rows(path, columns, header, BadLines(policy)))


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def as_csv(rows: list[tuple[str, ...]], path: Path) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_every_format_gives_the_same_triples(tmp_path: Path, suffix: str) -> None:
    plain = as_csv(TRIPLES, tmp_path / "plain.csv").read_bytes()
    records = [json.dumps(dict(zip(HEADER, triple, strict=True))) for triple in TRIPLES]
    files = [
        write(tmp_path / f"a.csv{suffix}", plain),
        write(tmp_path / f"b.csv{suffix}", b"\xef\xbb\xbfsent0,sent1,hard_neg\r\n" + plain),
        write(tmp_path / f"c.tsv{suffix}", "\n".join("\t".join(triple) for triple in TRIPLES)),
        write(tmp_path / f"d.tsv{suffix}", "\n".join("\t".join(triple) for triple in [HEADER, *TRIPLES]) + "\n\n"),
        write(tmp_path / f"e.jsonl{suffix}", "\n\n".join(records) + "\n"),
    ]
    for file in files:
        assert read(file) == TRIPLES, file


@pytest.mark.parametrize(
    "names",
    [
        ("sent0", "sent1", "hard_neg"),
        ("Anchor", " positive", "NEGATIVE"),
        ("premise", "entailment", "contradiction"),
        ("query", "positive", "negative"),
    ],
)
def test_a_header_with_known_names_is_no_triple(tmp_path: Path, names: tuple[str, str, str]) -> None:
    assert read(as_csv([names, *TRIPLES], tmp_path / "a.csv")) == TRIPLES
    assert read(as_csv([names[:2], *(triple[:2] for triple in TRIPLES)], tmp_path / "b.csv")) == [
        triple[:2] for triple in TRIPLES
    ]


def test_columns_are_found_by_name_wherever_they_stand(tmp_path: Path) -> None:
    rows = [(c, "7", a, b) for a, b, c in TRIPLES]
    path = as_csv([("negative", "id", "anchor", "positive"), *rows], tmp_path / "a.csv")
    assert read(path) == TRIPLES
    assert read(path, columns=("negative", "anchor")) == [(c, a) for a, _, c in TRIPLES]
    pq.write_table(
        pa.table({"negative": [c for *_, c in TRIPLES], "anchor": [a for a, *_ in TRIPLES], "n": [1, 2, 3]}),
        tmp_path / "a.parquet",
    )
    assert read(tmp_path / "a.parquet", columns=("anchor", "negative")) == [(a, c) for a, _, c in TRIPLES]


def test_white_space_around_a_known_name_is_ignored_in_every_format(tmp_path: Path) -> None:
    names = (" anchor", "Positive ", "negative")
    records = [json.dumps(dict(zip(names, triple, strict=True))) for triple in TRIPLES]
    assert read(write(tmp_path / "a.jsonl", "\n".join(records))) == TRIPLES
    columns = dict(zip(names, zip(*TRIPLES, strict=True), strict=True))
    pq.write_table(pa.table({name: list(cells) for name, cells in columns.items()}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == TRIPLES


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_parquet_of_any_string_type_is_read(tmp_path: Path, kind: pa.DataType) -> None:
    columns = {name: pa.array(cells).cast(kind) for name, cells in zip(HEADER, zip(*TRIPLES, strict=True), strict=True)}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == TRIPLES


def test_the_header_can_be_forced_either_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = as_csv([("a", "b", "c"), *TRIPLES], tmp_path / "a.csv")
    assert read(path, header=True) == TRIPLES
    assert "taken in their order: anchor = a, positive = b, hard negative = c" in capsys.readouterr().err
    assert read(path, header=False) == [("a", "b", "c"), *TRIPLES]
    assert "anchor = column 1, positive = column 2, hard negative = column 3" in capsys.readouterr().err
    with pytest.raises(DataError, match="line 1: do a, b, c name the columns, or are they a triple") as caught:
        read(path)
    assert "--columns" in str(caught.value.hint)
    assert "--no-header" in str(caught.value.hint)
    known = as_csv([HEADER, *TRIPLES], tmp_path / "b.csv")
    assert read(known, header=False) == [HEADER, *TRIPLES]


def test_a_cell_of_many_lines_becomes_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", '"one\ntwo",b b\nc c,d d\n')
    assert read(path) == [("one two", "b b"), ("c c", "d d")]


CELLS = st.text(st.characters(codec="utf-8"), max_size=12).filter(lambda cell: clean(cell) != "")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=5))
def test_any_text_survives_csv(tmp_path: Path, rows: list[tuple[str, str, str]]) -> None:
    found = read(as_csv([HEADER, *rows], tmp_path / "a.csv"))
    # control characters become spaces: how many of them is not the point here
    assert [[clean(cell).split() for cell in row] for row in rows] == [[cell.split() for cell in row] for row in found]


# one unusable row between two good ones: (suffix, content, what the message says)
BAD_ROWS = {
    "too few columns": (".csv", "a 1,b,c\nno,no\nx,y,z\n", "line 2 has 2 columns, but the first row 3"),
    "too many columns": (".csv", "sent0,sent1\na 1,b\nno,no,no\nx,y\n", "line 3 has 3 columns, but the first row 2"),
    "after a cell of two lines": (".csv", '"a\n1",b\nno\nx,y\n', "line 3 has 1 columns, but the first row 2"),
    "too many tabs": (".tsv", "a 1\tb\nno\tno\tno\nx\ty\n", "line 2 has 3 columns"),
    "blank anchor": (".csv", "a 1,b,c\n ,no,no\nx,y,z\n", "line 2: the anchor is blank"),
    "blank negative": (".csv", 'a 1,b,c\nno,no,""\nx,y,z\n', "line 2: the hard negative is blank"),
    "latin-1": (".csv", b"a 1,b,c\nno,caf\xe9,no\nx,y,z\n", "line 2 is not UTF-8: byte 0xe9 at position 7"),
    "latin-1 tabs": (".tsv", b"a 1\tb\nno\tcaf\xe9\nx\ty\n", "line 2 is not UTF-8"),
    "latin-1 json": (
        ".jsonl",
        b'{"anchor":"a 1","positive":"b"}\n{"anchor":"caf\xe9","positive":"no"}\n{"anchor":"x","positive":"y"}\n',
        "line 2 is not UTF-8",
    ),
    "open quote": (".csv", 'a 1,b\nx,y\n"no,no\n', "line 3: a quotation mark that opens in this row is never closed"),
    "stray quote": (".csv", 'a 1,b\n"no" no,no\nx,y\n', "line 2: text follows a closing quotation mark"),
    "open quote that the next row's closes": (
        ".csv",
        'a 1,b\n"no,no\n"no no",no\nx,y\n',
        "line 2: text follows a closing quotation mark",
    ),
    "cut-off json": (".jsonl", '{"sent0":"a 1","sent1":"b"}\n{"sent0":\n{"sent0":"x","sent1":"y"}\n', "line 2 is no"),
    "json without a positive": (
        ".jsonl",
        '{"sent0":"a 1","sent1":"b"}\n{"sent0":"no"}\n{"sent0":"x","sent1":"y"}\n',
        "line 2 has sent0, but the first record sent0, sent1",
    ),
    "json with a negative of its own": (
        ".jsonl",
        '{"sent0":"a 1","sent1":"b"}\n{"sent0":"n","sent1":"n","hard_neg":"n"}\n{"sent0":"x","sent1":"y"}\n',
        "line 2 has sent0, sent1, hard_neg, but the first record sent0, sent1",
    ),
    "json null": (
        ".jsonl",
        '{"sent0":"a 1","sent1":"b"}\n{"sent0":"n","sent1":null}\n{"sent0":"x","sent1":"y"}\n',
        "line 2: the positive is blank",
    ),
    "json number": (
        ".jsonl",
        '{"sent0":"a 1","sent1":"b"}\n{"sent0":"n","sent1":3}\n{"sent0":"x","sent1":"y"}\n',
        "line 2: the positive is not text but int",
    ),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_stops_with_file_and_line_or_is_skipped_and_counted(tmp_path: Path, case: str) -> None:
    suffix, content, message = BAD_ROWS[case]
    path = write(tmp_path / f"bad{suffix}", content)
    with pytest.raises(DataError) as caught:
        read(path)
    assert f"{path}, {message}" in caught.value.message
    assert "--on-bad-line skip" in str(caught.value.hint)
    bad = BadLines("skip")
    kept = list(triplet_rows(path, None, None, bad))
    assert [row[0] for row in kept] == ["a 1", "x"]
    assert bad.num_skipped == (2 if "next row's" in case else 1)  # both lines are lost, so both count


def test_a_null_in_parquet_is_named_by_its_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"anchor": ["a", "b"], "positive": ["c", None]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet, row 2: the positive is blank"):
        read(tmp_path / "a.parquet")


def test_text_that_is_not_utf8_in_parquet_is_named_by_its_row(tmp_path: Path) -> None:
    raw = pa.array([b"fine", b"caf\xe9"], pa.binary())
    broken = pa.StringArray.from_buffers(2, *raw.buffers()[1:])
    pq.write_table(pa.table({"anchor": ["a", "b"], "positive": broken}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet, row 2: the positive is not UTF-8"):
        read(tmp_path / "a.parquet")


# files that are wrong as a whole: (name, content, what the message says)
BAD_FILES = {
    "one column": ("a.csv", "only one\n", "line 1 has 1 column, but a triple has 3"),
    "four columns": ("a.csv", "a,b,c,d\n", "line 1 has 4 columns, but a triple has 3"),
    "header of four unknown": ("a.tsv", "a\tb\tc\td\n", "line 1 has 4 columns"),
    "text": ("a.txt", "a\n", "triples are read from .csv, .tsv, .jsonl and .parquet"),
    "unknown keys": ("a.jsonl", '{"question": "a", "answer": "b"}', "it has question, answer"),
    "no parquet": ("a.parquet", "nonsense", "cannot read"),
    "cut-off gzip": ("a.csv.gz", None, "is not a whole gzip file"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_is_no_table_of_triples_says_so(tmp_path: Path, case: str) -> None:
    name, content, message = BAD_FILES[case]
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"a,b,c\n" * 99)[:-9] if content is None else content.encode())
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert message in caught.value.message


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = as_csv([HEADER, *TRIPLES], tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"has no column 'x': it has sent0, sent1, hard_neg"):
        read(path, columns=("sent0", "x"))


def test_column_settings_that_contradict_themselves_are_refused() -> None:
    for columns in (("a",), ("a", "a"), ("a", "")):
        with pytest.raises(UsageError, match="must be two or more different names"):
            TripletSettings(columns=columns)
    with pytest.raises(UsageError, match="--columns needs the header"):
        TripletSettings(columns=("a", "b"), header=False)


@pytest.mark.usefixtures("home")
def test_triplets_number_their_distinct_sentences_in_order_of_first_use(tmp_path: Path) -> None:
    rows = [("a b", "c", "d"), ("c", "a b", " a  b"), ("e", "a b ", "d")]
    triplets = prepare_triplets([str(as_csv(rows, tmp_path / "a.csv"))], TripletSettings())
    # white space at the ends is no difference, within a sentence it is
    assert list(triplets.sentences) == ["a b", "c", "d", "a  b", "e"]
    assert triplets.rows.tolist() == [[0, 1, 2], [1, 0, 3], [4, 0, 2]]
    assert triplets.sentences.take([4, 0]) == ["e", "a b"]
    assert (len(triplets), triplets.has_negatives) == (3, True)
    assert str(triplets) == "3 triples of 5 distinct sentences"


@pytest.mark.usefixtures("home")
def test_triplets_are_made_once_for_the_same_bytes_and_settings(tmp_path: Path) -> None:
    path = as_csv([HEADER, *TRIPLES], tmp_path / "a.csv")
    first = prepare_triplets([str(path)], TripletSettings())
    stamp = (first.folder / "rows.npy").stat().st_mtime_ns
    again = prepare_triplets([str(path.rename(tmp_path / "b.csv"))], TripletSettings())
    assert (again.folder, again.fingerprint) == (first.folder, first.fingerprint)
    assert (again.folder / "rows.npy").stat().st_mtime_ns == stamp
    pairs = prepare_triplets([str(tmp_path / "b.csv")], TripletSettings(columns=HEADER[:2]))
    assert (pairs.folder != first.folder, pairs.has_negatives, pairs.rows.shape) == (True, False, (3, 2))
    assert str(pairs) == "3 pairs without hard negatives of 6 distinct sentences"
    assert np.array_equal(open_triplets(first.folder).rows, first.rows)


@pytest.mark.usefixtures("home")
def test_many_rows_keep_their_order_over_batches(tmp_path: Path) -> None:
    rows = [(f"anchor {i % 5000}", f"positive {i}") for i in range(9001)]
    triplets = prepare_triplets([str(as_csv(rows, tmp_path / "a.csv"))], TripletSettings())
    assert len(triplets.sentences) == 5000 + 9001
    sentences = list(triplets.sentences)
    assert [tuple(sentences[i] for i in row) for row in triplets.rows.tolist()] == rows


@pytest.mark.usefixtures("home")
def test_several_files_follow_each_other_but_pairs_and_triples_do_not_mix(tmp_path: Path) -> None:
    triples = str(as_csv(TRIPLES, tmp_path / "a.csv"))
    more = str(write(tmp_path / "b.jsonl", json.dumps({"anchor": "x", "positive": "y", "negative": "A cat runs."})))
    assert prepare_triplets([triples, more], TripletSettings()).rows.tolist()[-1] == [9, 10, 2]
    pairs = str(as_csv([triple[:2] for triple in TRIPLES], tmp_path / "c.csv"))
    with pytest.raises(DataError, match=r"a\.csv has triples, but .*c\.csv pairs"):
        prepare_triplets([triples, pairs], TripletSettings())


def test_a_parquet_column_of_numbers_is_refused_with_its_type(tmp_path: Path) -> None:
    pq.write_table(pa.table({"anchor": ["a"], "positive": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"column 'positive' of .*a\.parquet holds int64, not text"):
        read(tmp_path / "a.parquet")


@pytest.mark.usefixtures("home")
def test_missing_empty_and_wholly_bad_inputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no triplets given"):
        prepare_triplets([], TripletSettings())
    with pytest.raises(DataError, match=r"no file .*nowhere\.csv") as missing:
        prepare_triplets([str(tmp_path / "nowhere.csv")], TripletSettings())
    assert missing.value.hint == "check the path, or run distilcse download nli and leave out --triplets"
    with pytest.raises(DataError, match="is a folder"):
        prepare_triplets([str(tmp_path)], TripletSettings())
    empty = write(tmp_path / "empty.csv", "sent0,sent1\n")
    with pytest.raises(DataError, match="no triple in"):
        prepare_triplets([str(empty)], TripletSettings())
    blank = write(tmp_path / "blank.csv", "sent0,sent1\n,\n")
    with pytest.raises(DataError) as caught:
        prepare_triplets([str(blank)], TripletSettings(on_bad_line="skip"))
    assert str(caught.value.hint) == "1 unusable rows were left out"
