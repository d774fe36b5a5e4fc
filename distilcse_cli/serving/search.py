"""Search an index: queries of a model of its space, and a check against exact search.

Shape letters: Q queries, D width, k results.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from distilcse_cli.config import EncodeSettings
from distilcse_cli.errors import DataError, DistilCSEError, UsageError
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.runtime import Runtime
from distilcse_cli.serving.index_folder import OpenedIndex
from distilcse_cli.serving.index_rows import open_array
from distilcse_cli.serving.recall import recall_of, sample_rows, without_own
from distilcse_cli.serving.settings import SearchSettings
from distilcse_cli.teacher.neighbours import nearest_with_cosines, unit_rows
from distilcse_cli.teacher.space import require_space
from distilcse_cli.teacher.store import open_store

_QUERY_PROMPT = "query"
"""The prompt that sentence-transformers' `encode_query` takes, too."""
_SAMPLE = 100
_SAMPLE_RESULTS = 10
_SAME_COSINE = 0.999
_LEAST_SHARE = 0.2
"""Of the sampled rows, which find themselves. Among other rows nearly none do."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One result of a query."""

    rank: int
    score: float
    """Cosine of query and row; with 8-bit codes an approximation."""
    row: int
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def query_model(
    index: OpenedIndex, ref: str | None, read: Callable[[str], ModelRef], max_length: int | None
) -> SentenceEncoder:
    """Load the model that embeds queries: the one named, else the one of the index's space.

    If its folder has a prompt named `query` and the user has named none, that one is used.

    Args:
        index: to be searched.
        ref: the model as named; None takes the index's.
        read: from a name to a model with all that the user says of it.
        max_length: most tokens of a query; None takes the model's own limit.

    Raises:
        UsageError: the model is of another space.
        DistilCSEError: no model is named, and that of the index's space cannot be found.
    """
    chosen = read(ref or index.manifest["model"])
    if ref is None and chosen.pooler is None:
        chosen = replace(chosen, pooler=index.manifest["pooling"])
    try:
        chosen.locate()
    except DistilCSEError as error:
        if ref is not None:
            raise
        message = f"{index.folder} holds rows of {index.space}, and {error.message}"
        raise type(error)(message, hint="name it, or a student in its space, with --model REF") from error
    encoder = chosen.load(max_length=max_length)
    require_space(chosen, encoder, index.space, prompt=index.prompt, what=f"{index.folder} holds rows of")
    if encoder.embedding_dim != index.manifest["width"]:
        widths = f"{encoder.embedding_dim} numbers, its rows have {index.manifest['width']}"
        raise UsageError(f"{chosen.ref} makes vectors of {widths}", hint="name another --model")
    if chosen.prompt is None and chosen.prompt_name is None and encoder.prompts.named.get(_QUERY_PROMPT):
        encoder.prompts = encoder.prompts.choose(chosen.ref, None, _QUERY_PROMPT)
    return encoder


def search(
    index: OpenedIndex, queries: Iterable[str], encoder: SentenceEncoder, settings: SearchSettings, runtime: Runtime
) -> Iterator[tuple[str, list[Hit]]]:
    """Yield each query with its results, the nearest first, in bounded memory.

    Raises:
        UsageError: `k` is larger than the index.
        DataError: a query is blank.
    """
    if settings.k > len(index):
        raise UsageError(f"-k is {settings.k}, but {index.folder} has {len(index):,} rows", hint="ask for fewer")
    embedder = Embedder(encoder, runtime, EncodeSettings(max_length=settings.max_length))
    for window in embedder.stream(_not_blank(queries)):
        rows, scores = index.search(window.embeddings, settings.k, nprobe=settings.nprobe)
        for query, numbers, cosines in zip(window.sentences, rows, scores, strict=True):
            found = zip(numbers.tolist(), cosines.tolist(), index.sentences.take(numbers), strict=True)
            yield (
                query,
                [
                    Hit(rank=rank, score=score, row=row, sentence=sentence)
                    for rank, (row, score, sentence) in enumerate(found, start=1)
                ],
            )


