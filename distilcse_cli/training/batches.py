"""Which sentences go into which training step.

An epoch is a seeded shuffle of all rows, cut into large windows. Inside a window rows are
sorted by length, so that a batch holds sentences of about one length and hardly any padding;
then all batches of the epoch are shuffled, so that the lengths seen say nothing about time.
"""

import numpy as np

WINDOW_BATCHES = 64  # a window of 64 batches leaves under 3 % padding on news text


def epoch_batches(lengths: np.ndarray, *, batch_size: int, seed: int, epoch: int, shuffle: bool) -> list[np.ndarray]:
    """Row numbers of every batch of an epoch; each row appears exactly once.

    Args:
        lengths: (N,) tokens of each row.
        batch_size: rows in a batch; the last one formed may have fewer.
        seed: with `epoch` decides the order, on every machine alike.
        epoch: counted from 0; each has another order.
        shuffle: False keeps the order of the rows, as the golden runs do.

    Returns:
        Arrays of int64 row numbers, in the order of training.
    """
    rows = np.arange(len(lengths))
    if not shuffle:
        return _cut(rows, batch_size)
    generator = np.random.default_rng([seed, epoch])
    generator.shuffle(rows)
    batches = []
    for window in _cut(rows, batch_size * WINDOW_BATCHES):
        batches += _cut(window[np.argsort(lengths[window], kind="stable")], batch_size)
    order = generator.permutation(len(batches))
    return [batches[index] for index in order]


def _cut(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
