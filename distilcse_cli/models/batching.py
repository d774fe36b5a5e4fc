"""Which rows go through an encoder together, and how wide they are padded."""

from functools import partial

import numpy as np


def token_budget_batches(lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Group rows of similar length into batches that cost about the same.

    Longest rows come first: whatever memory the job needs, it asks for at once. Rows of one
    length keep their order, so the plan is a function of the arguments alone.

    Args:
        lengths: (N,) tokens of each row.
        batch_tokens: most tokens of a batch, padding included: its rows times its longest row.
            A row longer than that is a batch of its own.

    Returns:
        Row numbers of each batch, longest row first. Every row is in exactly one batch.
    """
    if batch_tokens < 1:
        raise ValueError(f"batch_tokens must be at least 1, not {batch_tokens}")
    longest_first = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    batches = []
    start = 0
    while start < len(longest_first):
        longest = max(1, int(lengths[longest_first[start]]))
        end = start + max(1, batch_tokens // longest)
        batches.append(longest_first[start:end])
        start = end
    return batches


def padded_widths(lengths: np.ndarray, num_positions: int | None, *, coarse: bool) -> np.ndarray:
    """(N,) width to pad each row to: eight to an octave, so 16, 18, 20, … 32, 36, 40, … 64, 72, …

    `coarse` takes fewer, which suits a kernel made for one shape: 2, 4, … 32, 40, … 64, 80, … 128, 160, …

    A matrix kernel is made for one shape of batch and kept, and a new shape finds no freed buffer
    of its size. With every width there is, encoding 60,000 sentences grew from 1.2 to 1.4 GB; on
    this grid it stays at 1.0 to 1.1 GB for 3 % more padding.
    """
    round_up = _coarse_width if coarse else partial(_round_up, steps=8)
    table = np.array([round_up(length) for length in range(int(lengths.max(initial=1)) + 1)])
    widths = table[np.maximum(lengths, 1)]
    return widths if num_positions is None else np.minimum(widths, num_positions)


def fill_up(batch: np.ndarray, most_rows: int) -> np.ndarray:
    """Repeat the last row of a batch that is not full, as odd numbers of rows are new shapes as well."""
    num_rows = max(len(batch), min(_round_up(len(batch), steps=2), most_rows))
    return np.pad(batch, (0, num_rows - len(batch)), mode="edge")


def _coarse_width(length: int) -> int:
    step = 2 if length <= 32 else 8 if length <= 64 else 16 if length <= 128 else 32
    return -(-length // step) * step


def _round_up(number: int, steps: int) -> int:
    """The next number of a grid that has `steps` points between a power of two and the next."""
    step = max(1, (1 << number.bit_length() >> 1) // steps)
    return -(-number // step) * step
