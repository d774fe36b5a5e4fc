"""How close a student comes to its teacher on any number of sentences, and how a model spreads them.

`agreement` looks at all pairs of a few thousand sentences. Here a seed draws the queries and pairs, so that rows may
be memory maps of any length.

Shape letters: N sentences, D teacher width, S student width, Q queries, P pairs, K neighbours of a query.
"""

from dataclasses import asdict, dataclass

import numpy as np

from distilcse_cli.teacher.neighbours import give_back, nearest, shared, unit_rows

NEAREST = (1, 10, 100)
"""Numbers of neighbours whose shared part is measured."""
NEAR = 10
"""Neighbours of a query that make its near pairs, and by which sentences are judged one by one."""
_PAIRS_AT_ONCE = 16_384
_SAME_COSINE = 1e-6
"""Cosines that lie closer together than this differ by rounding only."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What models are compared on, the same for all of them."""

    queries: np.ndarray
    """(Q,) row numbers without repetition, in increasing order."""
    random_pairs: np.ndarray
    """(P, 2) row numbers, two different ones in each pair."""
    nearest: np.ndarray
    """(Q, K) the teacher's nearest other rows of each query, the nearest first."""

    @property
    def near_pairs(self) -> np.ndarray:
        """(Q * k, 2) each query with each of the teacher's ten nearest, or all that there are."""
        near = self.nearest[:, :NEAR]
        return np.stack([np.repeat(self.queries, near.shape[1]), near.ravel()], axis=1)

    def counts(self) -> dict[str, int]:
        """How many queries, random pairs and near pairs there are."""
        num_near = len(self.queries) * min(NEAR, self.nearest.shape[1])
        return {
            "num_queries": len(self.queries),
            "num_random_pairs": len(self.random_pairs),
            "num_near_pairs": num_near,
        }


def draw_sample(teacher: np.ndarray, *, num_queries: int, num_pairs: int, seed: int) -> Sample:
    """Draw queries and random pairs evenly from all rows, and find the teacher's neighbours of the queries.

    Args:
        teacher: (N, D) rows of any length.
        num_queries: at most; fewer sentences are all queries.
        num_pairs: random pairs. A pair may be drawn twice.
        seed: of the draw.

    Raises:
        ValueError: there are fewer than three rows.
    """
    num_rows = len(teacher)
    if num_rows < 3:
        raise ValueError(f"teacher {teacher.shape}: at least 3 rows")
    draw = np.random.default_rng(seed)
    queries = np.sort(draw.permutation(num_rows)[:num_queries])
    first = draw.integers(num_rows, size=num_pairs)
    # the second one of a pair is any of the others
    second = (first + 1 + draw.integers(num_rows - 1, size=num_pairs)) % num_rows
    found = nearest(teacher[queries], teacher, min(max(NEAREST), num_rows - 1), leave_out=queries)
    return Sample(queries=queries, random_pairs=np.stack([first, second], axis=1), nearest=found)


@dataclass(frozen=True, kw_only=True)
class Closeness:
    """How close a student is to its teacher. Each is 1 for the teacher itself, and None where it is not defined."""

    spearman: float | None
    """Spearman correlation of the two models' cosines, random and near pairs together."""
    spearman_random: float | None
    """The same of the random pairs alone."""
    spearman_near: float | None
    """The same of the near pairs alone."""
    shared1: float | None
    """How often the nearest other sentence is the same, each model searching its own index."""
    shared10: float | None
    """The share of the ten nearest that is the same."""
    shared100: float | None
    """The share of the hundred nearest that is the same."""
    asymmetric1: float | None
    """As `shared1`, the student's query on the teacher's index. None where the widths differ."""
    asymmetric10: float | None
    """As `shared10`, likewise."""
    asymmetric100: float | None
    """As `shared100`, likewise."""
    cosine: float | None
    """Mean cosine of a sentence's two embeddings. None where the widths differ."""

    def as_dict(self) -> dict[str, float | None]:
        """Field names and values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How a model fills its space. A collapsed model has a spread near 1 and a low effective rank."""

    spread: float
    """Mean cosine of the random pairs."""
    uniformity: float
    """Log of the mean of exp(-2 d²) over the distances d of the random pairs (arXiv:2005.10242); 0 is one point."""
    effective_rank: float
    """exp of the entropy of the queries' singular values (RankMe, arXiv:2210.02885), from 1 to the width."""

    def as_dict(self) -> dict[str, float]:
        """Field names and values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What one model says of a sample: the base of all measures."""

    random_cosines: np.ndarray
    """(P,) float32."""
    near_cosines: np.ndarray
    """(Q, k) float32, of each query with the teacher's ten nearest."""
    nearest: np.ndarray
    """(Q, K) the model's own nearest other rows of each query."""
    spread: Spread


