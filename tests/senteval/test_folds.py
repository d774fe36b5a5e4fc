"""The folds of SentEval's protocols are those that scikit-learn makes."""

import numpy as np
import pytest

from senteval.validation import _stratified


def test_folds_by_hand() -> None:
    # class 7 comes first: its rows 0, 1, 3 are dealt to the folds 0, 1, 0, and class 2's rows 2, 4, 5 to 1, 0, 1.
    # sorted and shuffled by RandomState(1111), (0, 0, 1) becomes (1, 0, 0), and (0, 1, 1) stays as it is
    y = np.array([7, 7, 2, 7, 2, 2])
    folds = [(train.tolist(), held.tolist()) for train, held in _stratified(np.arange(6), y, 2, 1111)]
    assert folds == [([0, 4, 5], [1, 2, 3]), ([1, 2, 3], [0, 4, 5])]


@pytest.mark.golden
@pytest.mark.parametrize("seed", [0, 1111])
@pytest.mark.parametrize("num_folds", [2, 5, 10])
@pytest.mark.parametrize("num_classes", [1, 2, 6])
def test_folds_are_scikit_learns(num_classes: int, num_folds: int, seed: int) -> None:
    selection = pytest.importorskip("sklearn.model_selection")
    labels = np.random.default_rng(num_classes)
    # uneven classes that do not divide by the number of folds, and a part of the rows only
    y = np.minimum(labels.geometric(0.4, 1037) - 1, num_classes - 1)
    rows = np.flatnonzero(labels.random(1037) < 0.9)
    folds = selection.StratifiedKFold(num_folds, shuffle=True, random_state=seed).split(rows, y[rows])
    for ours, theirs in zip(_stratified(rows, y, num_folds, seed), folds, strict=True):
        for part, expected in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(part, rows[expected])


def test_fewer_rows_than_folds_in_every_class_are_refused() -> None:
    with pytest.raises(ValueError, match="3 folds need 3 rows of a class; the largest has 2"):
        _stratified(np.arange(4), np.array([0, 0, 1, 1]), 3, 1111)
