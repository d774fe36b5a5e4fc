"""Transfer tasks: turn embeddings into features, then validate a classifier in one of SentEval's three ways."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from senteval.embedding import Embed, Vectors
from senteval.loading import Mode, TaskData

if TYPE_CHECKING:
    from senteval.validation import ClassifierSettings

Progress = Callable[[int, int], None]
"""Called with steps done and total steps."""


def no_progress(done: int, total: int) -> None:
    """Do nothing: the default progress callback."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How classifiers are trained and validated."""

    settings: "ClassifierSettings"
    num_folds: int
    """Folds of the tasks that have no development set."""
    sequential: bool = False
    """Train one classifier after another, as SentEval does, instead of many at once."""


def protocol_of(mode: Mode, *, sequential: bool = False) -> Protocol:
    """Return the protocol of SimCSE's evaluation: `dev` and `fasttest` train shorter and on fewer folds than `test`."""
    from senteval.validation import FAST, FULL

    settings, num_folds = (FULL, 10) if mode == "test" else (FAST, 5)
    return Protocol(settings=settings, num_folds=num_folds, sequential=sequential)


def features(vectors: Vectors) -> np.ndarray:
    """(N, D) embeddings of single sentences, or (N, 2D) `|u - v|` and `u * v` of pairs."""
    u, v = vectors.first, vectors.second
    return u if v is None else np.concatenate([np.abs(u - v), u * v], axis=1)


def score_transfer(
    data: TaskData, embed: Embed, protocol: Protocol, progress: Progress = no_progress
) -> dict[str, Any]:
    """SentEval's result dict of a transfer task: `devacc`, `acc` in percent, `ndev`, `ntest`; `f1` too for MRPC."""
    from senteval import validation

    X = {name: features(embed(split)) for name, split in data.splits.items()}
    y = {name: split.labels for name, split in data.splits.items()}
    counter = _counter(progress, _num_fits(data.task.kind, protocol.num_folds))
    common: dict[str, Any] = {"settings": protocol.settings, "sequential": protocol.sequential, "progress": counter}
    num_classes = data.task.num_classes
    match data.task.kind:
        case "inner_kfold":
            score = validation.inner_kfold(X["all"], y["all"], num_folds=protocol.num_folds, **common)
            dev = test = "all"
        case "kfold":
            rows = (X["train"], y["train"], X["test"], y["test"])
            score = validation.kfold_then_test(*rows, num_classes=num_classes, num_folds=protocol.num_folds, **common)
            dev, test = "train", "test"
        case "split":
            score = validation.split(*((X[name], y[name]) for name in X), num_classes=num_classes, **common)
            dev, test = "dev", "test"
        case kind:
            raise ValueError(f"{data.task.name} is a task of kind {kind}, not a transfer task")
    result = {"devacc": score.devacc, "acc": score.acc, "ndev": len(y[dev]), "ntest": len(y[test])}
    if data.task.name == "MRPC" and score.predictions is not None:
        result["f1"] = f1_percent(y[test], score.predictions)
    return result


def _num_fits(kind: str, num_folds: int) -> int:
    """Number of classifiers that a protocol trains: four l2 strengths a fold, and one more for each pick."""
    return {"inner_kfold": 4 * num_folds**2 + num_folds, "kfold": 4 * num_folds + 1}.get(kind, 4)


def _counter(progress: Progress, total: int) -> Callable[[int], None]:
    done = 0
    progress(done, total)

    def more(num_fits: int) -> None:
        nonlocal done
        done += num_fits
        progress(done, total)

    return more


def f1_percent(gold: np.ndarray, predictions: np.ndarray) -> float:
    """F1 of class 1, in percent, rounded to two decimals as SentEval does; 0 if class 1 never occurs."""
    hits = int(np.sum((gold == 1) & (predictions == 1)))
    claimed_and_true = int(np.sum(gold == 1) + np.sum(predictions == 1))
    return round(100 * 2 * hits / claimed_and_true, 2) if claimed_and_true else 0.0
