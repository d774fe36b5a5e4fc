"""Texts and triples that a program holds become files; what names files stays as it is."""

from pathlib import Path

import pyarrow as pa
import pytest

from distilcse_cli.config import CorpusSettings, TripletSettings
from distilcse_cli.data.corpus import prepare_corpus
from distilcse_cli.data.in_memory import corpus_files, triplet_files
from distilcse_cli.data.triplets import prepare_triplets
from distilcse_cli.errors import UsageError


@pytest.mark.parametrize(
    ("given", "files"),
    [
        (None, None),
        ("no such file", ["no such file"]),
        (Path("a/b.txt"), ["a/b.txt"]),
        (["gone.csv", "also gone"], ["gone.csv", "also gone"]),
        (["owner/name"], ["owner/name"]),
        ((path for path in [Path("a"), Path("b")]), ["a", "b"]),
    ],
)
def test_what_names_a_file_or_data_set_is_no_sentence(given: object, files: list[str] | None) -> None:
    assert corpus_files(given) == files  # type: ignore[arg-type]


def test_sentences_come_through_as_they_are_and_equal_ones_give_one_file(home: Path) -> None:
    texts = ['{"a": 1}', "a, b", "café\u2028at noon", "two\nlines"]
    (file,) = corpus_files(iter(texts)) or []
    assert corpus_files(texts) == [file]
    assert [path.name for path in (home / "texts").iterdir()] == [Path(file).name]
    assert list(prepare_corpus([file], CorpusSettings())) == ['{"a": 1}', "a, b", "café at noon", "two lines"]


def test_triples_may_have_several_hard_negatives(home: Path) -> None:  # noqa: ARG001
    rows = [("a cat", "the cat", "a dog", "a man"), ("a dog", "the dog", "a cat", "a man")]
    triplets = prepare_triplets(triplet_files(rows) or [], TripletSettings())
    assert [triplets.sentences.take(row) for row in triplets.rows] == [list(row) for row in rows]


def test_what_is_no_text_is_named(home: Path) -> None:
    table = {"text": ["a cat"]}
    for given, message in (
        ([], "is empty"),
        (["a cat", 5], "corpus 2 is int"),
        ([None, "a cat"], "corpus 1 is NoneType"),
        (5, "corpus is int"),
        (table, r"corpus is a table \(dict\)"),  # its keys are not what is meant
        (pa.table(table), r"corpus is a table \(Table\)"),
    ):
        with pytest.raises(UsageError, match=message):
            corpus_files(given)  # type: ignore[arg-type]
    for row in ("a cat", ("a cat",)):
        with pytest.raises(UsageError, match=r"triplets 2 is .* not a triple or pair"):
            triplet_files([("a cat", "the cat"), row])
    assert list((home / "texts").iterdir()) == []
