"""SentEval's trained relatedness model."""

from pathlib import Path

import numpy as np
import pytest
import torch

import senteval
from senteval.loading import load_task
from senteval.regressor import fit_relatedness, spread_scores
from tests.senteval.small import letter_counts, write_sick


def test_a_gold_score_is_spread_over_its_two_neighbors() -> None:
    spread = spread_scores(np.array([3.6, 1.0, 5.0]))
    assert spread == pytest.approx(np.array([[0, 0, 0.4, 0.6, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1]]), abs=1e-6)


def test_below_one_part_of_the_probability_is_missing_as_in_senteval() -> None:
    assert spread_scores(np.array([0.25, 0.0])) == pytest.approx(np.array([[0.25, 0, 0, 0, 0], [0, 0, 0, 0, 0]]))


def related_rows(num_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of which the first tells the score."""
    gold = np.random.default_rng(seed).uniform(1, 5, num_rows)
    noise = np.random.default_rng(seed + 1).normal(size=(num_rows, 3))
    return np.column_stack([gold - 3, 0.1 * noise]).astype(np.float32), gold


def test_the_model_learns_the_scores() -> None:
    (train_X, train), (dev_X, dev), (test_X, test) = (related_rows(n, seed) for n, seed in ((200, 0), (50, 2), (50, 4)))
    fit = fit_relatedness(train_X, train, dev_X, dev, test_X, seed=1111)
    assert fit.dev_spearman > 0.95
    assert np.corrcoef(fit.predictions, test)[0, 1] > 0.95
    assert fit.predictions.min() >= 1
    assert fit.predictions.max() <= 5


def test_training_follows_its_own_seed_and_leaves_the_global_ones_alone() -> None:
    (train_X, train), (dev_X, dev) = related_rows(64, 0), related_rows(20, 2)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    states = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index,union-attr]  # noqa: NPY002
    first = fit_relatedness(train_X, train, dev_X, dev, dev_X, seed=1)
    assert torch.equal(states[0], torch.random.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])  # type: ignore[index]  # noqa: NPY002
    torch.manual_seed(6)
    again = fit_relatedness(train_X, train, dev_X, dev, dev_X, seed=1)
    other = fit_relatedness(train_X, train, dev_X, dev, dev_X, seed=2)
    assert np.array_equal(first.predictions, again.predictions)
    assert not np.array_equal(first.predictions, other.predictions)


def test_a_trained_task_reports_test_scores_and_the_dev_correlation(tmp_path: Path) -> None:
    words = ["ab", "abc", "abd", "xy", "xyz", "xyw", "mno", "mnp"]
    pairs = [(a, b, 1.0 + 4 * len(set(a) & set(b)) / len(set(a) | set(b))) for a in words for b in words]
    task = write_sick(tmp_path, {"train": pairs, "dev": pairs[:24], "test": pairs[24:]}, "SICKRelatedness-finetune")
    results = senteval.evaluate_loaded(letter_counts, [load_task(task, tmp_path)])
    nested, score = results.tasks["SICKRelatedness-finetune"], results.scores["SICKRelatedness-finetune"]
    assert list(nested) == ["devspearman", "pearson", "spearman", "mse", "ndev", "ntest"]
    assert (nested["ndev"], nested["ntest"]) == (24, 40)
    assert nested["spearman"] > 0.8
    assert score == senteval.RegressorScore(
        dev_spearman=100 * nested["devspearman"],
        spearman=100 * nested["spearman"],
        pearson=100 * nested["pearson"],
        mse=nested["mse"],
        num_pairs=40,
    )
    assert results.headline("SICKRelatedness-finetune") == 100 * nested["spearman"]
    assert results.avg_sts is None
