"""Scores on the user's own labels: Spearman of scored pairs, nDCG@10 and recall of retrieval.

Shape letters: Q queries, K documents found for each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import log2

import numpy as np

from distilcse_cli.evaluation.labelled import RetrievalData, ScoredPairs
from distilcse_cli.models.embed import Embedder
from distilcse_cli.teacher.closeness import pair_cosines, rank_correlation
from distilcse_cli.teacher.neighbours import nearest

RECALLS = (1, 10, 100)
NDCG_AT = 10


@dataclass(frozen=True, kw_only=True)
class LabelScores:
    """One model's scores on the user's labels. None where there are no such labels, or the score is not defined."""

    labels_spearman: float | None = None
    """Spearman correlation of cosines and scores of the pairs; equal scores share their mean rank."""
    ndcg10: float | None = None
    """Mean over the queries of nDCG@10 with the grades as gains, as trec_eval's `ndcg_cut_10`."""
    recall1: float | None = None
    """Mean share of a query's right documents that is found first."""
    recall10: float | None = None
    """The same among the first ten."""
    recall100: float | None = None
    """The same among the first hundred."""

    def as_dict(self) -> dict[str, float | None]:
        """Field names and values."""
        return asdict(self)


def label_scores(embedder: Embedder, pairs: ScoredPairs | None, retrieval: RetrievalData | None) -> LabelScores:
    """Embed the labelled texts and score them.

    Of two documents with the same cosine the one that stands first in its file is found first.

    Raises:
        ModelError: an embedding is not finite.
    """
    spearman, found = None, None
    if pairs is not None:
        rows = embedder.longest_first([*pairs.first, *pairs.second])
        numbers = np.arange(len(pairs.first))
        cosines = pair_cosines(rows, np.stack([numbers, numbers + len(numbers)], axis=1))
        spearman = rank_correlation(cosines, pairs.scores)
    if retrieval is not None:
        documents, queries = embedder.longest_first(retrieval.documents), embedder.longest_first(retrieval.queries)
        found = nearest(queries, documents, min(max(RECALLS), len(documents)))
    scores = retrieval_scores(found, retrieval.relevant) if found is not None and retrieval is not None else {}
    return LabelScores(labels_spearman=spearman, **scores)


def retrieval_scores(found: np.ndarray, relevant: Sequence[Mapping[int, float]]) -> dict[str, float]:
    """Score the documents found for each query.

    Args:
        found: (Q, K) numbers of documents, the best first.
        relevant: for each query the grades above 0 of its right documents, at least one.
    """
    scores = {f"ndcg{NDCG_AT}": float(np.mean([_ndcg(*one) for one in zip(found.tolist(), relevant, strict=True)]))}
    for count in RECALLS:
        hits = [
            sum(number in right for number in row[:count]) / len(right)
            for row, right in zip(found.tolist(), relevant, strict=True)
        ]
        scores[f"recall{count}"] = float(np.mean(hits))
    return scores


def _ndcg(found: Sequence[int], relevant: Mapping[int, float]) -> float:
    """Sum of grade / log2(rank + 1) over the first ten, divided by that of the best order."""
    best = sorted(relevant.values(), reverse=True)[:NDCG_AT]
    gained = [relevant.get(number, 0.0) for number in found[:NDCG_AT]]
    return _discounted(gained) / _discounted(best)


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / log2(rank + 1) for rank, gain in enumerate(gains, start=1))
