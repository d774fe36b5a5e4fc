"""Ridge regression from one model's rows to another's, against numbers worked out by hand."""

import numpy as np
import pytest

from distilcse_cli.models.ridge import PENALTIES, ridge_map


def test_one_column_by_hand() -> None:
    # centered: source -1, 0, 1 and target (-2, 0, 2) twice; variance 2/3, covariance 4/3.
    # penalty 1 doubles the variance, so 4/3 / (4/3) = 1; the bias takes the mean 2 to the mean 5
    source = np.array([[1], [2], [3]], np.float32)
    target = np.array([[3, 3], [5, 5], [7, 7]], np.float32)
    weight, bias = ridge_map(source, target, 1.0)
    assert weight.ravel().tolist() == pytest.approx([1.0, 1.0])
    assert bias.tolist() == pytest.approx([3.0, 3.0])


def test_with_equal_widths_the_weights_are_drawn_to_the_identity_by_hand() -> None:
    # what is missing from the identity is 2 x - x: its covariance is 2/3, halved by penalty 1, so 1 + 1/2
    source = np.array([[1], [2], [3]], np.float32)
    weight, bias = ridge_map(source, 2 * source + 1, 1.0)
    assert weight.item() == pytest.approx(1.5)
    assert bias.item() == pytest.approx(5 - 1.5 * 2)


def test_a_linear_map_is_found_and_a_direction_without_variance_left_alone() -> None:
    rng = np.random.default_rng(0)
    matrix, shift = rng.normal(size=(5, 3)), rng.normal(size=5)
    source = rng.normal(size=(50, 3)).astype(np.float32)
    weight, bias = ridge_map(source, source @ matrix.T + shift)
    assert np.allclose(weight, matrix, atol=1e-4)
    assert np.allclose(bias, shift, atol=1e-4)

    source[:, 2] = 7
    weight, _ = ridge_map(source, source @ matrix[:3].T, 0.0)
    assert np.allclose(weight[:, :2], matrix[:3, :2], atol=1e-4)
    assert np.allclose(weight[:, 2], [0, 0, 1])


def test_the_penalty_is_chosen_on_rows_that_were_not_fitted() -> None:
    # every fifth row, which is held out, says -x where the others say 3 x: each step away from the identity that
    # the others ask for makes the error of those larger, so the largest penalty is best
    source = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
    sign = np.where(np.arange(40) % 5 == 0, -1, 3)[:, None]
    chosen, largest = ridge_map(source, sign * source), ridge_map(source, sign * source, PENALTIES[-1])
    assert np.array_equal(chosen[0], largest[0])
    # where all of them agree, the smallest is
    chosen, smallest = ridge_map(source, 3 * source), ridge_map(source, 3 * source, PENALTIES[0])
    assert np.array_equal(chosen[0], smallest[0])


def test_a_single_row_moves_only_the_mean() -> None:
    weight, bias = ridge_map(np.array([[1, 2]], np.float32), np.array([[5, 5]], np.float32))
    assert weight.tolist() == [[1, 0], [0, 1]]
    assert bias.tolist() == [4, 3]


@pytest.mark.parametrize("shapes", [((2, 3), (3, 3)), ((0, 3), (0, 3)), ((3,), (3,))])
def test_rows_that_do_not_belong_together_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="cannot map rows of shape"):
        ridge_map(*(np.zeros(shape, np.float32) for shape in shapes))


def test_a_negative_penalty_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        ridge_map(np.ones((2, 1), np.float32), np.ones((2, 1), np.float32), -1.0)
