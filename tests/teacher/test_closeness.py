"""How close two models are, on points whose geometry is plain."""

from dataclasses import asdict

import numpy as np
import pytest

from distilcse_cli.teacher.closeness import (
    Sample,
    closeness,
    draw_sample,
    effective_rank,
    look,
    pair_cosines,
    rank_correlation,
    shared_of_each,
)


def _circle(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _cos(degrees: float) -> float:
    return float(np.cos(np.radians(degrees)))


# neighbours of 0: 1 at 10 degrees, 2 at 50; of 1: 0 at 10, 2 at 40; of 2: 1 at 40, 0 at 50
TEACHER = _circle(0, 10, 50)
# neighbours of 0: 2 at 10 degrees, 1 at 50; of 1: 2 at 40, 0 at 50; of 2: 0 at 10, 1 at 40
STUDENT = _circle(0, 50, 10)
SAMPLE = Sample(
    queries=np.arange(3), random_pairs=np.array([[0, 1], [0, 2], [1, 2]]), nearest=np.array([[1, 2], [0, 2], [1, 0]])
)


def _close(student: np.ndarray, teacher: np.ndarray, sample: Sample) -> dict[str, float | None]:
    own, theirs = look(student, sample), look(teacher, sample, is_teacher=True)
    return closeness(student, teacher, own, theirs, sample).as_dict()


def test_three_points_by_hand() -> None:
    found = _close(3 * STUDENT, 2 * TEACHER, SAMPLE)
    # cosines of 01, 02, 12: the teacher's angles are 10, 50, 40, the student's 50, 10, 40, the reverse order
    assert found["spearman_random"] == pytest.approx(-1)
    assert found["shared1"] == 0.0
    # on the teacher's index, each without itself: the query at 0 finds 1 (right), that at 50 finds 2, where 0 would
    # be right, and that at 10 finds 1 (right)
    assert found["asymmetric1"] == pytest.approx(2 / 3)
    assert found["cosine"] == pytest.approx((1 + 2 * _cos(40)) / 3, abs=1e-6)
    # there are no ten others
    assert found["shared10"] is found["shared100"] is found["asymmetric10"] is None
    assert shared_of_each(look(STUDENT, SAMPLE), look(TEACHER, SAMPLE)).tolist() == [2, 2, 2]


def test_the_spread_of_three_points_by_hand() -> None:
    spread = look(TEACHER, SAMPLE).spread
    cosines = [_cos(10), _cos(50), _cos(40)]
    assert spread.spread == pytest.approx(sum(cosines) / 3, abs=1e-6)
    # a squared distance is 2 - 2 cos
    assert spread.uniformity == pytest.approx(np.log(np.mean([np.exp(-2 * (2 - 2 * c)) for c in cosines])), abs=1e-6)


def test_of_twelve_on_an_arc_two_that_change_places_cost_one_neighbour_in_ten() -> None:
    teacher = _circle(*range(12))
    sample = draw_sample(teacher, num_queries=12, num_pairs=50, seed=0)
    # as derived in test_agreement: rows 1 to 10 share nine of ten, rows 0 and 11 all
    swapped = teacher[[11, *range(1, 11), 0]]
    found = _close(swapped, teacher, sample)
    assert found["shared10"] == pytest.approx((10 * 0.9 + 2) / 12)
    assert found["shared100"] is None
    counts = shared_of_each(look(swapped, sample), look(teacher, sample))
    assert counts.tolist() == [10, *[9] * 10, 10]


def test_a_model_is_as_close_as_can_be_to_itself_and_another_width_has_no_common_space() -> None:
    rows = np.random.default_rng(0).normal(size=(150, 8)).astype(np.float32)
    sample = draw_sample(rows, num_queries=40, num_pairs=100, seed=3)
    assert all(value == pytest.approx(1, abs=1e-6) for value in _close(rows, rows, sample).values())
    # twice the same numbers have the same cosines
    found = _close(np.hstack([rows, rows]), rows, sample)
    assert {name for name, value in found.items() if value is None} == {
        "asymmetric1", "asymmetric10", "asymmetric100", "cosine"
    }  # fmt: skip
    assert (found["spearman"], found["shared10"]) == pytest.approx((1, 1))


def test_a_draw_repeats_with_its_seed_and_never_pairs_a_sentence_with_itself() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 4))
    one, same, other = (draw_sample(rows, num_queries=7, num_pairs=500, seed=seed) for seed in (1, 1, 2))
    for name, value in asdict(one).items():
        assert np.array_equal(value, getattr(same, name)), name
    assert one.queries.tolist() != other.queries.tolist()
    assert (np.diff(one.queries) > 0).all()
    assert (one.random_pairs[:, 0] != one.random_pairs[:, 1]).all()
    assert set(one.random_pairs.ravel().tolist()) == set(range(30))
    assert one.counts() == {"num_queries": 7, "num_random_pairs": 500, "num_near_pairs": 70}
    assert one.near_pairs[:10, 0].tolist() == [one.queries[0]] * 10
    assert one.near_pairs[:10, 1].tolist() == one.nearest[0, :10].tolist()
    with pytest.raises(ValueError, match="at least 3 rows"):
        draw_sample(rows[:2], num_queries=1, num_pairs=1, seed=0)


def test_effective_rank_counts_directions_of_equal_weight() -> None:
    assert effective_rank(np.eye(3)) == pytest.approx(3)
    assert effective_rank(np.ones((5, 3))) == pytest.approx(1, abs=1e-5)
    assert effective_rank(np.zeros((5, 3))) == 0.0
    # singular values 3 and 1: shares 3/4 and 1/4
    assert effective_rank(np.diag([3.0, 1.0])) == pytest.approx(np.exp(0.75 * np.log(4 / 3) + 0.25 * np.log(4)))


def test_rank_correlation_gives_ties_their_mean_rank_and_knows_when_it_is_not_defined() -> None:
    # ranks 1.5, 1.5, 3 against 1, 2, 3: 1.5 / sqrt(1.5 * 2)
    assert rank_correlation(np.array([1.0, 1.0, 2.0]), np.array([0.1, 0.2, 0.3])) == pytest.approx(1.5 / np.sqrt(3))
    assert rank_correlation(np.array([1.0, 1.0]), np.array([0.1, 0.2])) is None
    assert rank_correlation(np.array([1.0]), np.array([0.1])) is None


def test_cosines_of_pairs_by_hand_with_a_row_of_zeros() -> None:
    rows = np.array([[2, 0], [0, 3], [1, 1], [0, 0]], dtype=np.float16)
    pairs = np.array([[0, 1], [0, 2], [2, 2], [0, 3]])
    assert pair_cosines(rows, pairs).tolist() == pytest.approx([0, np.sqrt(0.5), 1, 0], abs=1e-6)
