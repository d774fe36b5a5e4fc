"""Hostile texts and tables, through every command that reads them."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.hostile.case import Case, Content, cut, cut_gzip, folder, ids, unreadable
from tests.hostile.conftest import TALLY, TEXT, TRIPLES, Command, Ended

ENCODE = "encode {file} --model {{model}} --out rows.npy"
EXTRACT = "extract --teacher {{model}} --corpus {file} --out rows"
DISTILL = "distill --teacher {{model}} --student {{other}} --corpus {file} --out student"
FINETUNE = "finetune --student {{other}} --triplets {file} --out student"
ORDINARY = {"ordinary": True}
DEEP = "[" * 100_000 + "]" * 100_000


def parquet(**columns: list[object]) -> Content:
    return lambda path, _: pq.write_table(pa.table(columns), path)


def case(name: str, line: str, file: str, content: Content, code: int, says: str, further: str = "") -> Case:
    command = line.partition(" ")[0]
    job = ORDINARY if content is unreadable else {}
    return Case(f"{command}: {name}", f"{line.format(file=file)} {further}".strip(), code, says, {file: content}, job)


def everywhere(name: str, file: str, content: Content, says: str, lines: str = "extract") -> list[Case]:
    """The same file through several commands."""
    by_name = {"encode": ENCODE, "extract": EXTRACT, "distill": DISTILL, "finetune": FINETUNE}
    return [case(name, by_name[line], file, content, 3, says) for line in lines.split()]


# all commands read texts with the readers of data/: each fault comes once, these rows show it of every command
ALL = "encode extract distill"
TEXTS = [
    *everywhere("missing", "text.txt", None, "text.txt", ALL),
    *everywhere("a folder", "text.txt", folder, "is a folder"),
    *everywhere("empty", "text.txt", b"", "text.txt"),
    *everywhere("unreadable", "text.txt", unreadable, "cannot read text.txt: Permission denied", "encode extract"),
    *everywhere("a name too long", "x" * 300, None, "xxx"),
    *everywhere(
        "latin-1", "text.txt", "the café\n".encode("latin-1") * 3, "text.txt, line 1 is not UTF-8: byte 0xe9", ALL
    ),
    *everywhere("UTF-16", "text.txt", "the cat\n".encode("utf-16"), "text.txt is UTF-16 by its byte order mark"),
    *everywhere("a cut emoji at the end", "text.txt", "the cat\na dog \U0001f600".encode()[:-1], "line 2 is not UTF-8"),
    *everywhere("encoded surrogate", "text.txt", b"the \xed\xa0\x80 cat\n", "line 1 is not UTF-8"),
    *everywhere("cut gzip", "text.txt.gz", cut_gzip(TEXT * 9), "is not a whole gzip file", ALL),
    *everywhere("gzip by name alone", "text.txt.gz", TEXT, "is not a whole gzip file"),
    *everywhere("gzip with a wrong checksum", "text.gz", gzip.compress(TEXT.encode())[:-8] + bytes(8), "gzip"),
    *everywhere("empty gzip", "text.txt.gz", b"", "text.txt.gz"),
    *everywhere("a line of 65 MiB", "text.txt", b"a" * (65 << 20), "has a line of more than 64 MiB", "encode extract"),
    *everywhere(
        "a gzip bomb", "text.gz", gzip.compress(bytes(65 << 20), 1), "has a line of more than 64 MiB", "encode extract"
    ),
    *everywhere("blank lines alone", "text.txt", "\n \n\t\n", "3 blank"),
    *everywhere("control characters alone", "text.txt", b"\0\n\x01\x02\n\x7f\n", "no sentence in"),
    case("a device", EXTRACT, "/dev/zero", None, 3, "/dev/zero is no regular file"),
    case("its own memory", ENCODE, "/proc/self/mem", None, 3, "cannot read /proc/self/mem"),
    case("its own memory", EXTRACT, "/proc/self/mem", None, 3, "cannot read /proc/self/mem"),
    Case("encode: nothing on stdin", "encode - --model {model} --out rows.npy", 3, "no lines"),
    Case("extract: words nobody has", "extract --teacher {model} --corpus {text} --min-words 99 --out rows", 3, "kept"),
]

TABLES = [
    *everywhere("no JSON", "t.jsonl", "the cat\n", "t.jsonl, line 1 is no JSON object", "extract finetune"),
    *everywhere("arrays", "t.jsonl", "[1, 2]\n", "t.jsonl, line 1 is no JSON object"),
    *everywhere("deep JSON", "t.jsonl", DEEP, "t.jsonl, line 1 is no JSON object"),
    *everywhere("cut JSON", "t.jsonl", '{"text": "a cat"}\n{"text": "a d', "line 2 is no JSON"),
    *everywhere(
        "lone surrogate",
        "t.jsonl",
        '{"text": "a \\ud800 cat"}\n',
        "line 1: the text column is not UTF-8",
    ),
    *everywhere(
        "numbers for text",
        "t.jsonl",
        '{"text": 7}\n',
        "line 1: the text column is not text but int",
    ),
    *everywhere("which column", "t.jsonl", '{"a": "x", "b": "y"}\n', "which column of t.jsonl"),
    *everywhere("no columns", "t.jsonl", "{}\n", "t.jsonl"),
    *everywhere("nulls alone", "t.jsonl", '{"text": null}\n' * 3, "no sentence in"),
    *everywhere("cut gzip", "t.jsonl.gz", cut_gzip('{"text": "the cat"}\n' * 99), "whole gzip", "extract finetune"),
    *everywhere("huge number", "t.jsonl", '{"text": ' + "9" * 5000 + "}\n", "t.jsonl, line 1"),
    *everywhere("unbalanced quote", "t.csv", 'text\n"the cat\na dog\n', "t.csv, line 2"),
    *everywhere("unbalanced quote in the header", "t.csv", '"text\nthe cat\n', "t.csv, line 1"),
    *everywhere("text behind a quote", "t.csv", 'text\n"the" cat\n', "t.csv, line 2"),
    *everywhere("header alone", "t.csv", "text\n", "no sentence in t.csv"),
    *everywhere("which column", "t.csv", "a,b\nx,y\n", "which column of t.csv"),
    *everywhere("a row too wide", "t.csv", "text,id\na cat,1\na dog,2,3\n", "line 3 has 3 columns"),
    *everywhere("latin-1", "t.csv", "text\nthe café\n".encode("latin-1"), "line 2 is not UTF-8"),
    *everywhere("empty", "t.csv", b"", "t.csv"),
    *everywhere("tabs missing", "t.tsv", "text\tid\na cat 1\n\n", "t.tsv", "finetune"),
    case("no such column", EXTRACT, "t.csv", "a,b\nx,y\n", 3, "has no column 'text'", "--text-column text"),
    case("no such column", EXTRACT, "t.jsonl", '{"a": "x"}\n', 3, "has no column 'b'", "--text-column b"),
    case("no such column", EXTRACT, "t.parquet", parquet(a=["x"]), 3, "has no column 'b'", "--text-column b"),
    *everywhere("which column", "t.parquet", parquet(a=["x"], b=["y"]), "which column"),
    *everywhere("numbers", "t.parquet", parquet(text=[1, 2]), "holds int64, not text"),
    *everywhere("no parquet", "t.parquet", TEXT, "cannot read t.parquet as parquet", "extract finetune"),
    *everywhere("empty", "t.parquet", b"", "cannot read t.parquet as parquet"),
    *everywhere("magic alone", "t.parquet", b"PAR1" * 4, "cannot read t.parquet as parquet"),
    *everywhere("no rows", "t.parquet", parquet(text=pa.array([], pa.string())), "no sentence in"),
]

TRIPLE_TABLES = [
    *everywhere("missing", "t.csv", None, "t.csv", "finetune"),
    *everywhere("a folder", "t.csv", folder, "t.csv", "finetune"),
    *everywhere("unreadable", "t.csv", unreadable, "cannot read t.csv: Permission denied", "finetune"),
    *everywhere("a text file", "t.txt", TEXT, "triples are read from .csv", "finetune"),
    *everywhere("one column", "t.csv", TEXT, "has 1 column, but a triple has 3", "finetune"),
    *everywhere("four columns", "t.csv", "a,b,c,d\n" * 3, "has 4 columns, but a triple has 3", "finetune"),
    *everywhere("header alone", "t.csv", "anchor,positive,negative\n", "no triple in t.csv", "finetune"),
    *everywhere("a row short", "t.csv", TRIPLES + "a,b\n", "line 34 has 2 columns", "finetune"),
    *everywhere("a blank cell", "t.csv", TRIPLES + "a,,b\n", "line 34: the positive is blank", "finetune"),
    *everywhere("open quote", "t.csv", TRIPLES + '"a,b,c\n', "line 34: a quotation mark that opens", "finetune"),
    *everywhere("latin-1", "t.csv", TRIPLES.encode() + b"\xe9,b,c\n", "line 34 is not UTF-8", "finetune"),
    *everywhere("cut gzip", "t.csv.gz", cut_gzip(TRIPLES), "whole gzip", "finetune"),
    *everywhere(
        "lone surrogate", "t.jsonl", '{"anchor": "\\udfff", "positive": "b"}\n', "line 1: the anchor", "finetune"
    ),
    *everywhere("numbers", "t.jsonl", '{"anchor": 1, "positive": "b"}\n', "is not text but int", "finetune"),
    *everywhere("null", "t.jsonl", '{"anchor": null, "positive": "b"}\n', "the anchor is blank", "finetune"),
    *everywhere("numbers", "t.parquet", parquet(anchor=[1], positive=["b"]), "holds int64, not text", "finetune"),
    case("no such columns", FINETUNE, "t.csv", TRIPLES, 3, "has no column 'x', 'y'", "--columns x,y"),
    case("one column asked for", FINETUNE, "t.csv", TRIPLES, 2, "--columns is 'a'", "--columns a"),
    case("a column twice", FINETUNE, "t.csv", TRIPLES, 2, "--columns is 'a,a'", "--columns a,a"),
    case("a nameless column", FINETUNE, "t.csv", TRIPLES, 2, "--columns is 'a,'", "--columns a,"),
    Case(
        "finetune: triples and pairs",
        "finetune --student {other} --triplets {triples} --triplets t.csv --out student",
        3,
        "has triples, but t.csv pairs",
        {"t.csv": "anchor,positive\na,b\n"},
    ),
]
CASES = [*TEXTS, *TABLES, *TRIPLE_TABLES]


@pytest.mark.parametrize("hostile", CASES, ids=ids(CASES))
def test_a_hostile_text_is_refused_in_one_line(refuse: Callable[[Case], Ended], hostile: Case) -> None:
    refuse(hostile)


HARMLESS = [
    case("a line of 10 MB", ENCODE, "text.txt", "the cat " * 1_250_000 + "\na dog\n", 0, "1 of 2 lines are longer"),
    case("NULs", ENCODE, "text.txt", b"the \0 cat\n\0\n", 0, "rows.npy: 2 rows"),
    case("NULs", EXTRACT, "text.txt", b"the \0 cat\na dog\n", 0, "2 kept"),
    case("no newline at the end", ENCODE, "text.txt", b"the cat\na dog", 0, "rows.npy: 2 rows"),
    case("Windows line ends and a byte order mark", ENCODE, "t.txt", b"\xef\xbb\xbfthe cat\r\n\r\n", 0, "2 rows"),
    case("a blank line", ENCODE, "text.txt", b"\n", 0, "rows.npy: 1 rows"),
    case("bad lines skipped", EXTRACT, "text.txt", b"a cat\n\xff\na dog\n", 0, "1 unreadable", "--on-bad-line skip"),
    case("joined emoji and right-to-left marks", ENCODE, "text.txt", "👩‍👩‍👧 \u202e‮ a\u0301\n", 0, "1 rows"),
    case("a paragraph separator is no line end", ENCODE, "text.txt", "the\u2029cat\x85 dog\x0b\n", 0, "1 rows"),
    case("JSON with repeated keys", EXTRACT, "t.jsonl", '{"text": "a", "text": "the cat"}\n', 0, "1 kept"),
    case("spaces in the name", ENCODE, "text.txt.txt", "the cat\n", 0, "1 rows"),
]


@pytest.mark.parametrize("harmless", HARMLESS, ids=ids(HARMLESS))
def test_what_only_looks_hostile_is_read(survive: Callable[[Case], Ended], harmless: Case) -> None:
    survive(harmless)


def test_the_cut_parquet_of_every_length_is_refused(refuse: Callable[[Case], Ended]) -> None:
    for share in (0.1, 0.5, 0.95):
        make = parquet(text=["the cat"] * 100)

        def broken(path, materials, make=make, share=share) -> None:  # type: ignore[no-untyped-def]
            make(path, materials)  # type: ignore[operator, misc]
            cut(path, share)

        refuse(case("cut", EXTRACT, f"{share}.parquet", broken, 3, "as parquet"))


def test_the_hint_about_bad_lines_works(refuse: Callable[[Case], Ended]) -> None:
    ended = refuse(case("hint", EXTRACT, "text.txt", b"a cat\n\xff\n", 3, "line 2 is not UTF-8"))
    assert ended.error.endswith("(mend it, or leave such lines out with --on-bad-line skip)")


UNNAMEABLE = "\udcff\x1b[31m"
"""A name in no encoding, that would turn a terminal red."""


UNNAMEABLE_OUTPUTS = {
    "encode NAME.txt --model {model} --out NAME.npy --json": "NAME.npy",
    "encode NAME.txt --model {model} --out NAME.parquet": "NAME.parquet",
    "extract --teacher {model} --corpus NAME.txt --out NAMEr --json": "NAMEr/manifest.json",
    "extract --teacher {model} --corpus NAME.parquet --text-column anchor --out p": "p/manifest.json",
    "finetune --student {model} --triplets NAME.parquet --out f --max-steps 1": "f/config.json",
    "distill --teacher {model} --student {model} --corpus NAME.txt --out s --max-steps 1 --json": "s/config.json",
    "finetune --student {model} --triplets NAME.csv --out f --max-steps 1 --json": "f/config.json",
    "convert NAME.pth --base {model} --out c --json": "c/config.json",
    "eval --model {model} --tasks STS16 --data NAMEd --out NAME.json": "NAME.json",
    "eval --model {model} --tasks STS16 --data NAMEd --out NAMEe --format mteb": "NAMEe",
}


def with_name(line: str) -> list[str]:
    return [word.replace("NAME", UNNAMEABLE) for word in line.split()]


@pytest.mark.parametrize("line", UNNAMEABLE_OUTPUTS)
def test_names_in_no_encoding_are_names(
    command: Command, tmp_path: Path, materials: dict[str, Path], line: str
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    for name, suffix in (("text", ".txt"), ("triples", ".csv"), ("weights", ".pth")):
        shutil.copyfile(materials[name], work / f"{UNNAMEABLE}{suffix}")
    shutil.copytree(materials["data"], work / f"{UNNAMEABLE}d")
    pq.write_table(pa.table({"anchor": ["a cat", "a dog"], "positive": ["cats", "dogs"]}), work / "t.parquet")
    (work / "t.parquet").rename(work / f"{UNNAMEABLE}.parquet")
    ended = command(with_name(line))
    TALLY.inputs += 1
    assert ended.code == 0, ended.err
    assert "\x1b" not in ended.err
    (out,) = with_name(UNNAMEABLE_OUTPUTS[line])
    assert (work / out).exists()


def test_a_model_needs_a_name_in_utf_8(refuse: Callable[[Case], Ended]) -> None:
    """Tokenizers and safetensors write nowhere else; said before the hours of training."""
    for line in (
        "distill --teacher {model} --student {model} --corpus {text} --out NAME",
        "finetune --student {model} --triplets {triples} --out NAME",
        "convert {weights} --base {model} --out NAME",
    ):
        refuse(Case(line, line.replace("NAME", UNNAMEABLE), 3, "its name is not UTF-8"))
