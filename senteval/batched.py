"""Train all classifiers of a protocol together, with the same results as one by one in `senteval.classifier`.

Every fit starts from the same seed. So fits with the same number of training rows share their
starting weights, the order of their rows and their dropout. They can take each step together, as
one batched model over folds and l2 strengths (`senteval.lockstep`). A fold's rows are gathered
once for all its l2 strengths. Each fit stops early on its own schedule, and a fold leaves the
batch when all its fits have stopped. Folds whose numbers of training rows differ form separate
batches. Batches are spread over the cores (`senteval.workers`).

Letters: N rows, D features, C classes, F folds, R l2 strengths, B rows of a step.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from senteval.classifier import ClassifierSettings, Fit, Fold, Progress, new_model, row_order, train_and_dev_rows
from senteval.lockstep import MLP, Adam, Linear, RMSprop
from senteval.workers import map_on_cores

CACHE_BYTES = 3 * 2**18
"""Largest size of the rows that a block gathers: they are multiplied twice and must stay in a core's cache."""

MIN_FOLDS = 5
"""Fewest folds worth a separate process: with fewer, a step spends more time in Python than in arithmetic."""

OPTIMIZERS: dict[str, type[Adam] | type[RMSprop]] = {"adam": Adam, "rmsprop": RMSprop}
"""Those that train many fits at once; classifiers with another one are trained one after another."""


def fit_batched(
    X: Tensor,
    y: Tensor,
    folds: Sequence[Fold],
    settings: ClassifierSettings,
    num_classes: int,
    progress: Progress | None = None,
) -> list[list[Fit]]:
    """Train all classifiers together.

    Args:
        X: (N, D) float32 features.
        y: (N,) int64 classes, 0 to C - 1.
        folds: rows and l2 strengths.
        settings: how to train.
        num_classes: C.
        progress: called with the number of fits finished since the last call.

    Returns:
        For each fold one fit per l2 strength, in order.
    """
    task = _Task(torch.cat([X, X.new_ones(len(X), 1)], dim=1), y, num_classes, settings)
    num_workers = torch.get_num_threads()
    batches = _batches(folds, num_workers)
    fits: list[list[Fit]] = [[] for _ in folds]

    def fit_batch(batch: list[int], count: Progress) -> list[list[Fit]]:
        return _fit_batch(task, [folds[i] for i in batch], count)

    for batch, fitted in zip(batches, map_on_cores(fit_batch, batches, num_workers, progress or _ignore), strict=True):
        for i, fits_of_fold in zip(batch, fitted, strict=True):
            fits[i] = fits_of_fold
    return fits


def _ignore(_: int) -> None:
    """Do nothing: the default progress callback."""


class _Task:
    """Data, classes and starting weights that all batches share."""

    def __init__(self, X: Tensor, y: Tensor, num_classes: int, settings: ClassifierSettings) -> None:
        self.X, self.y, self.num_classes, self.settings = X, y, num_classes, settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            model = new_model(X.shape[1] - 1, num_classes, settings)
            self._random_state = torch.get_rng_state()
        parameters = [parameter.detach() for parameter in model.parameters()]
        self.layers = [
            torch.cat([weight, bias.unsqueeze(1)], dim=1)
            for weight, bias in zip(parameters[::2], parameters[1::2], strict=True)
        ]

    def model(self, num_folds: int, num_l2: int) -> Linear | MLP:
        """Untrained classifiers, all with the same weights."""
        return (Linear if self.settings.nhid == 0 else MLP)(self.layers, num_folds, num_l2)

    def generator(self) -> torch.Generator:
        """A generator in the state that every fit finds after its weights are drawn."""
        return torch.Generator().set_state(self._random_state)


