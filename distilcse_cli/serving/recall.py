"""How much of an exact search an index finds, and how many of its lists a search has to look into.

Shape letters: Q queries, N rows, k results.
"""

from types import ModuleType
from typing import Any

import numpy as np

from distilcse_cli import console
from distilcse_cli.serving.index_folder import ivf_of
from distilcse_cli.teacher.neighbours import nearest_with_cosines, unit_rows

RESULTS = 10
GOAL = 0.95
_MARGIN = 0.01
"""The goal is overshot by that much on the sample, so that other queries reach it, too."""
_QUERIES = 1000
_ROUNDING = 1e-5
"""Cosines that differ by less are equal."""


def choose_nprobe(faiss: ModuleType, index: Any, rows: np.ndarray) -> tuple[int, float]:
    """Find the fewest lists with which a search finds 95 % of the ten nearest rows, and warn if none do.

    It is measured on rows of the index, each without itself, against exact search.

    Args:
        faiss: the module.
        index: holds the rows; its `nprobe` is set if it has lists.
        rows: (N, D) what it was made from.

    Returns:
        The number of lists (1 for an index without), and the recall with it.
    """
    if len(rows) < 2:
        return 1, 1.0
    own = sample_rows(len(rows), _QUERIES)
    k = min(RESULTS, len(rows) - 1)
    queries = unit_rows(rows[own])
    _, exact = nearest_with_cosines(queries, rows, k, leave_out=own)
    ivf = ivf_of(faiss, index)
    recall, nprobe = 0.0, 1
    for nprobe in _ladder(1 if ivf is None else ivf.nlist):
        if ivf is not None:
            ivf.nprobe = nprobe
        recall = recall_of(queries, rows, without_own(index.search(queries, k + 1)[1], own), exact)
        if recall >= GOAL + _MARGIN:
            break
    if recall < GOAL:
        console.warn(f"this index finds {100 * recall:.1f} % of the {k} nearest rows at most: try another --factory")
    return nprobe, recall


def recall_of(queries: np.ndarray, rows: np.ndarray, found: np.ndarray, exact: np.ndarray) -> float:
    """The share, 0 to 1, of found rows that are among the k nearest. Of rows equally near, one is as good as another.

    Args:
        queries: (Q, D) of length 1.
        rows: (N, D).
        found: (Q, k) numbers of rows; one below 0 stands for no row.
        exact: (Q, k) cosines of the k nearest rows, the highest first.
    """
    cosines = np.empty(found.shape, dtype=np.float32)
    for column, numbers in enumerate(found.T):
        cosines[:, column] = (unit_rows(rows[np.maximum(numbers, 0)]) * queries).sum(axis=1)
    return float(((cosines >= exact[:, -1:] - _ROUNDING) & (found >= 0)).mean())


def sample_rows(num_rows: int, most: int) -> np.ndarray:
    """(Q,) different numbers of rows in ascending order, the same at every call."""
    return np.sort(np.random.default_rng(0).choice(num_rows, min(most, num_rows), replace=False))


def without_own(found: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(Q, k) of (Q, k + 1) numbers of rows: each query's own row is left out, or else the last one."""
    is_own = found == own[:, None]
    is_own[~is_own.any(axis=1), -1] = True
    return found[~is_own].reshape(len(found), -1)


def _ladder(most: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, … and `most`."""
    steps = {1, most}
    for power in range(most.bit_length()):
        steps |= {2**power, 3 * 2**power // 2}
    return sorted(step for step in steps if 0 < step <= most)
