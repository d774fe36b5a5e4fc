"""Every row once an epoch, in an order that is seeded, length-bucketed and blind to time."""

import numpy as np

from distilcse_cli.training.steps import WINDOW_BATCHES, epoch_batches

LENGTHS = np.random.default_rng(0).integers(3, 65, size=20_011)


def _plan(**changes: object) -> list[np.ndarray]:
    settings = {"batch_size": 32, "seed": 1, "epoch": 0, "shuffle": True} | changes
    return epoch_batches(LENGTHS, **settings)  # type: ignore[arg-type]


def test_each_row_appears_exactly_once() -> None:
    rows = np.concatenate(_plan())
    assert np.array_equal(np.sort(rows), np.arange(len(LENGTHS)))


def test_only_batches_at_the_end_of_a_window_are_short() -> None:
    sizes = [len(batch) for batch in _plan()]
    # 20,011 = 625 * 32 + 11
    assert sorted(sizes)[:2] == [11, 32]


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    first = np.concatenate(_plan())
    assert np.array_equal(first, np.concatenate(_plan()))
    assert not np.array_equal(first, np.concatenate(_plan(epoch=1)))
    assert not np.array_equal(first, np.concatenate(_plan(seed=2)))


def test_length_buckets_leave_little_padding() -> None:
    tokens = sum(int(LENGTHS[batch].sum()) for batch in _plan())
    padded = sum(int(LENGTHS[batch].max()) * len(batch) for batch in _plan())
    # unbucketed, a batch of 32 pads nearly every row to 64, twice the mean length
    assert padded / tokens < 1.05


def test_lengths_do_not_drift_through_the_epoch() -> None:
    means = np.array([LENGTHS[batch].mean() for batch in _plan()])
    assert len(means) > 4 * WINDOW_BATCHES
    time = np.arange(len(means))
    # of 626 independent batches |r| stays under 4 / sqrt(626)
    assert abs(np.corrcoef(time, means)[0, 1]) < 0.16


def test_without_shuffling_rows_keep_their_order() -> None:
    assert [batch.tolist() for batch in epoch_batches(np.full(5, 9), batch_size=2, seed=0, epoch=3, shuffle=False)] == [
        [0, 1],
        [2, 3],
        [4],
    ]