def _not_blank(queries: Iterable[str]) -> Iterator[str]:
    number = 0
    for number, query in enumerate(queries, start=1):
        if not query.strip():
            raise DataError(f"query {number} is blank, which is near to nothing", hint="leave it out")
        yield query
    if not number:
        raise DataError("the file of queries has no lines", hint="a query a line is needed")


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """An index beside exact search."""

    num_queries: int
    k: int
    nprobe: int | None
    recall: float
    """Share of the k nearest rows that the index finds."""
    queries_per_second: float
    exact_queries_per_second: float
    num_threads: int

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"recall@{self.k} {self.recall:.4f} against exact search, {self.num_queries:,} queries,"
            f" nprobe {self.nprobe}: {self.queries_per_second:,.0f} queries/s,"
            f" exact {self.exact_queries_per_second:,.0f} queries/s, {self.num_threads} threads"
        )


def check_index(
    index: OpenedIndex,
    num_queries: int,
    settings: SearchSettings,
    *,
    rows: Path | None = None,
    vectors: np.ndarray | None = None,
) -> CheckReport:
    """Compare an index with exact search in the rows that it was made from.

    Args:
        index: what `open_index` gave.
        num_queries: most rows of the index to search for, each without itself.
        settings: results and lists of a search.
        rows: the store or array that the index was made from; None takes the place in its manifest.
        vectors: (Q, D) queries in place of rows.

    Raises:
        UsageError: `k` is larger than the index allows.
        DataError: the rows are gone, or are others.
    """
    import faiss

    stored = _rows_of(index, rows)
    own = None if vectors is not None else sample_rows(len(index), num_queries)
    queries, k = unit_rows(stored[own] if vectors is None else vectors), settings.k
    most = len(index) - (own is not None)
    if k > most:
        raise UsageError(f"-k is {k}, but a query of {index.folder} has {most:,} rows to find", hint="ask for fewer")
    started = time.perf_counter()
    found = index.search(queries, k + (own is not None), nprobe=settings.nprobe)[0]
    searched = time.perf_counter()
    _, exact = nearest_with_cosines(queries, stored, k, leave_out=own)
    ended = time.perf_counter()
    return CheckReport(
        num_queries=len(queries),
        k=k,
        nprobe=settings.nprobe or index.manifest["nprobe"],
        recall=recall_of(queries, stored, found if own is None else without_own(found, own), exact),
        queries_per_second=len(queries) / (searched - started),
        exact_queries_per_second=len(queries) / (ended - searched),
        num_threads=faiss.omp_get_max_threads(),
    )


def embed_queries(queries: Iterable[str], encoder: SentenceEncoder, max_length: int | None, runtime: Runtime) -> Any:
    """(Q, D) vectors of queries, none of them blank."""
    embedder = Embedder(encoder, runtime, EncodeSettings(max_length=max_length))
    return embedder.sentences(list(_not_blank(queries)))


def _rows_of(index: OpenedIndex, rows: Path | None) -> np.ndarray:
    place = rows or Path(index.manifest["rows"])
    if not place.exists():
        hint = "name the store or the array with --rows"
        raise DataError(f"{index.folder} was made from {place}, which does not exist", hint=hint)
    stored = open_store(place).embeddings if place.is_dir() else open_array(place)
    if stored.shape != (index.manifest["num_rows"], index.manifest["width"]):
        shape = (index.manifest["num_rows"], index.manifest["width"])
        raise DataError(f"{place} holds {stored.shape}, but {index.folder} was made from {shape}", hint="make it again")
    if not _are_same(index, stored):
        hint = "name the store or the array it was made from with --rows, or make the index again"
        raise DataError(f"{place} holds other rows than {index.folder} was made from", hint=hint)
    return stored


def _are_same(index: OpenedIndex, stored: np.ndarray) -> bool:
    """Whether searches for some of the rows find such rows where they are stored; coarse codes miss some."""
    queries = unit_rows(stored[sample_rows(len(index), _SAMPLE)])
    found = index.search(queries, min(_SAMPLE_RESULTS, 1 + len(index) // 10))[0]
    cosines = np.einsum("qd,qkd->qk", queries, unit_rows(stored[found.ravel()]).reshape(*found.shape, -1))
    return float((cosines > _SAME_COSINE).any(axis=1).mean()) >= _LEAST_SHARE
