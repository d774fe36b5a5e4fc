"""Texts of a file, whatever its format, streamed in batches of bounded size."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from distilcse_cli.data.lines import BadLines, is_unicode, read_lines
from distilcse_cli.data.tables import csv_texts, jsonl_texts, parquet_texts

BATCH_TEXTS = 4096
BATCH_CHARACTERS = 1 << 20
_FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}


def file_format(path: Path) -> str:
    """Return `jsonl`, `csv`, `tsv`, `parquet` or, for every other suffix, `text`; `.gz` is looked through."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    return _FORMATS.get(suffixes[-1], "text") if suffixes else "text"


def read_texts(path: Path, text_column: str | None, bad: BadLines) -> Iterator[list[str]]:
    """Yield the texts of `path` in order, in batches.

    Args:
        path: a file in one of the formats that `file_format` knows.
        text_column: column that holds the text (see `tables.choose_column`); plain text has none.
        bad: meets what is not UTF-8, no JSON object, or no row of the table's shape.

    Raises:
        DataError: the file cannot be read, is damaged, or has no such column.
    """
    kind = file_format(path)
    if kind == "text":
        yield from _plain_texts(path, bad)
    elif kind == "jsonl":
        yield from in_batches(jsonl_texts(path, text_column, bad))
    elif kind == "parquet":
        yield from parquet_texts(path, text_column, bad)
    else:
        yield from in_batches(csv_texts(path, text_column, bad, tabs=kind == "tsv"))


def in_batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Collect `texts` into lists, each ended by its number of texts or of characters."""
    batch: list[str] = []
    num_characters = 0
    for text in texts:
        batch.append(text)
        num_characters += len(text)
        if len(batch) >= BATCH_TEXTS or num_characters >= BATCH_CHARACTERS:
            yield batch
            batch, num_characters = [], 0
    if batch:
        yield batch


def _plain_texts(path: Path, bad: BadLines) -> Iterator[list[str]]:
    for _, lines in read_lines(path, bad):
        texts = [line for line in lines if is_unicode(line)]
        bad.num_skipped += len(lines) - len(texts)  # were it to stop, read_lines had stopped
        yield texts
