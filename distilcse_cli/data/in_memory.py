"""Texts and triples that a program holds in memory, written to the data home as the file that all else reads."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from distilcse_cli.config import TRIPLET_COLUMNS, data_home
from distilcse_cli.data.sources import is_source
from distilcse_cli.errors import DataError, UsageError
from distilcse_cli.files import fsync

_NONE = object()
Corpus = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""A file or hub data set, several of them, or sentences."""
Triplets = str | os.PathLike[str] | Iterable[str | os.PathLike[str] | Sequence[str] | Mapping[str, str]]
"""A table, several of them, or triples."""


def corpus_files(corpus: Corpus | None) -> list[str] | None:
    """The files of a corpus; of sentences in memory, one with a record for each.

    Strings are sentences if the first one is none of: an existing file, a name that ends as those of files do, a
    hub id.

    Raises:
        UsageError: it is empty, or a sentence is no text.
        DataError: the data home cannot be written.
    """
    return _files(corpus, "corpus", _sentence)


def triplet_files(triplets: Triplets | None) -> list[str] | None:
    """The tables of triples; of triples in memory, one with a row for each: texts in order, or by the column's name.

    Raises:
        UsageError: there are none, or one is no triple or pair.
        DataError: the data home cannot be written.
    """
    return _files(triplets, "triplets", _triple)


def _files(given: Any, what: str, record_of: Any) -> list[str] | None:
    if given is None:
        return None
    if isinstance(given, (str, os.PathLike)):
        return [os.fspath(given)]
    if isinstance(given, Mapping) or hasattr(given, "columns"):  # going through it gives the names of its columns
        hint = "give one of its columns" if what == "corpus" else "give its rows, such as table.to_dict('records')"
        raise UsageError(f"{what} is a table ({type(given).__name__})", hint=hint)
    if not isinstance(given, Iterable):
        raise UsageError(f"{what} is {type(given).__name__}, not texts", hint="name a file, or give texts")
    rest = iter(given)
    first = next(rest, _NONE)
    if first is _NONE:
        raise UsageError(f"--{what} is empty", hint="name a file, or give texts")
    if isinstance(first, os.PathLike) or (isinstance(first, str) and is_source(first)):
        return [os.fspath(one) for one in chain([first], rest)]
    numbered = enumerate(chain([first], rest), start=1)
    return [str(_written(record_of(one, f"{what} {number}") for number, one in numbered))]


def _sentence(text: Any, where: str) -> dict[str, str]:
    if not isinstance(text, str):
        raise UsageError(f"{where} is {type(text).__name__}, not a text", hint="give sentences, or paths of files")
    return {"text": text}


def _triple(row: Any, where: str) -> dict[str, str]:
    if isinstance(row, Mapping):
        return dict(row)
    if isinstance(row, str) or not isinstance(row, Sequence) or len(row) < 2:
        hint = "give anchor, positive and, if there are any, hard negatives of each"
        raise UsageError(f"{where} is {row!r:.80}, not a triple or pair", hint=hint)
    anchor, positive, negative = TRIPLET_COLUMNS[0]
    negatives = (negative if len(row) == 3 else f"{negative}_{number}" for number in range(1, len(row) - 1))
    return dict(zip((anchor, positive, *negatives), row, strict=True))


def _written(records: Iterator[dict[str, str]]) -> Path:
    """Write records as JSON lines into a file that is named after its bytes."""
    folder, digest = data_home() / "texts", hashlib.sha256()
    temporary = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".tmp-", dir=folder)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            for record in records:
                line = json.dumps(record).encode() + b"\n"
                digest.update(line)
                file.write(line)
        fsync(temporary)
        return temporary.replace(folder / f"{digest.hexdigest()[:32]}.jsonl")
    except OSError as error:
        hint = "set DISTILCSE_HOME to a folder you may write to"
        raise DataError(f"cannot write texts to {folder}: {error.strerror}", hint=hint) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
