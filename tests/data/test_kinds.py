"""A file is what its bytes say: packed, encoded, lines or a table. What is left out is counted, or the run stops."""

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distilcse_cli.config import CorpusSettings, TextSettings, TripletSettings
from distilcse_cli.data.corpus import prepare_corpus
from distilcse_cli.data.every_line import lines, require_lines
from distilcse_cli.data.lines import BadLines
from distilcse_cli.data.opening import BLOCK_BYTES, kind_of
from distilcse_cli.data.sources import FileSource
from distilcse_cli.data.triplet_rows import triplet_rows
from distilcse_cli.data.triplets import prepare_triplets
from distilcse_cli.errors import DataError, UsageError

TEXTS = ["A cat; it sleeps.", "Zoë, said “no”", "last"]
RECORDS = [{"id": number, "text": text} for number, text in enumerate(TEXTS)]
LINES = "\n".join(TEXTS) + "\n"
JSON_LINES = "\n".join(json.dumps(record) for record in RECORDS)


def zstd(content: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(content, asbytes=True))


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd,
}


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path, bad: BadLines | None = None, encoding: str | None = None, column: str | None = None) -> list[str]:
    batches = FileSource(path, encoding).texts(CorpusSettings(text_column=column), bad or BadLines("stop"))
    return [text for batch in batches for text in batch]


@pytest.mark.parametrize("name", ["a.txt", "a"])
@pytest.mark.parametrize("packed", PACKERS)
def test_a_packed_file_is_unpacked_whatever_its_name(tmp_path: Path, packed: str, name: str) -> None:
    content = PACKERS[packed]
    for path in (tmp_path / name, tmp_path / f"{name}.{packed}"):
        assert read(write(path, content(LINES.encode())))[:3] == TEXTS
        assert list(lines(path)) == TEXTS
        assert str(kind_of(path)) == f"text.{packed}"
    assert read(write(tmp_path / f"b.csv.{packed}", content(b"id;text\n1;one\n2;two, too\n"))) == ["one", "two, too"]


@pytest.mark.parametrize("packed", PACKERS)
def test_a_packed_file_that_is_cut_is_one_clear_error(tmp_path: Path, packed: str) -> None:
    noise = np.random.default_rng(0).bytes(40_000).hex().encode()
    path = write(tmp_path / "a.txt", PACKERS[packed](noise)[:-9])
    with pytest.raises(DataError, match=rf"a\.txt is not a whole {'gzip' if packed == 'gz' else packed} file"):
        read(path, BadLines("skip"))
    with pytest.raises(DataError, match="is not a whole"):
        read(write(tmp_path / f"plain.txt.{packed}", "plain text, of some length\n"))


def test_archives_are_named_as_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a zip archive"):
        read(write(tmp_path / "a.csv", b"PK\x03\x04" + bytes(99)), BadLines("skip"))
    tar = bytearray(1024)
    tar[257:262] = b"ustar"
    with pytest.raises(DataError, match="is a tar archive"):
        read(write(tmp_path / "a.txt.gz", gzip.compress(tar)), BadLines("skip"))


@pytest.mark.parametrize("name", ["data.json", "data.txt", "data.jsonl", "data", "data.json.gz"])
def test_json_is_records_whatever_its_name(tmp_path: Path, name: str) -> None:
    for content in (JSON_LINES, json.dumps(RECORDS), json.dumps(RECORDS, indent=2), "\ufeff" + json.dumps(RECORDS)):
        packed = gzip.compress(content.encode()) if name.endswith(".gz") else content
        assert read(write(tmp_path / name, packed)) == TEXTS
        assert read(tmp_path / name, column="text") == TEXTS


@pytest.mark.parametrize("content", ["[1] A footnote\n", "{x} is a set\n", '{"quoted"} text\n', "[ { a set\n", "{}\n"])
def test_text_that_only_begins_like_json_is_text(tmp_path: Path, content: str) -> None:
    assert kind_of(write(tmp_path / "a.txt", content)).format == "text"


