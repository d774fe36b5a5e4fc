"""Cosines and correlations, derived by hand."""

import math

import numpy as np
import pytest

from senteval.correlation import Pairs, aggregate, correlate, cosines, nested, pairs_of
from senteval.embedding import Vectors
from senteval.loading import Split


def pairs(similarities: list[float], gold: list[float]) -> Pairs:
    return Pairs(np.array(similarities), np.array(gold))


def test_cosines_by_hand() -> None:
    first = np.array([[3, 4], [1, 0], [2, 0]], dtype=np.float32)
    second = np.array([[4, 3], [0, 5], [-1, 0]], dtype=np.float32)
    # (12 + 12) / 25, orthogonal, opposite
    assert cosines(first, second) == pytest.approx([0.96, 0, -1])


def test_the_cosine_with_an_all_zero_embedding_is_zero() -> None:
    zero, one = np.zeros((1, 2), dtype=np.float32), np.ones((1, 2), dtype=np.float32)
    assert cosines(zero, one).tolist() == [0.0]


@pytest.mark.parametrize("number", [np.float32, np.float64])
def test_cosines_are_sentevals_in_the_embeddings_own_number_format(number: type[np.floating]) -> None:
    rng = np.random.default_rng(0)
    u, v = (rng.normal(size=(50, 384)).astype(number) for _ in range(2))
    by_senteval = [np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in zip(u, v, strict=True)]
    assert cosines(u, v).tolist() == [float(value) for value in by_senteval]


def test_float64_tells_cosines_apart_that_are_one_in_float32() -> None:
    angles = np.array([3e-5, 1e-5, 2e-5, 0.1])  # cosines 1 - angle² / 2, and float32 has steps of 6e-8 below 1
    first, second = np.tile([1.0, 0.0], (4, 1)), np.stack([np.cos(angles), np.sin(angles)], axis=1)
    gold = [2.0, 4.0, 3.0, 1.0]
    score = correlate(Pairs(cosines(first, second), np.array(gold)))
    assert score.spearman is not None
    assert score.spearman.statistic == pytest.approx(1)
    assert len(set(cosines(first.astype(np.float32), second.astype(np.float32)))) == 2


def test_both_correlations_by_hand() -> None:
    # ranks 1 2 3 against 1 3 2: 1 - 6 * (0 + 1 + 1) / (3 * 8) = 0.5;
    # centred (-1, 0, 1) against (-3, 2, 1): 4 / sqrt(2 * 14)
    score = correlate(pairs([0.1, 0.2, 0.3], [0.0, 5.0, 4.0]))
    assert score.spearman is not None
    assert score.pearson is not None
    assert score.spearman.statistic == pytest.approx(0.5)
    assert score.pearson.statistic == pytest.approx(4 / math.sqrt(28))
    assert score.num_pairs == 3


def test_ties_share_their_mean_rank() -> None:
    # ranks 1.5 1.5 3 against 1 2 3: centred (-.5, -.5, 1) and (-1, 0, 1): 1.5 / sqrt(1.5 * 2)
    score = correlate(pairs([0.0, 0.0, 1.0], [1.0, 2.0, 3.0]))
    assert score.spearman is not None
    assert score.spearman.statistic == pytest.approx(1.5 / math.sqrt(3))


def test_constant_similarities_have_no_correlation_but_a_reason() -> None:
    score = correlate(pairs([1.0, 1.0 - 1.2e-7, 1.0 + 1.2e-7], [1.0, 2.0, 3.0]))
    assert score.spearman is None
    assert score.pearson is None
    assert score.reason == "the model gives every pair the same similarity"


def test_the_three_aggregations_by_hand() -> None:
    # subset a: perfect order on 2 pairs; b: reversed on 4 pairs
    subsets = {"a": pairs([0.8, 0.9], [1, 2]), "b": pairs([0.4, 0.3, 0.2, 0.1], [1, 2, 3, 4])}
    values = {
        how: score.spearman.statistic
        for how in ("all", "mean", "wmean")
        if (score := aggregate(subsets, how)).spearman is not None
    }
    assert values["mean"] == pytest.approx((1 - 1) / 2)
    assert values["wmean"] == pytest.approx((2 * 1 + 4 * -1) / 6)
    # all six: similarity ranks 5 6 | 4 3 2 1; gold 1 2 | 1 2 3 4 has ranks 1.5 3.5 | 1.5 3.5 5 6.
    # centred: (1.5 2.5 .5 -.5 -1.5 -2.5) and (-2 0 -2 0 1.5 2.5): -3 - 1 - 2.25 - 6.25 = -12.5
    # over sqrt(17.5 * 16.5)
    assert values["all"] == pytest.approx(-12.5 / math.sqrt(17.5 * 16.5))


def test_one_undefined_subset_leaves_the_means_undefined_but_not_all() -> None:
    subsets = {"a": pairs([0.5, 0.5], [1, 2]), "b": pairs([0.1, 0.2, 0.3], [1, 2, 3])}
    assert aggregate(subsets, "mean").spearman is None
    assert aggregate(subsets, "mean").reason == "a: the model gives every pair the same similarity"
    assert aggregate(subsets, "all").spearman is not None


def test_the_nested_result_has_sentevals_keys() -> None:
    result = nested({"a": pairs([0.1, 0.2], [1, 2]), "b": pairs([0.5, 0.5], [1, 2])}, with_summary=True)
    assert list(result) == ["a", "b", "all"]
    assert result["a"]["nsamples"] == 2
    assert result["a"]["spearman"][0] == result["a"]["spearman"].correlation == pytest.approx(1.0)
    assert result["b"]["pearson"] is None
    assert "same similarity" in result["b"]["reason"]
    assert result["all"]["spearman"]["mean"] is None
    assert list(result["all"]["pearson"]) == ["all", "mean", "wmean"]


def test_a_similarity_of_the_users_own_sees_the_two_embeddings() -> None:
    split = Split(["a"], ["b"], np.array([1.0]))
    vectors = Vectors(np.array([[1.0, 2.0]], np.float32), np.array([[4.0, 6.0]], np.float32))
    assert pairs_of(split, vectors, lambda u, v: -np.linalg.norm(u - v)).similarities.tolist() == [-5.0]
