"""The teacher of a comparison: a model that embeds the corpus, or a store that holds its rows already."""

import gc
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from distilcse_cli.config import CorpusSettings, data_home
from distilcse_cli.data.corpus import Corpus, CorpusReport, prepare_corpus
from distilcse_cli.data.npy import NpyWriter, open_map
from distilcse_cli.data.texts import sentences_at
from distilcse_cli.errors import DataError, UsageError
from distilcse_cli.files import MAKE_ROOM, sha256_file
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.paths import expanded
from distilcse_cli.runtime import Runtime
from distilcse_cli.teacher.space import Space, space_of_model, space_of_store
from distilcse_cli.teacher.store import MANIFEST, PARTIAL_MANIFEST, EmbeddingStore, open_store
from distilcse_cli.training.teacher_rows import Teacher

FEWEST = 3
"""Sentences that make a comparison possible at all."""
_ROWS_AT_ONCE = 8192


@dataclass(frozen=True, kw_only=True)
class TeacherSide:
    """The sentences of a comparison and the teacher's rows of them. Shape letters: N sentences, D teacher width."""

    corpus: Corpus
    rows: np.ndarray
    """(N, D) memory map."""
    space: Space
    num_truncated: int
    """Sentences of the store that were cut to the teacher's limit."""
    is_store: bool
    """Whether only the teacher's rows are known."""


def names_store(teacher: ModelRef) -> bool:
    """Whether a reference names an embedding store, finished or not."""
    folder = expanded(teacher.ref)
    try:
        return any((folder / name).is_file() for name in (MANIFEST, PARTIAL_MANIFEST))
    except OSError:  # no file can have that name
        return False


def prepare_teacher(
    teacher: ModelRef, corpus: Sequence[str], settings: CorpusSettings, runtime: Runtime, held: ExitStack
) -> TeacherSide:
    """Open the corpus and the teacher's rows of it. A model's rows are kept in the data home, as for `distill`.

    Args:
        teacher: a model or a store.
        corpus: inputs as for `prepare_corpus`; with a store none takes the store's own sentences.
        settings: how lines become sentences.
        runtime: device and number format.
        held: closes what the rows need.

    Raises:
        UsageError: neither a corpus nor a store, or a pooling or the like for a store.
        DataError: the corpus or store cannot be used, or the store has no row for a sentence of the corpus.
        ModelError: the teacher cannot be loaded.
    """
    if not names_store(teacher):
        if not corpus:
            raise UsageError("no sentences to compare on", hint="name a text file with --corpus")
        text, model = prepare_corpus(corpus, settings), Teacher(teacher)
        store = model.store(text, runtime)
        space = space_of_model(teacher, model.encoder())
        del model
        gc.collect()  # a model is part of reference cycles
        return _side(text, store.embeddings, space, store)
    if any((teacher.pooler, teacher.revision, teacher.prompt, teacher.prompt_name)):
        raise UsageError(f"{teacher.ref} holds rows, so how to read a model does not apply", hint="leave it out")
    store = open_store(expanded(teacher.ref))
    store.check_rows()
    text, rows = _sentences_of(store), store.embeddings
    if corpus:
        given = prepare_corpus(corpus, settings)
        if given.fingerprint != text.fingerprint:
            text, rows = given, _rows_of(given, store, text, held)
    return _side(text, rows, space_of_store(store.manifest), store, is_store=True)


def _side(
    corpus: Corpus, rows: np.ndarray, space: Space, store: EmbeddingStore, *, is_store: bool = False
) -> TeacherSide:
    if len(corpus) < FEWEST:
        raise DataError(
            f"{len(corpus)} sentences are too few to compare on", hint="a thousand or more tell models apart"
        )
    num_truncated = store.manifest["num_truncated"]
    return TeacherSide(corpus=corpus, rows=rows, space=space, num_truncated=num_truncated, is_store=is_store)


def _sentences_of(store: EmbeddingStore) -> Corpus:
    """A store's sentences as a corpus that can be read from its start to its end."""
    number = len(store)
    path = store.sentences_path
    try:
        fingerprint = sha256_file(path)
        with path.open("rb") as file:
            num_lines = sum(1 for _ in file)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="make the store again") from error
    if num_lines != number:
        raise DataError(f"{path} has {num_lines:,} lines, the store {number:,} rows", hint="make the store again")
    return Corpus(store.folder, number, fingerprint, CorpusReport(number, number, {}))


def _rows_of(corpus: Corpus, store: EmbeddingStore, stored: Corpus, held: ExitStack) -> np.ndarray:
    """(N, D) the store's rows of the sentences of another corpus, in the corpus' order, in a temporary file."""
    wanted = {sentence: number for number, sentence in enumerate(corpus)}
    at = np.full(len(corpus), -1, dtype=np.int64)
    for row, sentence in enumerate(stored):
        number = wanted.get(sentence)
        if number is not None:
            at[number] = row
    missing = np.flatnonzero(at < 0)
    if len(missing):
        (first,) = sentences_at(corpus, missing[:1])
        raise DataError(
            f"{store.folder} has no row for {len(missing):,} of {len(corpus):,} sentences; the first is {first[:60]!r}",
            hint="leave --corpus out to compare on the store's own sentences, or name the teacher's model",
        )
    try:
        data_home().mkdir(parents=True, exist_ok=True)
        folder = Path(held.enter_context(TemporaryDirectory(prefix=".compare-", dir=data_home())))
        with NpyWriter(folder / "rows.npy", store.embeddings.dtype, store.embeddings.shape[1]) as writer:
            for start in range(0, len(at), _ROWS_AT_ONCE):
                writer.append(store.embeddings[at[start : start + _ROWS_AT_ONCE]])
        return open_map(folder / "rows.npy")
    except OSError as error:
        raise DataError(f"cannot write to {data_home()}: {error.strerror}", hint=MAKE_ROOM) from error
