"""The rows that an index is made from, with their sentences and the model that made them.

Two kinds: an embedding store, which says all of that itself; and an array that `distilcse encode` wrote, which
holds nothing but numbers. Its text and its model are named, and a sample of the rows is compared with them.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distilcse_cli.config import EncodeSettings, TextSettings
from distilcse_cli.data.every_line import lines
from distilcse_cli.data.npy import open_map
from distilcse_cli.errors import DataError, UsageError
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.paths import expanded
from distilcse_cli.runtime import Runtime
from distilcse_cli.teacher.space import Space, space_of_model, space_of_store
from distilcse_cli.teacher.store import open_store

_SAMPLE = 64
_LEAST_COSINE = 0.99
"""A row and the model's own vector differ by less in any number format; other models and other lines by far more."""
_LEAST_SHARE = 0.9
"""Of the sample. A few rows may be of sentences that were cut to fewer tokens."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows on disk. Shape letters: N rows, D width."""

    path: Path
    """The store, or the array."""
    embeddings: np.ndarray
    """(N, D) memory map, float32 or float16."""
    sentences: Callable[[], Iterator[str]]
    """Reads the N sentences."""
    space: Space
    model: str
    """Where the model of `space` was found."""
    pooling: str | None
    prompt: str


def rows_of_store(folder: Path) -> Rows:
    """The rows of an embedding store.

    Raises:
        DataError: it is no complete store.
    """
    store = open_store(folder)
    space = space_of_store(store.manifest)
    return Rows(
        path=folder,
        embeddings=store.embeddings,
        sentences=lambda: lines(store.sentences_path),
        space=space,
        model=_lasting(space.name),
        pooling=store.manifest.get("pooling"),
        prompt=store.manifest.get("prompt") or "",
    )


def rows_of_array(
    path: Path, sentences: Path, reference: ModelRef, runtime: Runtime, *, text: TextSettings | None = None
) -> Rows:
    """The rows that `distilcse encode` wrote to a `.npy` file, after a check of a sample.

    Args:
        path: the array.
        sentences: the text that was encoded, row i of line i.
        reference: the model that encoded it.
        runtime: device and number format to encode the sample with.
        text: column and encoding of `sentences`.

    Raises:
        DataError: the file is no array of rows, or the rows are not those of these sentences and this model.
    """
    rows = open_array(path)
    wanted = set(np.linspace(0, len(rows) - 1, _SAMPLE).astype(int).tolist())
    sample: dict[int, str] = {}
    num_lines = 0
    for number, line in enumerate(lines(sentences, text)):
        num_lines = number + 1
        if number in wanted:
            sample[number] = line
    if num_lines != len(rows):
        raise DataError(f"{path} has {len(rows):,} rows, {sentences} {num_lines:,} lines", hint="name the text encoded")
    encoder = reference.load()
    if encoder.embedding_dim != rows.shape[1]:
        raise _other_model(path, reference, f"{rows.shape[1]} numbers, not {encoder.embedding_dim}")
    own = Embedder(encoder, runtime, EncodeSettings()).sentences(list(sample.values()))
    theirs = rows[list(sample)].astype(np.float32)
    lengths = np.linalg.norm(own, axis=1) * np.linalg.norm(theirs, axis=1)
    near = (own * theirs).sum(axis=1) > _LEAST_COSINE * lengths
    if near.mean() < _LEAST_SHARE:
        raise _other_model(path, reference, f"{near.sum()} of {len(near)} rows are those of their lines in {sentences}")
    return Rows(
        path=path,
        embeddings=rows,
        sentences=lambda: lines(sentences, text),
        space=space_of_model(reference, encoder),
        model=_lasting(reference.ref),
        pooling=encoder.pooling,
        prompt=encoder.prompts.used,
    )


def _other_model(path: Path, reference: ModelRef, found: str) -> DataError:
    return DataError(
        f"{path} was not encoded by {reference.ref}: {found}", hint="name the model and the text that were encoded"
    )


def open_array(path: Path) -> np.ndarray:
    """The (N, D) rows of a `.npy` file as a memory map.

    Raises:
        UsageError: it is no `.npy` file.
        DataError: it cannot be read, is damaged, or holds something else.
    """
    if path.suffix.lower() != ".npy":
        hint = "distilcse encode --out FILE.npy writes one"
        raise UsageError(f"{path} is neither an embedding store nor a .npy file", hint=hint)
    try:
        rows = open_map(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}", hint="check the file") from error
    except Exception as error:  # a damaged header raises whatever NumPy's parsers raise
        raise DataError(f"{path} is damaged or no array: {error}", hint="encode the text again") from error
    if rows.ndim != 2 or rows.dtype not in (np.float32, np.float16) or not rows.size:
        hint = "distilcse encode writes such a file"
        raise DataError(f"{path} holds {rows.dtype} {rows.shape}, not rows of float32 or float16", hint=hint)
    return rows


def _lasting(name: str) -> str:
    """A model's name that also holds in another working folder."""
    return os.path.abspath(expanded(name)) if os.path.exists(expanded(name)) else name  # noqa: PTH100, PTH110