def look(rows: np.ndarray, sample: Sample, *, is_teacher: bool = False) -> Looks:
    """Measure one model.

    Args:
        rows: (N, S) embeddings of any length.
        sample: what `draw_sample` returned.
        is_teacher: these are the rows of the sample, whose neighbours are known.
    """
    random = pair_cosines(rows, sample.random_pairs)
    near = pair_cosines(rows, sample.near_pairs).reshape(len(sample.queries), -1)
    queries = unit_rows(rows[sample.queries])
    count = sample.nearest.shape[1]
    own = sample.nearest if is_teacher else nearest(queries, rows, count, leave_out=sample.queries)
    give_back(rows)
    return Looks(
        random_cosines=random,
        near_cosines=near,
        nearest=own,
        spread=Spread(
            spread=float(random.mean(dtype=np.float64)),
            # the distance of two unit vectors, squared, is 2 - 2 cos
            uniformity=float(np.log(np.exp(-4.0 * (1.0 - random.astype(np.float64))).mean())),
            effective_rank=effective_rank(queries),
        ),
    )


def closeness(student: np.ndarray, teacher: np.ndarray, own: Looks, theirs: Looks, sample: Sample) -> Closeness:
    """Compare a student with its teacher.

    Args:
        student: (N, S) embeddings of any length.
        teacher: (N, D) embeddings of the same sentences in the same order.
        own: what `look` said of the student.
        theirs: what it said of the teacher.
        sample: the same for both.

    Raises:
        ValueError: the two differ in rows.
    """
    if len(student) != len(teacher):
        raise ValueError(f"student {student.shape}, teacher {teacher.shape}: as many rows")
    same_width = student.shape[1] == teacher.shape[1]
    count = sample.nearest.shape[1]
    crossed = nearest(student[sample.queries], teacher, count, leave_out=sample.queries) if same_width else None
    return Closeness(
        spearman=rank_correlation(*(np.append(one.random_cosines, one.near_cosines) for one in (own, theirs))),
        spearman_random=rank_correlation(own.random_cosines, theirs.random_cosines),
        spearman_near=rank_correlation(own.near_cosines.ravel(), theirs.near_cosines.ravel()),
        **{f"shared{k}": _shared(own.nearest, theirs.nearest, k) for k in NEAREST},
        **{f"asymmetric{k}": _shared(crossed, theirs.nearest, k) for k in NEAREST},
        cosine=_mean_cosine(student, teacher) if same_width else None,
    )


def shared_of_each(own: Looks, theirs: Looks) -> np.ndarray:
    """(Q,) how many of a query's ten nearest both models name."""
    mine, others = own.nearest[:, :NEAR, None], theirs.nearest[:, None, :NEAR]
    return (mine == others).any(axis=2).sum(axis=1)


def pair_cosines(rows: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(P,) float32 cosines of (P, 2) pairs of rows, a part of them in memory at a time."""
    cosines = np.empty(len(pairs), dtype=np.float32)
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        first, second = (unit_rows(rows[pairs[start : start + _PAIRS_AT_ONCE, side]]) for side in (0, 1))
        cosines[start : start + len(first)] = (first * second).sum(axis=1)
    return cosines


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman correlation; None where one side has the same value everywhere, up to rounding."""
    from scipy.stats import spearmanr

    if len(first) < 2 or min(np.ptp(first), np.ptp(second)) <= _SAME_COSINE:
        return None
    return float(spearmanr(first, second).statistic)


def effective_rank(rows: np.ndarray) -> float:
    """exp of the entropy of the singular values, divided by their sum. 0 for rows of zeros."""
    values = np.linalg.svd(rows, compute_uv=False).astype(np.float64)
    if not values.any():
        return 0.0
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _shared(mine: np.ndarray | None, theirs: np.ndarray, count: int) -> float | None:
    """None without neighbours, or where there are fewer."""
    if mine is None or theirs.shape[1] < count:
        return None
    return shared(mine[:, :count], theirs[:, :count])


def _mean_cosine(student: np.ndarray, teacher: np.ndarray) -> float:
    total = 0.0
    for start in range(0, len(student), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        total += float((unit_rows(student[part]) * unit_rows(teacher[part])).sum(dtype=np.float64))
        give_back(student)
        give_back(teacher)
    return total / len(student)
