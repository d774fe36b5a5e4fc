"""Ridge regression: the linear map from one model's vectors to another's, in closed form.

It is where a student's projection starts, and what a student is worth before it is trained.

Shape letters: N sentences, S width of the source, T width of the target.
"""

import numpy as np

PENALTIES = tuple(10.0**power for power in range(-6, 3))
"""Tried where none is given, in units of the mean variance of the source's columns."""
_EVERY = 5
"""Every fifth row is held out to choose the penalty."""


def ridge_map(source: np.ndarray, target: np.ndarray, penalty: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Fit `source @ weight.T + bias` to `target`, with a penalty on the squares of the weights.

    Where the widths are equal, the penalty is on the difference from the identity (residual form): with a large
    one, rows stay as they are but for their mean. Else it is on the weights themselves.

    Args:
        source: (N, S) rows of one model.
        target: (N, T) rows of the other for the same sentences.
        penalty: strength, at least 0, in units of the mean variance of the source's columns, so that it means
            the same for rows of any length and number. None takes the one of `PENALTIES` with the smallest
            squared error on every fifth row, fitted to the others, and then fits all rows.

    Returns:
        (T, S) weight and (T,) bias, float32.

    Raises:
        ValueError: no rows, another number of rows in each, or a negative penalty.
    """
    if source.ndim != 2 or target.ndim != 2 or len(source) != len(target) or not len(source):
        raise ValueError(f"cannot map rows of shape {source.shape} to rows of shape {target.shape}")
    if penalty is not None and penalty < 0:
        raise ValueError(f"a penalty is at least 0, not {penalty}")
    source, target = source.astype(np.float64), target.astype(np.float64)
    if penalty is None:
        penalty = _chosen(source, target)
    weight, bias = _Fit(source, target).solve(penalty)
    return weight.astype(np.float32), bias.astype(np.float32)


def cosine_map(source: np.ndarray, target: np.ndarray, penalty: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """`ridge_map` for rows that are compared by their cosines, whose lengths say nothing.

    The target's rows are first scaled to the mean length of the source's. So the weights are about those of a
    rotation, and where the widths are equal the identity is a fair guess.

    Args, Returns, Raises: as for `ridge_map`.
    """
    lengths = np.maximum(np.linalg.norm(target, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return ridge_map(source, target / lengths * np.linalg.norm(source, axis=1).mean(), penalty)


class _Fit:
    """The maps from source to target for any penalty, at the cost of one eigendecomposition."""

    def __init__(self, source: np.ndarray, target: np.ndarray) -> None:
        self._center, self._aim = source.mean(axis=0), target.mean(axis=0)
        centered, aimed = source - self._center, target - self._aim
        shape = target.shape[1], source.shape[1]
        # where the penalty draws the weights to; only what is missing from there is fitted
        self._base = np.eye(*shape) if shape[0] == shape[1] else np.zeros(shape)
        aimed -= centered @ self._base.T
        values, self._vectors = np.linalg.eigh(centered.T @ centered / len(source))
        self._values = values.clip(min=0.0)  # rounding makes some of them negative
        self._missing = self._vectors.T @ (centered.T @ aimed / len(source))

    def solve(self, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        """(T, S) weight and (T,) bias."""
        shrunk = self._values + penalty * self._values.mean()
        # a direction without variance says nothing, so its weight stays 0
        floor = self._values.max() * len(self._values) * np.finfo(np.float64).eps
        inverse = np.divide(1.0, shrunk, out=np.zeros_like(shrunk), where=shrunk > floor)
        weight = (self._vectors @ (inverse[:, None] * self._missing)).T + self._base
        return weight, self._aim - weight @ self._center


def _chosen(source: np.ndarray, target: np.ndarray) -> float:
    """The penalty with the smallest squared error on held-out rows; the largest for a single row."""
    held_out = np.arange(len(source)) % _EVERY == 0
    if held_out.all():
        return PENALTIES[-1]
    fit = _Fit(source[~held_out], target[~held_out])

    def error(penalty: float) -> float:
        weight, bias = fit.solve(penalty)
        return float(np.square(source[held_out] @ weight.T + bias - target[held_out]).sum())

    return min(PENALTIES, key=error)
