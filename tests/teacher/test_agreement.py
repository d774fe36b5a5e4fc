"""Agreement between two models, on points whose geometry is plain."""

import numpy as np
import pytest

from distilcse_cli.teacher.agreement import agreement


def _circle(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_a_model_agrees_with_itself_wholly() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 4))
    same = agreement(rows * 3, rows)
    assert (same.pair_spearman, same.neighbor_overlap) == pytest.approx((100, 100))
    assert same.mean_cosine == pytest.approx(1.0, abs=1e-6)


def test_a_rotation_keeps_pairs_and_neighbors_but_not_the_cosine() -> None:
    turned = agreement(_circle(90, 100, 140), _circle(0, 10, 50))
    assert (turned.pair_spearman, turned.neighbor_overlap) == pytest.approx((100, 100))
    assert turned.mean_cosine == pytest.approx(0.0, abs=1e-6)


def test_pair_spearman_ranks_the_cosines_of_all_pairs() -> None:
    # teacher angles between pairs: 01: 10, 02: 50, 12: 40, so cosines rank 01 > 12 > 02;
    # student: 01: 50, 02: 10, 12: 40, so 02 > 12 > 01, the reverse
    assert agreement(_circle(0, 50, 10), _circle(0, 10, 50)).pair_spearman == pytest.approx(-100)


def test_neighbor_overlap_is_the_share_of_the_ten_nearest() -> None:
    # 12 sentences on an arc have 11 others each, of which ten are nearest: two models can
    # disagree in one of ten at most. Reversed order from the first sentence's point of view:
    teacher = _circle(*range(12))
    student = teacher[::-1]
    # row i of the student lies where row 11 - i of the teacher does. Row 0's farthest other is
    # row 11 for both, row 1's too (teacher 1 is nearest to all but 11; student row 1 sits at 10,
    # whose farthest is 0, which is row 11). The arc is symmetric, so nothing changes for any row.
    assert agreement(student, teacher).neighbor_overlap == pytest.approx(100)
    # with rows 0 and 11 swapped, rows 1 to 5 now leave out row 0 instead of 11, rows 6 to 10 row
    # 11 instead of 0: nine of ten shared; rows 0 and 11 still leave each other out
    swapped = teacher[[11, *range(1, 11), 0]]
    assert agreement(swapped, teacher).neighbor_overlap == pytest.approx(100 * (10 * 0.9 + 2) / 12)


def test_models_of_different_width_have_no_mean_cosine() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 4))
    assert agreement(np.hstack([rows, rows]), rows).mean_cosine is None


def test_rows_must_match() -> None:
    with pytest.raises(ValueError, match="at least 3 rows"):
        agreement(np.ones((4, 2)), np.ones((5, 2)))
