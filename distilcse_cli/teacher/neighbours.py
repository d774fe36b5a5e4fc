"""Exact nearest neighbours by cosine, in chunks: both sides may be memory maps of any length.

Shape letters: Q queries, N rows, D width, k neighbours.
"""

import mmap
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_QUERIES = 1024
_CHUNK_BYTES = 16 << 20
"""Most bytes of a chunk of rows, and of its cosines with a chunk of queries. About five of them are in memory."""


def nearest(queries: np.ndarray, rows: np.ndarray, k: int, *, leave_out: np.ndarray | None = None) -> np.ndarray:
    """Find the k rows with the highest cosines to each query, the nearest first; of equal ones the first in `rows`.

    A row of zeros has a cosine of 0 with everything.

    Args:
        queries: (Q, D) of any length and float format.
        rows: (N, D), read once from its start to its end.
        k: neighbours of each query.
        leave_out: (Q,) the row that is no neighbour of each query, such as the query itself; None leaves out none.

    Returns:
        (Q, k) int64 numbers of rows.

    Raises:
        ValueError: the widths differ, or there are fewer than k rows to choose from.
    """
    return nearest_with_cosines(queries, rows, k, leave_out=leave_out)[0]


def nearest_with_cosines(
    queries: np.ndarray, rows: np.ndarray, k: int, *, leave_out: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """As `nearest`, and the (Q, k) float32 cosines of these rows."""
    most = len(rows) - (leave_out is not None)
    if queries.ndim != 2 or rows.ndim != 2 or queries.shape[1] != rows.shape[1] or not 1 <= k <= most:
        raise ValueError(f"queries {queries.shape}, rows {rows.shape}: equal widths, and k={k} from 1 to {most}")
    best = torch.full((len(queries), k), -torch.inf)
    numbers = torch.zeros((len(queries), k), dtype=torch.int64)
    for first, chunk in _chunks(rows, _CHUNK_BYTES // (4 * max(rows.shape[1], _QUERIES))):
        give_back(rows)
        for start, some in _chunks(queries, _QUERIES):
            cosines = some @ chunk.T
            if leave_out is not None:
                own = torch.from_numpy(np.asarray(leave_out[start : start + len(some)], dtype=np.int64)) - first
                here = torch.nonzero((own >= 0) & (own < len(chunk)))[:, 0]
                cosines[here, own[here]] = -torch.inf
            values, found = _top(cosines, min(k, len(chunk)))
            mine = slice(start, start + len(some))
            # rows of earlier chunks stand first, and stay first among equals
            values, order = torch.cat([best[mine], values], dim=1).sort(dim=1, descending=True, stable=True)
            best[mine] = values[:, :k]
            numbers[mine] = torch.cat([numbers[mine], found + first], dim=1).gather(1, order[:, :k])
    return numbers.numpy(), best.numpy()


def shared(a: np.ndarray, b: np.ndarray) -> float:
    """The share, 0 to 1, of each row's numbers in `a` that are also in the same row of `b`, on average.

    Args:
        a: (Q, k) numbers, all different within a row; one below 0 stands for no number.
        b: (Q, k) numbers, as in `a`.

    Raises:
        ValueError: the shapes differ, or there is no number.
    """
    if a.shape != b.shape or not a.size:
        raise ValueError(f"{a.shape} and {b.shape}: two equal shapes, with numbers in them")
    both = np.sort(np.concatenate([a, b], axis=1), axis=1)
    return float(((both[:, 1:] == both[:, :-1]) & (both[:, 1:] >= 0)).sum() / a.size)


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """(N, D) float32 copies of rows, each scaled to length 1; a row of zeros stays one."""
    unit = np.array(rows, dtype=np.float32, order="C")
    with np.errstate(invalid="ignore"):  # infinity becomes NaN
        unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    return unit


def give_back(rows: np.ndarray) -> None:
    """Give back the pages of a memory map that were read: they count as the process's memory. Other arrays stay."""
    array = rows if isinstance(rows, np.memmap) else rows.base
    if isinstance(array, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):
        array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def _chunks(rows: np.ndarray, size: int) -> Iterator[tuple[int, Tensor]]:
    """The number of each chunk's first row, and its rows in float32, of length 1."""
    for start in range(0, len(rows), size):
        chunk = torch.from_numpy(np.array(rows[start : start + size], dtype=np.float32))
        yield start, functional.normalize(chunk, dim=1)


def _top(cosines: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest cosines of each row of a matrix, and their columns; of equal ones the first columns."""
    values, columns = cosines.topk(k, dim=1)
    # topk takes any of the columns that are equal to the last one it takes
    unsure = torch.nonzero((cosines >= values[:, -1:]).sum(dim=1) > k)[:, 0]
    for row in unsure.tolist():
        values[row], columns[row] = (one[:k] for one in cosines[row].sort(descending=True, stable=True))
    columns, order = columns.sort(dim=1)
    values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, order)