def _batches(folds: Sequence[Fold], num_workers: int) -> list[list[int]]:
    """Group fold numbers into batches that train together, large batches first."""
    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for i, fold in enumerate(folds):
        alike[len(fold.train), fold.dev is None, len(fold.l2)].append(i)
    size = max(MIN_FOLDS, -(-len(folds) // (2 * num_workers)))
    batches: list[list[int]] = []
    for numbers in alike.values():
        num_parts = 1 if num_workers == 1 else -(-len(numbers) // size)
        batches += [part.tolist() for part in np.array_split(numbers, num_parts)]
    return sorted(batches, key=len, reverse=True)


@torch.inference_mode()
def _fit_batch(task: _Task, folds: Sequence[Fold], count: Progress) -> list[list[Fit]]:
    """Train folds with the same number of training rows, all one step at a time."""
    settings, order, generator = task.settings, row_order(task.settings.seed), task.generator()
    rows, dev_rows = zip(*train_and_dev_rows(folds, order), strict=True)
    batch = _Batch(task, np.stack(rows), torch.tensor([fold.l2 for fold in folds]))
    stopping = _EarlyStopping(batch.model.weights, settings.tenacity)
    numbers = np.arange(len(folds))  # of the folds still in the batch
    for _ in range(settings.max_epoch // settings.epoch_size + 1):
        for _ in range(settings.epoch_size):
            batch.train_pass(order, generator)
        correct = np.stack([batch.num_correct(place, dev_rows[fold]) for place, fold in enumerate(numbers)])
        count(stopping.update(numbers, correct, batch.model.weights))
        kept = np.any(stopping.running[numbers], axis=1)
        numbers = numbers[kept]
        if not len(numbers):
            break
        if not kept.all():
            batch.keep(kept)
    count(int(stopping.running.sum()))
    num_steps = stopping.num_evaluations * settings.epoch_size * settings.steps_a_pass(batch.num_rows)
    return [
        [
            Fit(
                stopping.best_correct[fold, column] / len(dev_rows[fold]),
                batch.model.parameters([best[fold, column] for best in stopping.best_weights]),
                int(num_steps[fold, column]),
            )
            for column in range(len(folds[fold].l2))
        ]
        for fold in range(len(folds))
    ]


class _EarlyStopping:
    """Track which of F·R fits still run, and the best weights of each."""

    def __init__(self, weights: Sequence[Tensor], tenacity: int) -> None:
        shape = weights[0].shape[:2]
        self.best_correct = np.full(shape, -1)
        self.best_weights = [torch.empty_like(weight) for weight in weights]
        self.running = np.ones(shape, dtype=bool)
        self.num_evaluations = np.zeros(shape, dtype=np.int64)
        self._num_failures = np.zeros(shape, dtype=np.int64)
        self._tenacity = tenacity

    def update(self, folds: np.ndarray, correct: np.ndarray, weights: Sequence[Tensor]) -> int:
        """Compare with the best so far, and stop the fits that have failed too often.

        Args:
            folds: fold numbers of the rows of `correct` and `weights`.
            correct: (len(folds), R) numbers of dev rows classified correctly.
            weights: (len(folds), R, …) each.

        Returns:
            Number of fits that stopped.
        """
        running = self.running[folds]
        self.num_evaluations[folds] += running
        better = running & (correct > self.best_correct[folds])
        failed = running & ~better
        stopped = failed & (self._num_failures[folds] >= self._tenacity)
        places, columns = np.nonzero(better)
        self.best_correct[folds[places], columns] = correct[better]
        for best, weight in zip(self.best_weights, weights, strict=True):
            best[folds[places], columns] = weight[places, columns]
        self._num_failures[folds] += failed
        self.running[folds] &= ~stopped
        return int(stopped.sum())


class _Batch:
    """F folds that take each step together. Gradients are computed one block of folds at a time.

    Args:
        task: features, classes and settings.
        rows: (F, n) training rows.
        l2: (F, R) strengths.
    """

    def __init__(self, task: _Task, rows: np.ndarray, l2: Tensor) -> None:
        self.task, self._rows, self.num_rows = task, torch.from_numpy(rows), rows.shape[1]
        self.model = task.model(*l2.shape)
        self._optimizer = OPTIMIZERS[task.settings.optim](self.model.weights, l2)
        self._divide()

    def _divide(self) -> None:
        batch_size, width = self.task.settings.batch_size, self.task.X.shape[1]
        most = max(1, CACHE_BYTES // (4 * batch_size * width))
        size = -(-len(self._rows) // -(-len(self._rows) // most))  # blocks as even as possible
        gathered = torch.empty(size * batch_size, width)
        self._blocks = [
            _Block(self.task, self.model, slice(start, start + size), self._rows[start : start + size], gathered)
            for start in range(0, len(self._rows), size)
        ]

    def keep(self, kept: np.ndarray) -> None:
        """Keep only the folds whose entry in `kept`, (F,) booleans, is true."""
        folds = torch.from_numpy(np.flatnonzero(kept))
        self._rows = self._rows[folds]
        self.model.keep(folds)
        self._optimizer.keep(folds)
        self._divide()

    def train_pass(self, order: np.random.RandomState, generator: torch.Generator) -> None:
        """Make one pass over the training rows, in an order that all folds share."""
        settings, model = self.task.settings, self.model
        permutation = torch.from_numpy(order.permutation(self.num_rows))
        for block in self._blocks:
            block.shuffle(permutation)
        for step in range(settings.steps_a_pass(self.num_rows)):
            num_rows = min(settings.batch_size, self.num_rows - step * settings.batch_size)
            kept_units = self._draw_dropout(num_rows, generator)
            for block in self._blocks:
                block.backward(step, kept_units)
            self._optimizer.step(model.weights, model.gradients)
            model.refresh()

    def _draw_dropout(self, num_rows: int, generator: torch.Generator) -> Tensor | None:
        """Draw (H, B) factors as nn.Dropout would for (B, H); None if it would not draw."""
        settings = self.task.settings
        if settings.nhid == 0 or settings.dropout == 0:
            return None
        kept = torch.empty(num_rows, settings.nhid).bernoulli_(1 - settings.dropout, generator=generator)
        return kept.div_(1 - settings.dropout).T.contiguous()

    def num_correct(self, place: int, rows: np.ndarray) -> np.ndarray:
        """Count, for each of a fold's R fits, the rows that it classifies correctly."""
        X, y = (part.index_select(0, torch.from_numpy(rows)) for part in (self.task.X, self.task.y))
        return (self.model.predict(place, X) == y).sum(dim=1).numpy()


class _Block:
    """Folds whose rows of one step fit into the cache together.

    Rows are ordered by position, not by fold. At the same position, different folds often use
    neighboring rows of the features, which makes the gather a little faster.
    """

    def __init__(self, task: _Task, model: Linear | MLP, part: slice, rows: Tensor, gathered: Tensor) -> None:
        self._X, self._model, self._views = task.X, model, model.views(part)
        self._batch_size, self._num_folds = task.settings.batch_size, len(rows)
        self._rows = rows.T.contiguous()
        self._targets = model.targets(task.y)[rows].transpose(1, 2).contiguous()  # (F, 1 or C, n)
        buffers = {}
        sizes = [len(step) for step in self._rows.split(self._batch_size)]
        for size in set(sizes):
            flat = gathered[: size * self._num_folds]
            buffers[size] = flat, flat.unflatten(0, (size, self._num_folds)).transpose(0, 1)
        self._buffers = [buffers[size] for size in sizes]

    def shuffle(self, permutation: Tensor) -> None:
        """Put the rows into the order of the next pass."""
        rows = self._rows.index_select(0, permutation)
        self._step_rows = rows.flatten().split(self._batch_size * self._num_folds)
        targets = self._targets.gather(2, permutation.expand_as(self._targets))
        self._step_targets = targets.split(self._batch_size, dim=2)

    def backward(self, step: int, kept_units: Tensor | None) -> None:
        """Compute these folds' gradients of one step and write them to the model."""
        flat, by_fold = self._buffers[step]
        torch.index_select(self._X, 0, self._step_rows[step], out=flat)
        self._model.backward(self._views, by_fold, self._step_targets[step], kept_units)
