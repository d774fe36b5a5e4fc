"""SentEval's three validation protocols: nested k-fold, k-fold then test, and train / dev / test.

Each picks the l2 strength by dev accuracy and reports the test accuracy of the pick. Scores are
percentages. They are rounded to two decimals wherever SentEval rounds them, because it compares
rounded scores. `sequential=True` trains one classifier after another, in the protocol's order.
Otherwise `senteval.batched` trains them together, with the same numbers.

Letters: N rows, D features, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from senteval.batched import OPTIMIZERS, fit_batched
from senteval.classifier import FAST, FULL, ClassifierSettings, Fit, Fold, Progress, fit_sequentially, row_order

__all__ = ["FAST", "FULL", "ClassifierSettings", "Score", "inner_kfold", "kfold_then_test", "split"]

L2_GRID = (1e-5, 1e-4, 1e-3, 1e-2)

INNER_FOLDS_SEED = 1111
"""Seed of the nested protocol's folds; they do not depend on the settings' seed."""

Labeled = tuple[np.ndarray, np.ndarray]
"""(N, D) features and (N,) classes."""


@dataclass(frozen=True)
class Score:
    """Scores of a protocol, in percent."""

    devacc: float
    acc: float
    fold_dev: tuple[float, ...] = ()
    """One for each outer fold; empty in the other protocols."""
    fold_test: tuple[float, ...] = ()
    predictions: np.ndarray | None = None
    """(N,) classes of the test rows; None in the nested protocol."""
    num_steps: int = 0
    """Optimizer steps of all classifiers together: the cost of training them one after another."""


def inner_kfold(
    X: np.ndarray,
    y: np.ndarray,
    *,
    num_folds: int,
    settings: ClassifierSettings,
    num_classes: int = 2,
    sequential: bool = False,
    progress: Progress | None = None,
) -> Score:
    """Run nested k-fold (MR, CR, SUBJ, MPQA).

    In each outer fold, inner folds pick the l2 strength. One more fit is then scored on the outer
    test rows; it holds out a part of the outer training rows to decide when to stop.

    Args:
        X: (N, D) features.
        y: (N,) classes, 0 to C - 1.
        num_folds: k, for both levels; 4·k² + k classifiers are trained.
        settings: how a classifier is trained.
        num_classes: C.
        sequential: train one after another.
        progress: called with the number of classifiers finished since the last call.

    Returns:
        Means over the outer folds, and the scores of each outer fold.

    Raises:
        ValueError: X and y do not fit together, or there are too few rows for the folds.
    """
    data = _Data([(X, y)], num_classes, settings, sequential, progress)
    outer = _stratified(np.arange(len(y)), data.y, num_folds, INNER_FOLDS_SEED)
    inner = [_stratified(train, data.y, num_folds, INNER_FOLDS_SEED) for train, _ in outer]
    grids = iter(data.fit([Fold(train, dev, L2_GRID) for folds in inner for train, dev in folds]))

    picks = [_pick([next(grids) for _ in folds]) for folds in inner]
    last = data.fit([Fold(train, None, (l2,)) for (train, _), (l2, _) in zip(outer, picks, strict=True)])
    fold_dev = [dev for _, dev in picks]
    fold_test = [data.test(fit, test)[0] for [fit], (_, test) in zip(last, outer, strict=True)]
    return Score(
        devacc=float(round(np.mean(fold_dev), 2)),
        acc=float(round(np.mean(fold_test), 2)),
        fold_dev=tuple(fold_dev),
        fold_test=tuple(fold_test),
        num_steps=data.num_steps,
    )


def kfold_then_test(
    train_X: np.ndarray,
    train_y: np.ndarray,
    test_X: np.ndarray,
    test_y: np.ndarray,
    *,
    num_classes: int,
    num_folds: int,
    settings: ClassifierSettings,
    sequential: bool = False,
    progress: Progress | None = None,
) -> Score:
    """Pick the l2 strength by k-fold on the training rows, then score one more fit on test (TREC, MRPC).

    Args:
        train_X: (N, D) features.
        train_y: (N,) classes, 0 to C - 1.
        test_X: (M, D) features.
        test_y: (M,) classes.
        num_classes: C.
        num_folds: k; 4·k + 1 classifiers are trained.
        settings: how a classifier is trained.
        sequential: train one after another.
        progress: called with the number of classifiers finished since the last call.

    Raises:
        ValueError: features and classes do not fit together, or there are too few rows for the folds.
    """
    data = _Data([(train_X, train_y), (test_X, test_y)], num_classes, settings, sequential, progress)
    train, test = data.parts
    folds = _stratified(train, data.y, num_folds, settings.seed)
    l2, devacc = _pick(data.fit([Fold(rows, dev, L2_GRID) for rows, dev in folds]))
    [[last]] = data.fit([Fold(train, None, (l2,))])
    acc, predictions = data.test(last, test)
    return Score(devacc=devacc, acc=acc, predictions=predictions, num_steps=data.num_steps)


def split(
    train: Labeled,
    dev: Labeled,
    test: Labeled,
    *,
    num_classes: int,
    settings: ClassifierSettings,
    sequential: bool = False,
    progress: Progress | None = None,
) -> Score:
    """Pick the l2 strength on dev, and score the same fit on test (SST2, SST5, SICK-E).

    SentEval trains the picked classifier a second time, from the same seed and therefore to the
    same weights. Here the first fit is used.

    Args:
        train: (N, D) features and (N,) classes, 0 to C - 1.
        dev: the same for the dev rows.
        test: the same for the test rows.
        num_classes: C.
        settings: how a classifier is trained; there are 4.
        sequential: train one after another.
        progress: called with the number of classifiers finished since the last call.

    Raises:
        ValueError: features and classes do not fit together.
    """
    data = _Data([train, dev, test], num_classes, settings, sequential, progress)
    train_rows, dev_rows, test_rows = data.parts
    grid = data.fit([Fold(train_rows, dev_rows, L2_GRID)])
    l2, devacc = _pick(grid)
    acc, predictions = data.test(grid[0][L2_GRID.index(l2)], test_rows)
    return Score(devacc=devacc, acc=acc, predictions=predictions, num_steps=data.num_steps)


class _Data:
    """All parts of a task in one array, so that a fit only needs row numbers."""

    def __init__(
        self,
        parts: Sequence[Labeled],
        num_classes: int,
        settings: ClassifierSettings,
        sequential: bool,
        progress: Progress | None,
    ) -> None:
        for X, y in parts:
            if np.ndim(X) != 2 or np.shape(y) != np.shape(X)[:1]:
                raise ValueError(f"features (N, D) and classes (N,) expected, not {np.shape(X)} and {np.shape(y)}")
        self.X = torch.from_numpy(np.concatenate([np.asarray(X, dtype=np.float32) for X, _ in parts]))
        self.y = np.concatenate([np.asarray(y, dtype=np.int64) for _, y in parts])
        if self.y.min() < 0 or self.y.max() >= num_classes:
            raise ValueError(f"classes must be 0 to {num_classes - 1}, not {self.y.min()} to {self.y.max()}")
        ends = np.cumsum([len(y) for _, y in parts])
        self.parts = np.split(np.arange(ends[-1]), ends[:-1])
        self.num_steps = 0
        self._train = fit_sequentially if sequential or settings.optim not in OPTIMIZERS else fit_batched
        self._how = (settings, num_classes, progress)

    def fit(self, folds: Sequence[Fold]) -> list[list[Fit]]:
        """Train one fit per l2 strength for each fold."""
        fits = self._train(self.X, torch.from_numpy(self.y), folds, *self._how)
        self.num_steps += sum(fit.num_steps for fold in fits for fit in fold)
        return fits

    def test(self, fit: Fit, rows: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the accuracy on these rows in percent, rounded, and the predicted classes."""
        predictions = fit.predict(self.X[rows])
        return _percent(int((predictions == self.y[rows]).sum()) / len(rows)), predictions


