from pathlib import Path

import numpy as np
import pytest

from distilcse_cli.teacher import neighbours
from distilcse_cli.teacher.neighbours import nearest, nearest_with_cosines, shared


def by_sorting(queries: np.ndarray, rows: np.ndarray, k: int, leave_out: np.ndarray | None = None) -> np.ndarray:
    """The definition: all cosines, a stable sort of each row."""
    unit = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in (queries.astype(float), rows.astype(float))]
    cosines = unit[0] @ unit[1].T
    if leave_out is not None:
        cosines[np.arange(len(queries)), leave_out] = -np.inf
    return np.argsort(-cosines, axis=1, kind="stable")[:, :k]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven queries and 37 rows at a time, so that the last chunks are not full."""
    monkeypatch.setattr(neighbours, "_QUERIES", 7)
    monkeypatch.setattr(neighbours, "_CHUNK_BYTES", 4 * 12 * 37)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("k", [1, 10, 99])
def test_neighbours_equal_those_of_a_full_sort(k: int) -> None:
    draw = np.random.default_rng(0)
    queries, rows = draw.normal(size=(30, 12)), 3 * draw.normal(size=(100, 12))
    found, cosines = nearest_with_cosines(queries.astype(np.float32), rows.astype(np.float32), k)
    assert found.dtype == np.int64
    assert found.tolist() == by_sorting(queries, rows, k).tolist()
    first = rows[found[:, 0]]
    expected = (queries * first).sum(axis=1) / np.linalg.norm(queries, axis=1) / np.linalg.norm(first, axis=1)
    np.testing.assert_allclose(cosines[:, 0], expected, atol=1e-6)


@pytest.mark.usefixtures("small_chunks")
def test_each_query_leaves_out_its_own_row_of_a_float16_memory_map(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).normal(size=(90, 12)).astype(np.float16)
    np.save(tmp_path / "rows.npy", rows)
    stored = np.load(tmp_path / "rows.npy", mmap_mode="r")
    own = np.arange(50, 90)
    found = nearest(stored[50:], stored, 5, leave_out=own)
    assert found.tolist() == by_sorting(rows[50:], rows, 5, own).tolist()
    assert not (found == own[:, None]).any()


def test_equal_rows_come_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_CHUNK_BYTES", 4 * 1024 * 3)  # three rows at a time
    right, up = [1, 0], [0, 1]
    rows = np.array([up, right, right, up, right, [2, 0], up, right], dtype=np.float32)
    assert nearest(np.array([right, up], dtype=np.float32), rows, 4).tolist() == [[1, 2, 4, 5], [0, 3, 6, 1]]


def test_a_row_of_zeros_is_as_near_as_a_right_angle() -> None:
    rows = np.array([[0, 0], [-1, 0], [0, 1]], dtype=np.float32)
    assert nearest(np.array([[1, 0]], dtype=np.float32), rows, 3).tolist() == [[0, 2, 1]]


@pytest.mark.parametrize(("width", "k", "leave_out"), [(3, 1, None), (2, 4, None), (2, 0, None), (2, 3, np.array([0]))])
def test_what_cannot_be_is_a_bug_of_the_caller(width: int, k: int, leave_out: np.ndarray | None) -> None:
    with pytest.raises(ValueError, match="equal widths"):
        nearest(np.ones((1, width), np.float32), np.ones((3, 2), np.float32), k, leave_out=leave_out)


def test_the_shared_part_by_hand() -> None:
    # of six numbers 1, 2 and 6 are in both
    assert shared(np.array([[1, 2, 3], [4, 5, 6]]), np.array([[2, 1, 9], [6, 7, 8]])) == 0.5
    # -1 stands for nothing, and so agrees with nothing
    assert shared(np.array([[1, -1, -1]]), np.array([[-1, 1, -1]])) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="two equal shapes"):
        shared(np.ones((2, 2)), np.ones((2, 3)))
