"""STS scores: cosines of pairs against gold scores, and SentEval's three ways to combine subsets.

`all` correlates the pairs of all subsets together, `mean` averages the subsets' correlations, and
`wmean` weights them by their number of pairs. These are three different numbers; the papers'
tables show `all`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from senteval.embedding import Vectors
from senteval.loading import Split

Aggregation = Literal["all", "mean", "wmean"]
AGGREGATIONS = ("all", "mean", "wmean")
Similarity = Callable[[np.ndarray, np.ndarray], float]

# float32 rounding keeps the cosine of an embedding with itself within a few 1e-7 of 1
SAME_COSINE = 1e-6


class Correlation(NamedTuple):
    """A correlation with its p-value, read like SciPy's results: `[0]`, `.statistic` or `.correlation`."""

    statistic: float
    pvalue: float

    @property
    def correlation(self) -> float:
        """The statistic by SciPy's older name."""
        return self.statistic


@dataclass(frozen=True)
class PairScores:
    """Both correlations of some pairs. An undefined one is None, and `reason` says why."""

    pearson: Correlation | None
    spearman: Correlation | None
    num_pairs: int
    reason: str | None = None


@dataclass(frozen=True)
class Pairs:
    """Similarities of N pairs, by the model and by the annotators."""

    similarities: np.ndarray
    """(N,) float64."""
    gold: np.ndarray
    """(N,) float64."""


def pairs_of(split: Split, vectors: Vectors, similarity: Similarity | None = None) -> Pairs:
    """Similarities of a split's pairs: cosines, or the values of a given function of two embeddings."""
    if vectors.second is None:
        raise ValueError("a split of single sentences has no pairs")
    if similarity is None:
        return Pairs(cosines(vectors.first, vectors.second), split.labels)
    values = [float(similarity(u, v)) for u, v in zip(vectors.first, vectors.second, strict=True)]
    return Pairs(np.array(values, dtype=np.float64), split.labels)


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosines of N pairs of embeddings; 0 where one is all zeros, as in SentEval.

    They are computed pair by pair and in the embeddings' own number format, as in SentEval. The cosine
    of an embedding with itself is 1 within a rounding error, and that error decides how pairs of
    identical sentences rank among themselves. Another order of additions moves the Spearman of the
    two STS12 subsets with many such pairs by up to 1e-3.

    Args:
        first: (N, D) float32 or float64.
        second: (N, D) the same.

    Returns:
        (N,) float64.
    """
    number = np.result_type(first, second)
    dots = np.array([np.dot(u, v) for u, v in zip(first, second, strict=True)], dtype=number)
    lengths = np.array([_length(u) * _length(v) for u, v in zip(first, second, strict=True)], dtype=number)
    return np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0).astype(np.float64)


def correlate(pairs: Pairs) -> PairScores:
    """Pearson and Spearman correlation; undefined if either side gives every pair the same similarity."""
    from scipy.stats import pearsonr, spearmanr

    num_pairs = len(pairs.gold)
    for values, what in ((pairs.similarities, "the model gives"), (pairs.gold, "the annotators give")):
        if not np.isfinite(values).all():
            return PairScores(None, None, num_pairs, "a similarity is not finite")
        if num_pairs < 2 or np.ptp(values) <= SAME_COSINE:
            return PairScores(None, None, num_pairs, f"{what} every pair the same similarity")
    pearson, spearman = (
        Correlation(float(result.statistic), float(result.pvalue))
        for result in (correlation(pairs.similarities, pairs.gold) for correlation in (pearsonr, spearmanr))
    )
    return PairScores(pearson, spearman, num_pairs)


def _length(vector: np.ndarray) -> np.floating[Any]:
    return np.sqrt(np.dot(vector, vector))


def aggregate(subsets: Mapping[str, Pairs], aggregation: Aggregation) -> PairScores:
    """Combine the subsets of a task into one score.

    Means have no p-value (NaN). A mean is undefined if the correlation of any subset is.
    """
    if aggregation not in AGGREGATIONS:
        raise ValueError(f"aggregation is {aggregation!r}, not one of {', '.join(AGGREGATIONS)}")
    num_pairs = sum(len(pairs.gold) for pairs in subsets.values())
    if aggregation == "all":
        return correlate(
            Pairs(
                np.concatenate([pairs.similarities for pairs in subsets.values()]),
                np.concatenate([pairs.gold for pairs in subsets.values()]),
            )
        )
    scores = {name: correlate(pairs) for name, pairs in subsets.items()}
    for name, score in scores.items():
        if score.reason:
            return PairScores(None, None, num_pairs, f"{name}: {score.reason}")
    weights = [score.num_pairs if aggregation == "wmean" else 1 for score in scores.values()]
    pearson, spearman = (
        Correlation(
            float(np.average([getattr(score, kind).statistic for score in scores.values()], weights=weights)), math.nan
        )
        for kind in ("pearson", "spearman")
    )
    return PairScores(pearson, spearman, num_pairs)


def nested(subsets: Mapping[str, Pairs], *, with_summary: bool) -> dict[str, dict[str, Any]]:
    """SentEval's result dict of an STS task, correlations as `Correlation` or None.

    `{subset: {"pearson", "spearman", "nsamples"}, …, "all": {"pearson": {"all", "mean", "wmean"}, "spearman": …}}`
    An undefined subset also has a `reason`. The summary's correlations are plain numbers, as in SentEval.
    """
    result: dict[str, dict[str, Any]] = {}
    for name, pairs in subsets.items():
        score = correlate(pairs)
        result[name] = {"pearson": score.pearson, "spearman": score.spearman, "nsamples": score.num_pairs}
        if score.reason:
            result[name]["reason"] = score.reason
    if with_summary:
        summary = {name: aggregate(subsets, name) for name in AGGREGATIONS}  # type: ignore[arg-type]
        result["all"] = {
            kind: {name: statistic(getattr(score, kind)) for name, score in summary.items()}
            for kind in ("pearson", "spearman")
        }
    return result


def statistic(correlation: Correlation | None) -> float | None:
    """The correlation without its p-value."""
    return None if correlation is None else correlation.statistic