def test_a_long_array_is_read_piece_by_piece(tmp_path: Path) -> None:
    records = [{"text": f"é{number} " + "x" * (3 * BLOCK_BYTES * (number == 7))} for number in range(60_000)]
    path = write(tmp_path / "a.json", json.dumps(records, ensure_ascii=False))
    assert read(path) == [record["text"] for record in records]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"text": "a"}, {"text": ', "record 2 is no JSON"),
        ('[{"text": "a"} {"text": "b"}]x', "has text after the end of its array"),
        ('[{"text": "a"}', "record 2 is no JSON: the array has no end"),
        ('{\n "text": "a"\n}', "is one JSON object, but records are needed"),
        ("[" * 5000, "record 1 is no JSON"),
        ('["a", "b"]', "record 1 is no JSON object: it is a str"),
    ],
)
def test_json_that_is_no_array_of_records_is_one_clear_error(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path / "a.json", content))


def test_lines_that_end_at_carriage_returns_are_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "one\rtwo\r\rthree\r")
    assert list(lines(path)) == read(path) == ["one", "two", "", "three"]
    assert read(write(tmp_path / "a.csv", 'id,text\r1,"one, two"\r2,three\r')) == ["one, two", "three"]
    assert read(write(tmp_path / "b.txt", "one\rtwo\nthree\n"))[0].split() == ["one", "two"]
    mixed = write(tmp_path / "mixed.txt", "one\r" * (BLOCK_BYTES // 4 + 9) + "two\n")
    with pytest.raises(DataError, match=r"ends some lines with \\r alone and some with \\n"):
        read(mixed)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf_16_is_named_and_never_read_as_garbage(tmp_path: Path, encoding: str) -> None:
    content = LINES.encode(encoding)
    path = write(tmp_path / "a.txt", content)
    for policy in ("stop", "skip"):
        with pytest.raises(DataError, match=rf"a\.txt is {encoding[:6].upper()} by its .*, not UTF-8") as caught:
            read(path, BadLines(policy))
        assert str(caught.value.hint).startswith(f"--encoding {encoding[:6]}")
    for wrong in ("latin-1", "utf-8"):
        with pytest.raises(DataError, match="UTF-"):
            read(path, encoding=wrong)
    named = str(caught.value.hint).split()[1]
    assert read(path, encoding=named)[:3] == TEXTS
    assert list(lines(path, TextSettings(encoding=named))) == TEXTS
    assert read(write(tmp_path / "a.txt.gz", gzip.compress(content)), encoding=named)[:3] == TEXTS
    table = write(tmp_path / "a.csv", "id;text\r\n1;Zoë\r\n".encode(encoding))
    assert read(table, encoding=named) == ["Zoë"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_latin_letters_is_known_by_its_line_ends(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "a.txt", "中文的句子\n".encode(encoding) * 9)
    with pytest.raises(DataError, match="is UTF-16 by its NULs"):
        read(path, BadLines("skip"))
    assert read(path, encoding=encoding)[:9] == ["中文的句子"] * 9
    # NULs alone are no sign of it
    assert len(read(write(path, b"the cat\0\na dog\0\n" * 9))) >= 18


def test_another_encoding_is_read_and_its_wrong_bytes_are_named(tmp_path: Path) -> None:
    content = "café\nnaïve\n".encode("cp1252")
    assert read(write(tmp_path / "a.txt", content), encoding="cp1252")[:2] == ["café", "naïve"]
    wrong = write(tmp_path / "b.txt", b"one\ntwo \x81\nthree")  # 0x81 is no character of cp1252
    with pytest.raises(DataError, match="line 2 is not cp1252 at position 5"):
        read(wrong, encoding="cp1252")
    bad = BadLines("skip")
    assert read(wrong, bad, encoding="cp1252") == ["one", "three"]
    assert bad.num_skipped == 1
    with pytest.raises(DataError, match="line 1 is not utf-16"):
        read(write(tmp_path / "c.txt", b"\xff\xfea\0\0\xd8b\0"), encoding="utf-16")
    long = "дом " * BLOCK_BYTES + "\n" + "сад"
    assert "\n".join(read(write(tmp_path / "d.txt", long.encode("utf-16")), encoding="utf-16")) == long
    with pytest.raises(DataError, match=r"cannot read .*a\.txt as idna"):
        read(tmp_path / "a.txt", encoding="idna")
    for unknown in ("klingon", "rot13", "a\0b", ""):
        with pytest.raises(UsageError, match="--encoding is"):
            TextSettings(encoding=unknown)


@pytest.mark.usefixtures("home")
def test_an_option_that_applies_to_no_input_is_refused(tmp_path: Path) -> None:
    text, table = str(write(tmp_path / "a.txt", LINES)), str(write(tmp_path / "a.csv", "id,body\n1,two\n"))
    pq.write_table(pa.table({"text": ["x"], "anchor": ["a"], "positive": ["b"]}), tmp_path / "a.parquet")
    parquet = str(tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=r"--text-column does not apply to .*a\.txt"):
        prepare_corpus([text], CorpusSettings(text_column="body"))
    assert len(prepare_corpus([text, table], CorpusSettings(text_column="body"))) == 4
    with pytest.raises(UsageError, match="--encoding does not apply"):
        prepare_corpus([parquet], CorpusSettings(encoding="cp1252"))
    for settings in (TripletSettings(encoding="cp1252"), TripletSettings(header=True)):
        with pytest.raises(UsageError, match="does not apply"):
            prepare_triplets([parquet], settings)


def test_a_quote_that_is_never_closed_costs_its_own_line_alone(tmp_path: Path) -> None:
    rows = [f"{number},the cat {number}" for number in range(200)]
    rows[5] = '5,"the cat 5'
    path = write(tmp_path / "a.csv", "\n".join(["id,text", *rows, "short", "201,end"]))
    with pytest.raises(DataError, match="line 7: a quotation mark that opens in this row is never closed"):
        read(path)
    bad = BadLines("skip")
    assert read(path, bad) == [f"the cat {number}" for number in range(200) if number != 5] + ["end"]
    assert bad.num_skipped == 2
    seen: list[str] = []
    bad.meet = seen.append  # type: ignore[assignment, method-assign]
    read(path, bad)
    assert [message.split(":")[0].split(", ")[1][:8] for message in seen] == ["line 7", "line 202"]


def test_lines_lost_to_a_quote_that_another_row_closes_are_all_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'id,text\n1,"one\n2,two\n3,"three"\n4,four\n')
    bad = BadLines("skip")
    assert read(path, bad) == ["four"]
    assert bad.num_skipped == 3


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_first_row_shows_what_separates_cells(tmp_path: Path, delimiter: str) -> None:
    content = f"id{delimiter}text\n1{delimiter}one\n"
    assert read(write(tmp_path / "a.csv", content)) == ["one"]
    triples = write(tmp_path / "b.csv", delimiter.join(("the cat", "a cat", "a dog")))
    assert list(triplet_rows(triples, None, None, BadLines("stop"))) == [("the cat", "a cat", "a dog")]


def test_a_column_is_found_though_the_first_record_lacks_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"id": "one"}\n\n{"id": "two", "text": "a cat"}\n')
    assert read(path) == read(path, column="text") == ["", "", "a cat"]
    write(path, '{"id": "one"}\n{"id": "two", "body": "a cat"}\n')
    with pytest.raises(DataError, match=r"which column of .* holds the text\? it has id, body"):
        read(path)


def test_a_name_that_two_columns_have_is_refused(tmp_path: Path) -> None:
    columns = [pa.array(["x"]), pa.array(["y"]), pa.array([1])]
    pq.write_table(pa.Table.from_arrays(columns, ["text", "text", "id"]), tmp_path / "a.parquet")
    for path in (tmp_path / "a.parquet", write(tmp_path / "a.csv", "text,text,id\nx,y,1\n")):
        with pytest.raises(DataError, match="has 2 columns 'text'"):
            read(path)
    pq.write_table(pa.Table.from_arrays(columns, ["id", "id", "n"]).append_column("text", [["z"]]), path)
    assert read(path) == ["z"]


@pytest.mark.parametrize(
    ("header", "content", "message"),
    [
        (None, "premise,hypothesis,label\nthe cat,a cat,0\n", "do premise, hypothesis, label name the columns"),
        (True, "premise,hypothesis,label\nthe cat,a cat,0\n", "column 3 does not look like sentences: 'label'"),
        (None, "the cat,a cat,0\na dog,the dog,1\n", "column 3 does not look like sentences: '0'"),
        (None, "the cat,a cat,0.5\na dog,the dog,1\n", "column 3 does not look like sentences: '0.5'"),
    ],
)
def test_labels_are_no_hard_negatives(tmp_path: Path, header: bool | None, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(triplet_rows(write(tmp_path / "a.csv", content), None, header, BadLines("skip")))


@pytest.mark.usefixtures("home")
def test_several_hard_negatives_a_row_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "negative_2,anchor,positive,negative_1,score\nd,a,b,c,1\nh,e,f,g,2\n")
    expected = [("a", "b", "d", "c"), ("e", "f", "h", "g")]
    assert list(triplet_rows(path, None, None, BadLines("stop"))) == expected
    records = [dict(zip(("sent0", "sent1", "hard_neg", "hard_neg2"), row, strict=True)) for row in expected]
    for content in (json.dumps(records), "\n".join(map(json.dumps, records))):
        named = write(tmp_path / "a.json", content)
        assert list(triplet_rows(named, None, None, BadLines("stop"))) == expected
    asked = ("anchor", "positive", "negative_1", "negative_2")
    triplets = prepare_triplets([str(path)], TripletSettings(columns=asked))
    assert triplets.rows.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert triplets.has_negatives
    assert str(triplets) == "2 anchors with a positive and 2 hard negatives each of 8 distinct sentences"


def test_encode_reads_lines_or_the_named_column_and_no_markup(tmp_path: Path) -> None:
    parquet = io.BytesIO()
    pq.write_table(pa.table({"text": TEXTS, "n": [1, 2, 3]}), parquet)
    tables: dict[str, str | bytes] = {
        "a.jsonl": JSON_LINES.replace("\n", "\n\n"),
        "a.json": json.dumps(RECORDS),
        "a.csv": 'id;text\n1;"A cat; it sleeps."\n2;Zoë, said “no”\n3;last\n',
        "a.parquet": parquet.getvalue(),
        "a": parquet.getvalue(),
    }
    for name, content in tables.items():
        path = write(tmp_path / name, content)
        with pytest.raises(DataError, match=r"is a table .*, but a sentence a line is needed") as caught:
            require_lines(path, TextSettings())
        assert "--text-column" in str(caught.value.hint)
        require_lines(path, TextSettings(text_column="text"))
        assert list(lines(path, TextSettings(text_column="text"))) == TEXTS
    text = write(tmp_path / "a.txt", LINES)
    require_lines(text, TextSettings())
    with pytest.raises(UsageError, match="--text-column does not apply"):
        require_lines(text, TextSettings(text_column="text"))
    with pytest.raises(UsageError, match="--encoding does not apply"):
        require_lines(tmp_path / "a.parquet", TextSettings(text_column="text", encoding="cp1252"))
    null = write(tmp_path / "b.jsonl", '{"text": "a"}\n{"text": null}\n{"text": 5}\n')
    with pytest.raises(DataError, match="line 3: the text column is not text but int"):
        list(lines(null, TextSettings(text_column="text")))