def _stratified(rows: np.ndarray, y: np.ndarray, num_folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split these rows into k folds: k pairs of row numbers, for training and for scoring.

    The folds are those of scikit-learn's shuffled StratifiedKFold, which SentEval uses. The rows are dealt out to the
    folds in turn, one class after another; then each class shuffles which of its rows go where.
    """
    classes, order, dealt = y[rows], row_order(seed), 0
    fold_of = np.empty(len(rows), dtype=np.int64)
    counts = {label: int((classes == label).sum()) for label in dict.fromkeys(classes.tolist())}
    if max(counts.values()) < num_folds:
        raise ValueError(f"{num_folds} folds need {num_folds} rows of a class; the largest has {max(counts.values())}")
    for label, count in counts.items():
        folds = np.sort(np.arange(dealt, dealt + count) % num_folds)
        order.shuffle(folds)
        fold_of[classes == label] = folds
        dealt += count
    return [(rows[fold_of != fold], rows[fold_of == fold]) for fold in range(num_folds)]


def _pick(grids: Sequence[Sequence[Fit]]) -> tuple[float, float]:
    """Return the l2 strength with the best dev accuracy over folds (the first if tied), and that accuracy in %."""
    accuracies = [[fit.dev_accuracy for fit in fits] for fits in zip(*grids, strict=True)]
    means = [_percent(np.mean(folds) if len(folds) > 1 else folds[0]) for folds in accuracies]
    best = int(np.argmax(means))
    return L2_GRID[best], means[best]


def _percent(accuracy: Any) -> float:
    # NumPy's and Python's floats sometimes round differently in the last digit. SentEval's means are
    # NumPy's and its single accuracies Python's, so the type of `accuracy` is kept
    return float(round(100 * accuracy, 2))
