"""SentEval's small classifier: logistic regression or an MLP of one hidden layer, trained one fit after another.

This is the plain form of the protocol. The tests compare `senteval.batched` with it, which trains
many fits at once and must give the same numbers.

Letters: N rows, D features, C classes, H hidden units.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from senteval.optimizers import make_optimizer, parse_optimizer
from senteval.workers import one_thread

HELD_OUT = 0.05
"""Share of the training rows that serves as dev if a fold names no dev rows."""

Progress = Callable[[int], object]
"""Called with the number of fits finished since the last call."""


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings:
    """How every classifier of a task is trained."""

    nhid: int = 0
    """Hidden units; 0 is logistic regression."""
    optim: str = "adam"
    """One of `senteval.optimizers`, as `adam` (learning rate 1e-3), `rmsprop` (1e-2) or `sgd,lr=0.1`."""
    batch_size: int = 64
    """Rows a step."""
    tenacity: int = 5
    """Allowed number of dev evaluations without a better accuracy; one more stops the fit."""
    epoch_size: int = 4
    """Passes over the training rows between two dev evaluations."""
    max_epoch: int = 200
    """Start no further passes after more than this many."""
    seed: int = 1111
    """Set at the start of every fit, for the starting weights, the order of the rows and the dropout."""
    dropout: float = 0.0
    """Share of hidden units dropped in training, 0 to 1. Without hidden units it has no effect."""

    def __post_init__(self) -> None:
        parse_optimizer(self.optim)
        if min(self.batch_size, self.epoch_size) < 1 or min(self.nhid, self.tenacity, self.max_epoch) < 0:
            raise ValueError(f"batch_size and epoch_size must be at least 1, the other counts at least 0: {self}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), not {self.dropout}")

    def steps_a_pass(self, num_rows: int) -> int:
        """Optimizer steps of one pass over that many rows; the last may have fewer rows."""
        return -(-num_rows // self.batch_size)


FULL = ClassifierSettings()
"""The `test` mode's settings."""
FAST = ClassifierSettings(optim="rmsprop", batch_size=128, tenacity=3, epoch_size=2)
"""The settings of `fasttest` and `dev`."""


@dataclass(frozen=True)
class Fold:
    """Rows to train on, dev rows that decide when to stop, and l2 strengths: one fit for each strength."""

    train: np.ndarray
    """Row numbers, int."""
    dev: np.ndarray | None
    """Row numbers, int; None holds out `HELD_OUT` of `train`, chosen by the seed."""
    l2: tuple[float, ...]
    """Weight decay, added to the gradient as torch's optimizers do."""


@dataclass(frozen=True)
class Fit:
    """A trained classifier: the weights with the best dev accuracy."""

    dev_accuracy: float
    """Between 0 and 1."""
    parameters: tuple[np.ndarray, ...]
    """Weight (C, D) and bias (C,); with a hidden layer its weight (H, D) and bias (H,) first."""
    num_steps: int
    """Optimizer steps before it stopped."""

    def predict(self, X: Tensor) -> np.ndarray:
        """(N, D) features to (N,) classes."""
        weight, bias, *output = map(torch.from_numpy, self.parameters)
        scores = nn.functional.linear(X, weight, bias)
        if output:
            scores = nn.functional.linear(scores.sigmoid(), *output)
        return scores.argmax(dim=1).numpy()


def new_model(num_features: int, num_classes: int, settings: ClassifierSettings) -> nn.Sequential:
    """Return an untrained classifier, with weights drawn from torch's global generator."""
    if settings.nhid == 0:
        return nn.Sequential(nn.Linear(num_features, num_classes))
    return nn.Sequential(
        nn.Linear(num_features, settings.nhid),
        nn.Dropout(settings.dropout),
        nn.Sigmoid(),
        nn.Linear(settings.nhid, num_classes),
    )


def row_order(seed: int) -> np.random.RandomState:
    """Return the generator of a fit's row orders, NumPy's old one: the newer ones draw other orders than SentEval's."""
    return np.random.RandomState(seed)


def train_and_dev_rows(folds: Sequence[Fold], order: np.random.RandomState) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the training and dev rows of folds with the same number of training rows.

    If a fold has no dev rows, one permutation is drawn from `order`, before that of any batch, and
    its first rows are held out. Every fit starts from the same seed, so all share this permutation.

    Raises:
        ValueError: there are too few rows to hold any out.
    """
    permutation, num_held = np.empty(0, dtype=np.int64), 0
    if any(fold.dev is None for fold in folds):
        permutation = order.permutation(len(folds[0].train))
        num_held = int(HELD_OUT * len(permutation))
        if num_held == 0:
            raise ValueError(f"{len(permutation)} training rows are too few to hold out {HELD_OUT:.0%}")
    return [
        (fold.train[permutation[num_held:]], fold.train[permutation[:num_held]])
        if fold.dev is None
        else (fold.train, fold.dev)
        for fold in folds
    ]


@one_thread()
def fit_sequentially(
    X: Tensor,
    y: Tensor,
    folds: Sequence[Fold],
    settings: ClassifierSettings,
    num_classes: int,
    progress: Progress | None = None,
) -> list[list[Fit]]:
    """Train one classifier after another.

    Args:
        X: (N, D) float32 features.
        y: (N,) int64 classes, 0 to C - 1.
        folds: rows and l2 strengths.
        settings: how to train.
        num_classes: C.
        progress: called with 1 after each fit.

    Returns:
        For each fold one fit per l2 strength, in order.
    """
    fits: list[list[Fit]] = []
    for fold in folds:
        fits.append([])
        for l2 in fold.l2:
            fits[-1].append(_fit_one(X, y, fold, l2, settings, num_classes))
            if progress is not None:
                progress(1)
    return fits


def _fit_one(X: Tensor, y: Tensor, fold: Fold, l2: float, settings: ClassifierSettings, num_classes: int) -> Fit:
    order = row_order(settings.seed)
    [(train, dev)] = train_and_dev_rows([fold], order)
    train_X, train_y, dev_X, dev_y = X[train], y[train], X[dev], y[dev]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = new_model(X.shape[1], num_classes, settings)
        optimizer = make_optimizer(settings.optim, model.parameters(), l2)
        best_correct, best_state = -1, {}
        num_passes = num_failures = 0
        while num_passes <= settings.max_epoch:
            for _ in range(settings.epoch_size):
                _train_pass(model, optimizer, train_X, train_y, order, settings.batch_size)
            num_passes += settings.epoch_size
            num_correct = _num_correct(model, dev_X, dev_y, settings.batch_size)
            if num_correct > best_correct:
                best_correct, best_state = num_correct, copy.deepcopy(model.state_dict())
            # as in SentEval, compared before it is counted and never reset: failure number tenacity + 1 stops the fit
            elif num_failures >= settings.tenacity:
                break
            else:
                num_failures += 1
    parameters = tuple(parameter.numpy() for parameter in best_state.values())
    return Fit(best_correct / len(dev), parameters, num_passes * settings.steps_a_pass(len(train)))


def _train_pass(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    X: Tensor,
    y: Tensor,
    order: np.random.RandomState,
    batch_size: int,
) -> None:
    model.train()
    for rows in torch.from_numpy(order.permutation(len(X))).split(batch_size):
        loss = nn.functional.cross_entropy(model(X[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def _num_correct(model: nn.Module, X: Tensor, y: Tensor, batch_size: int) -> int:
    model.eval()
    batches = zip(X.split(batch_size), y.split(batch_size), strict=True)
    return sum(int((model(batch_X).argmax(dim=1) == batch_y).sum()) for batch_X, batch_y in batches)
