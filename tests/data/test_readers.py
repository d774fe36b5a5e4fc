"""Every format gives the same texts; what is broken is named by file and line."""

import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.lines import BLOCK_BYTES, BadLines, read_lines
from distilcse_cli.data.sources import FileSource
from distilcse_cli.data.texts import choose_column, in_batches
from distilcse_cli.errors import DataError

TEXTS = ["A cat sleeps.", 'He said "no", then left.', "Zoë eats; it’s late.", "last"]


def read(path: Path, text_column: str | None = None, policy: str = "stop") -> list[str]:
    return read_with(BadLines(policy), path, text_column)


def read_with(bad: BadLines, path: Path, text_column: str | None = None) -> list[str]:
    return [text for batch in FileSource(path).texts(CorpusSettings(text_column=text_column), bad) for text in batch]


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def as_csv(rows: list[list[str]], path: Path) -> bytes:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_text_format_gives_the_same_texts(tmp_path: Path, suffix: str, end: str) -> None:
    plain = write(tmp_path / f"a.txt{suffix}", end.join(TEXTS).encode())
    records = [json.dumps({"id": 1, "text": text}) for text in TEXTS]
    jsonl = write(tmp_path / f"a.jsonl{suffix}", end.join(records).encode())
    quoted = ['"' + text.replace('"', '""') + '"' for text in TEXTS]
    table = write(tmp_path / f"a.csv{suffix}", end.join(["text,id", *(f"{text},1" for text in quoted)]).encode())
    tabs = write(tmp_path / f"a.tsv{suffix}", end.join(["id\ttext", *(f"1\t{text}" for text in TEXTS)]).encode())
    assert [text.rstrip("\r") for text in read(plain)] == TEXTS
    assert read(jsonl) == read(table) == read(tabs) == TEXTS


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_parquet_of_any_string_type_is_read_and_null_is_empty(tmp_path: Path, kind: pa.DataType) -> None:
    column = pa.array([*TEXTS, None]).cast(kind)
    pq.write_table(pa.table({"text": column, "id": [1] * 5}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == [*TEXTS, ""]


def test_a_byte_order_mark_is_no_part_of_the_first_line_or_column_name(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.txt", b"\xef\xbb\xbfone\ntwo\n")) == ["one", "two"]
    assert read(write(tmp_path / "a.csv", b"\xef\xbb\xbftext,n\none,1\n")) == ["one"]


def test_lines_end_at_newlines_alone(tmp_path: Path) -> None:
    text = "a\x0bb\x0cc\x1cd\x1ee\x85f\u2028g\u2029h\ri"
    assert read(write(tmp_path / "a.txt", f"{text}\n\nz".encode())) == [text, "", "z"]


def test_lines_longer_than_a_block_stay_whole_and_numbers_go_on(tmp_path: Path) -> None:
    lines = ["x" * (2 * BLOCK_BYTES + 5), "", "y" * BLOCK_BYTES, "z"]
    path = write(tmp_path / "a.txt", "\n".join(lines).encode())
    batches = list(read_lines(path, BadLines("stop")))
    assert [line for _, batch in batches for line in batch] == lines
    # each batch starts where the one before ended
    assert [number for number, _ in batches] == [1 + sum(len(b) for _, b in batches[:i]) for i in range(len(batches))]


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distilcse_cli.data.lines.MAX_LINE_BYTES", 2 * BLOCK_BYTES)
    path = write(tmp_path / "zeros.txt.gz", bytes(4 * BLOCK_BYTES))
    with pytest.raises(DataError, match=r"zeros\.txt\.gz has a line of more than 2 MiB"):
        read(path)


def test_batches_are_bounded_in_texts_and_characters() -> None:
    assert [len(batch) for batch in in_batches(["a"] * 10_000)] == [4096, 4096, 1808]
    # the limit of 2^20 characters is passed by the second text
    assert [len(batch) for batch in in_batches(["a" * 600_000] * 5)] == [2, 2, 1]


# one line that cannot be used in the middle of good ones: (suffix, content, what the message says)
BAD_LINES = {
    "latin-1 text": (".txt", b"one\ncaf\xe9\ntwo\n", "line 2 is not UTF-8: byte 0xe9 at position 4"),
    "utf-16 surrogates in utf-8": (".txt", b"one\n\xed\xa0\x80\ntwo\n", "line 2 is not UTF-8"),
    "overlong utf-8": (".txt", b"one\n\xc0\xaf\ntwo\n", "line 2 is not UTF-8"),
    "latin-1 json": (".jsonl", b'{"text":"one"}\n{"text":"caf\xe9"}\n{"text":"two"}\n', "line 2 is not UTF-8"),
    "cut-off json": (".jsonl", b'{"text":"one"}\n{"text":\n{"text":"two"}\n', "line 2 is no JSON object"),
    "json list": (".jsonl", b'{"text":"one"}\n["no"]\n{"text":"two"}\n', "line 2 is no JSON object: it is a list"),
    "deep json": (".jsonl", b'{"text":"one"}\n' + b"[" * 99_999 + b'\n{"text":"two"}\n', "line 2 is no JSON object"),
    "json number": (
        ".jsonl",
        b'{"text":"one"}\n{"text":5}\n{"text":"two"}\n',
        "line 2: the text column is not text but int",
    ),
    "lone surrogate": (
        ".jsonl",
        b'{"text":"one"}\n{"text":"\\ud83d"}\n{"text":"two"}\n',
        "line 2: the text column is not UTF-8",
    ),
    "latin-1 csv": (".csv", b"text,n\none,1\ncaf\xe9,1\ntwo,1\n", "line 3 is not UTF-8"),
    "too many columns": (".csv", b"text,n\none,1\nno,no,no\ntwo,1\n", "line 3 has 3 columns, but the first row 2"),
    "too few columns": (".csv", b"n,text\n1,one\nno\n1,two\n", "line 3 has 1 columns, but the first row 2"),
    "text after a quote": (
        ".csv",
        b'text,n\none,1\n"no"no,1\ntwo,1\n',
        "line 3: text follows a closing quotation mark",
    ),
    "too many tabs": (".tsv", b"text\tn\none\t1\nno\tno\tno\ntwo\t1\n", "line 3 has 3 columns"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_stops_with_its_number_or_is_skipped_and_counted(tmp_path: Path, case: str) -> None:
    suffix, content, message = BAD_LINES[case]
    path = write(tmp_path / f"bad{suffix}", content)
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert message in caught.value.message
    assert "--on-bad-line skip" in str(caught.value.hint)
    bad = BadLines("skip")
    assert read_with(bad, path) == ["one", "two"]
    assert bad.num_skipped == 1


def test_an_unbalanced_quote_names_the_row_where_it_opens(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b'text,n\none,1\n"two,1\nthree,1\nfour,1\n')
    with pytest.raises(DataError, match="line 3: a quotation mark that opens in this row is never closed"):
        read(path)


def test_a_quoted_field_may_hold_newlines_and_a_hundred_thousand_characters(tmp_path: Path) -> None:
    long = "word " * 60_000
    content = as_csv([["n", "text"], ["1", f"two\nlines, {long}"], ["2", "x"]], tmp_path / "a.csv")
    assert len(content) > 300_000
    assert read(tmp_path / "a.csv") == [f"two\nlines, {long}", "x"]


def test_quotation_marks_in_tab_separated_text_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", b'text\tn\n"Yes," he said\t1\n"\t2\n')
    assert read(path) == ['"Yes," he said', '"']


def test_parquet_with_wrong_bytes_names_the_row(tmp_path: Path) -> None:
    raw = pa.array([b"one", b"caf\xe9", b"two"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": raw}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="row 2: the text column is not UTF-8"):
        read(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", policy="skip") == ["one", "two"]


BROKEN_FILES = {
    "cut gzip": ("a.txt.gz", gzip.compress(b"one\n" * 1000)[:-10], "not a whole gzip file"),
    "no gzip": ("a.txt.gz", b"plain text", "not a whole gzip file"),
    "damaged gzip": ("a.txt.gz", gzip.compress(b"one\n" * 9)[:12] + b"\xff" * 20, "not a whole gzip file"),
    "no parquet": ("a.parquet", b"plain text", "as parquet"),
    "empty parquet": ("a.parquet", b"", "as parquet"),
    "csv header": ("a.csv", b'"text"x,n\none,1\n', "line 1"),
}


@pytest.mark.parametrize("case", BROKEN_FILES)
def test_a_broken_file_is_one_clear_error_whatever_the_policy(tmp_path: Path, case: str) -> None:
    name, content, message = BROKEN_FILES[case]
    (tmp_path / name).write_bytes(content)
    for policy in ("stop", "skip"):
        with pytest.raises(DataError) as caught:
            read(tmp_path / name, policy=policy)
        assert name in caught.value.message
        assert message in caught.value.message
        assert "\n" not in caught.value.message


def test_parquet_of_numbers_is_refused_with_its_type(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="holds int64, not text"):
        read(tmp_path / "a.parquet")


def test_the_text_column_is_the_wanted_the_only_or_a_usual_one() -> None:
    assert choose_column(["id", "body"], "body", "x") == "body"
    assert choose_column(["body"], None, "x") == "body"
    assert choose_column(["id", "sentence", "text"], None, "x") == "text"
    assert choose_column(["id", "sentence"], None, "x") == "sentence"
    with pytest.raises(DataError, match=r"which column of x holds the text\? it has id, body"):
        choose_column(["id", "body"], None, "x")
    with pytest.raises(DataError, match=r"x has no column 'txt': it has id, text"):
        choose_column(["id", "text"], "txt", "x")
    with pytest.raises(DataError, match="it has none"):
        choose_column([], None, "x")
