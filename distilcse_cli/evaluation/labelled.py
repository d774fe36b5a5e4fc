"""The user's own labelled data: scored pairs, and queries with their right documents.

Pairs are a table with columns sentence1, sentence2 and score. Retrieval data has the layout of BEIR (`queries.jsonl`,
`corpus.jsonl`, `qrels.tsv`), or the same columns in any other table.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite
from pathlib import Path

import numpy as np

from distilcse_cli.data.lines import BadLines
from distilcse_cli.data.opening import kind_of
from distilcse_cli.data.rows import Columns, cell_fault, read_rows
from distilcse_cli.errors import DataError

SENTENCE1 = ("sentence1", "text1", "sentence_1")
SENTENCE2 = ("sentence2", "text2", "sentence_2")
SCORE = ("score", "label", "similarity_score", "similarity")
ID = ("_id", "id", "query-id", "corpus-id")
TEXT = ("text", "sentence", "query", "document")
TITLE = ("title",)
QUERY_ID = ("query-id", "query_id", "qid")
DOCUMENT_ID = ("corpus-id", "corpus_id", "doc_id", "document-id", "document_id", "docid")


@dataclass(frozen=True, kw_only=True)
class ScoredPairs:
    """N pairs of sentences, and how similar people found them."""

    first: list[str]
    second: list[str]
    scores: np.ndarray
    """(N,) float64; only their order counts."""


@dataclass(frozen=True, kw_only=True)
class RetrievalData:
    """Queries, documents, and which document answers which query."""

    queries: list[str]
    """Those that have at least one right document."""
    documents: list[str]
    relevant: list[dict[int, float]]
    """For each query the numbers of its right documents and their grades, all above 0."""
    num_without: int
    """Queries left out, since no document answers them."""


def read_pairs(path: Path) -> ScoredPairs:
    """Read scored pairs.

    Raises:
        DataError: no table, a column is missing, a cell is blank or a score is no number: file and line are named.
    """
    first, second, scores = [], [], []
    for where, (one, other, score) in _table(path, (SENTENCE1, SENTENCE2, SCORE)):
        first.append(_text(one, where, "sentence1"))
        second.append(_text(other, where, "sentence2"))
        scores.append(_number(score, where))
    if len(scores) < 2 or min(scores) == max(scores):
        raise DataError(f"{path} has {len(scores)} pairs, all of one score", hint="a correlation needs two scores")
    return ScoredPairs(first=first, second=second, scores=np.array(scores))


def read_retrieval(queries: Path, documents: Path, qrels: Path) -> RetrievalData:
    """Read queries, documents and the table of right documents.

    Args:
        queries: columns _id (or id) and text.
        documents: the same, and perhaps title, which goes before the text.
        qrels: columns query-id, corpus-id and score. A score of 0 says that the document is no answer.

    Raises:
        DataError: a file is no such table; an id is there twice or does not exist; no query has a right document.
    """
    query_texts, query_at = _texts(queries)
    document_texts, document_at = _texts(documents)
    relevant: dict[int, dict[int, float]] = {}
    seen: dict[tuple[int, int], str] = {}
    for where, (query, document, score) in _table(qrels, (QUERY_ID, DOCUMENT_ID, SCORE)):
        pair = _at(query_at, query, where, "query", queries), _at(document_at, document, where, "document", documents)
        if pair in seen:
            raise DataError(f"{where}: this query and document are in {seen[pair]} already", hint="remove one of them")
        seen[pair] = where
        grade = _number(score, where)
        if grade > 0:
            relevant.setdefault(pair[0], {})[pair[1]] = grade
    if not relevant:
        raise DataError(f"{qrels} names no right document for any query", hint="a score above 0 marks one")
    return RetrievalData(
        queries=[query_texts[at] for at in sorted(relevant)],
        documents=document_texts,
        relevant=[relevant[at] for at in sorted(relevant)],
        num_without=len(query_texts) - len(relevant),
    )


def _table(
    path: Path, wanted: Sequence[tuple[str, ...]], optional: Sequence[tuple[str, ...]] = ()
) -> Iterator[tuple[str, Sequence[object]]]:
    """Yield where a row stands and its wanted cells, then those optional ones that the table has.

    Each column may have any of several names.
    """
    kind = kind_of(path)
    if not kind.is_table or kind.format == "parquet":
        columns = ", ".join(names[0] for names in wanted)
        form = "is parquet" if kind.is_table else "holds lines"
        raise DataError(f"{path} {form}: {columns} are read from csv, tsv and jsonl", hint="rename or convert it")
    choose = partial(_choose, wanted=wanted, optional=optional)
    for where, cells in read_rows(path, choose, BadLines("stop"), strict=False):
        if cells:
            yield where, cells


def _choose(
    names: list[str], where: str, *, wanted: Sequence[tuple[str, ...]], optional: Sequence[tuple[str, ...]]
) -> Columns:
    folded = [name.strip().lower() for name in names]
    at = []
    for known in (*wanted, *optional):
        found = next((folded.index(name) for name in known if name in folded), None)
        if found is not None:
            at.append(found)
        elif known in wanted:
            have = ", ".join(names) or "none"
            raise DataError(f"{where} has no column {known[0]}: it has {have}", hint=f"name it {' or '.join(known)}")
    return Columns(tuple(names[one] for one in at), tuple(at), len(names))


def _texts(path: Path) -> tuple[list[str], dict[str, int]]:
    """The texts of a file of queries or documents, and the number of each id."""
    texts: list[str] = []
    at: dict[str, int] = {}
    wheres: list[str] = []
    for where, (name, text, *title) in _table(path, (ID, TEXT), optional=(TITLE,)):
        key = _id(name, where)
        if key in at:
            raise DataError(f"{where}: the id {key!r} is in {wheres[at[key]]} already", hint="remove one of them")
        at[key] = len(texts)
        wheres.append(where)
        before = title[0] if title and isinstance(title[0], str) else ""
        # as BEIR joins them; a title may stand without a text
        texts.append(f"{before} {text}".strip() if isinstance(text, str) and before else _text(text, where, "text"))
    if not texts:
        raise DataError(f"{path} has no rows", hint="a row for each query or document")
    return texts, at


def _at(known: dict[str, int], cell: object, where: str, what: str, file: Path) -> int:
    key = _id(cell, where)
    if key not in known:
        raise DataError(f"{where}: {file} has no {what} {key!r}", hint="add it, or remove the line")
    return known[key]


def _id(cell: object, where: str) -> str:
    if isinstance(cell, int) and not isinstance(cell, bool):
        return str(cell)
    return _text(cell, where, "id")


def _text(cell: object, where: str, column: str) -> str:
    if not isinstance(cell, str) or cell_fault(cell) or not cell.strip():
        raise DataError(f"{where}: {column} {cell_fault(cell) or 'is blank'}", hint="mend the row, or remove it")
    return cell.strip()


def _number(cell: object, where: str) -> float:
    try:
        number = float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = float("nan")
    if isinstance(cell, bool) or not isfinite(number):
        raise DataError(f"{where}: the score is {cell!r}, which is no number", hint="mend the row, or remove it")
    return number
