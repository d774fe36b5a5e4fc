"""The three validation protocols against SentEval's own numbers, trained both ways."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from senteval.validation import FAST, FULL, ClassifierSettings, Score, inner_kfold, kfold_then_test, split

Golden = tuple[dict[str, Any], dict[str, np.ndarray]]
both = pytest.mark.parametrize("sequential", [False, True], ids=["batched", "sequential"])
MODES: dict[str, tuple[ClassifierSettings, int]] = {"fast": (FAST, 5), "full": (FULL, 10)}
modes = pytest.mark.parametrize("mode", MODES)


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> Golden:
    results = json.loads((golden_dir / "senteval_classifier.json").read_text(encoding="utf-8"))["results"]
    with np.load(golden_dir / "senteval_classifier_inputs.npz") as arrays:
        return results, dict(arrays)


@pytest.mark.golden
@pytest.mark.parametrize(
    ("mode", "sequential"),
    # one by one in full takes half a minute; each of the two is also compared without the other
    [("fast", False), ("fast", True), ("full", False), pytest.param("full", True, marks=pytest.mark.slow)],
)
def test_inner_kfold_is_sentevals(golden: Golden, mode: str, sequential: bool) -> None:
    (results, arrays), (settings, num_folds) = golden, MODES[mode]
    score = inner_kfold(
        arrays["inner_X"], arrays["inner_y"], num_folds=num_folds, settings=settings, sequential=sequential
    )
    expected = results[f"inner_kfold_{mode}"]
    assert (score.devacc, score.acc) == (expected["devacc"], expected["acc"])
    assert list(score.fold_dev) == expected["fold_dev"]
    assert list(score.fold_test) == expected["fold_test"]


@pytest.mark.golden
@both
@modes
def test_kfold_then_test_is_sentevals(golden: Golden, mode: str, sequential: bool) -> None:
    (results, arrays), (settings, num_folds) = golden, MODES[mode]
    X, y = arrays["kfold_X"], arrays["kfold_y"]
    score = kfold_then_test(
        X[:400],
        y[:400],
        X[400:],
        y[400:],
        num_classes=6,
        num_folds=num_folds,
        settings=settings,
        sequential=sequential,
    )
    expected = results[f"kfold_{mode}"]
    assert (score.devacc, score.acc) == (expected["devacc"], expected["acc"])
    assert score.predictions is not None
    assert score.predictions.tolist() == expected["predictions"]


@pytest.mark.golden
@both
@modes
def test_split_is_sentevals(golden: Golden, mode: str, sequential: bool) -> None:
    (results, arrays), (settings, _) = golden, MODES[mode]
    X, y = arrays["split_X"], arrays["split_y"]
    train, dev, test = ((X[rows], y[rows]) for rows in (slice(600), slice(600, 750), slice(750, 900)))
    score = split(train, dev, test, num_classes=2, settings=settings, sequential=sequential)
    expected = results[f"split_{mode}"]
    assert (score.devacc, score.acc) == (expected["devacc"], expected["acc"])


SHORT = ClassifierSettings(max_epoch=4, epoch_size=1, batch_size=8)


def separable(num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(num_rows) % 2
    return np.stack([20.0 * y - 10.0, np.zeros(num_rows)], axis=1), y


@both
def test_a_task_that_any_l2_strength_solves_scores_a_hundred(sequential: bool) -> None:
    X, y = separable(60)
    settings = ClassifierSettings(epoch_size=30, max_epoch=0, batch_size=8)
    score = inner_kfold(X, y, num_folds=2, settings=settings, sequential=sequential)
    assert (score.devacc, score.acc) == (100.0, 100.0)
    assert score.fold_dev == score.fold_test == (100.0, 100.0)
    # 2 of 2 folds, 30 passes: 8 grid fits on 15 rows (2 batches), 2 last fits on 29 of 30 rows (4 batches)
    assert score.num_steps == 30 * (2 * 2 * 4 * 2 + 2 * 4)


@pytest.mark.parametrize("num_folds", [2, 3])
def test_progress_counts_the_classifiers_that_a_protocol_promises(num_folds: int) -> None:
    X, y = separable(90)
    told: list[int] = []
    inner_kfold(X, y, num_folds=num_folds, settings=SHORT, progress=told.append)
    assert sum(told) == num_folds * num_folds * 4 + num_folds
    told.clear()
    kfold_then_test(X, y, X, y, num_classes=2, num_folds=num_folds, settings=SHORT, progress=told.append)
    assert sum(told) == num_folds * 4 + 1
    told.clear()
    split((X, y), (X, y), (X, y), num_classes=2, settings=SHORT, progress=told.append)
    assert sum(told) == 4


Run = Callable[[np.ndarray, np.ndarray], Score]
runs: list[Run] = [
    lambda X, y: inner_kfold(X, y, num_folds=2, settings=SHORT),
    lambda X, y: kfold_then_test(X, y, X, y, num_classes=2, num_folds=2, settings=SHORT),
    lambda X, y: split((X, y), (X, y), (X, y), num_classes=2, settings=SHORT),
]


@pytest.mark.parametrize("run", runs, ids=["inner_kfold", "kfold_then_test", "split"])
def test_features_and_classes_that_do_not_fit_together_are_refused(run: Run) -> None:
    X, y = separable(60)
    with pytest.raises(ValueError, match=r"not \(60, 2\) and \(59,\)"):
        run(X, y[1:])
    with pytest.raises(ValueError, match="classes must be 0 to 1, not 1 to 2"):
        run(X, y + 1)
