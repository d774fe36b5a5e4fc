"""Which rows go through an encoder together, how wide they are padded, and whether what comes out is usable."""

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np

from distilcse_cli.errors import DataError, ModelError

WINDOW_ROWS = 8192
"""Sentences tokenized and sorted by length together. A larger window would save hardly any padding."""
WINDOW_CHARS = 1 << 24
"""A window of very long lines ends earlier, after this many characters."""


def token_budget_batches(lengths: np.ndarray, batch_tokens: int, *, one_length: bool = False) -> list[np.ndarray]:
    """Group rows of similar length into batches that cost about the same.

    The longest rows come first, so that a job that needs too much memory fails at once. Rows of
    equal length keep their order, so the plan depends on the arguments alone.

    Args:
        lengths: (N,) tokens of each row.
        batch_tokens: most tokens of a batch, padding included: its rows times its longest row.
            A row longer than that gets a batch to itself.
        one_length: only rows of equal length share a batch.

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
        if one_length:
            end = min(end, start + int(np.count_nonzero(lengths[longest_first[start:end]] == longest)))
        batches.append(longest_first[start:end])
        start = end
    return batches


def padded_widths(lengths: np.ndarray, num_positions: int | None, *, coarse: bool) -> np.ndarray:
    """(N,) width to pad each row to: eight widths an octave, so 16, 18, 20, … 32, 36, 40, … 64, 72, …

    `coarse` allows fewer, for kernels that are compiled per shape: 2, 4, … 32, 40, … 64, 80, … 128, 160, …

    A matrix kernel is compiled for one shape of batch and kept, and a batch of a new shape finds no freed
    buffer of its size. Encoding 60,000 sentences grew from 1.2 to 1.4 GB when every width was allowed. On
    this grid it stays at 1.0 to 1.1 GB, for 3 % more padding.
    """
    round_up = _coarse_width if coarse else partial(_round_up, steps=8)
    table = np.array([round_up(length) for length in range(int(lengths.max(initial=1)) + 1)])
    widths = table[np.maximum(lengths, 1)]
    return widths if num_positions is None else np.minimum(widths, num_positions)


def fill_up(batch: np.ndarray, most_rows: int) -> np.ndarray:
    """Repeat the last row of a batch that is not full, since every number of rows is a new shape too."""
    num_rows = max(len(batch), min(_round_up(len(batch), steps=2), most_rows))
    return np.pad(batch, (0, num_rows - len(batch)), mode="edge")


def _coarse_width(length: int) -> int:
    step = 2 if length <= 32 else 8 if length <= 64 else 16 if length <= 128 else 32
    return -(-length // step) * step


def _round_up(number: int, steps: int) -> int:
    """Round up on a grid that has `steps` points between a power of two and the next."""
    step = max(1, (1 << number.bit_length() >> 1) // steps)
    return -(-number // step) * step


def first_non_finite_row(embeddings: np.ndarray) -> int | None:
    """Number of the first row that holds NaN or infinity; None if all rows are finite."""
    finite = np.isfinite(embeddings).all(axis=1)
    return None if finite.all() else int(finite.argmin())


def non_finite(model: str, where: str) -> ModelError:
    """The error for a model that gives NaN or infinity for one row."""
    return ModelError(
        f"{model} gives an embedding with NaN or infinity for {where}",
        hint="its weights may be damaged; in bfloat16, try --compute-dtype float32",
    )


def as_dtype(embeddings: np.ndarray, dtype: str, first_row: int) -> np.ndarray:
    """Convert finite float32 rows to another number format.

    Args:
        embeddings: (n, H).
        dtype: one of config.STORE_DTYPES.
        first_row: number of the first row, for the message.

    Raises:
        DataError: a row is too large for float16.
    """
    if dtype == "float32":
        return embeddings
    with np.errstate(over="ignore"):  # an overflow gives infinity, which the next line finds
        cast = embeddings.astype(dtype)
    broken = first_non_finite_row(cast)
    if broken is not None:
        largest = float(np.abs(embeddings[broken]).max())
        raise DataError(
            f"the embedding of row {first_row + broken} reaches {largest:.3g}, too large for {dtype}",
            hint="--dtype float32, or --normalize",
        )
    return cast


def excerpt(sentence: str, width: int = 60) -> str:
    """A sentence in quotes, cut if it is long."""
    return repr(sentence if len(sentence) <= width else sentence[: width - 1] + "…")


def windows(sentences: Iterable[str], max_rows: int, max_chars: int = WINDOW_CHARS) -> Iterator[list[str]]:
    """Cut a stream into lists of `max_rows` sentences; a list that reaches `max_chars` characters ends earlier."""
    window: list[str] = []
    num_chars = 0
    for sentence in sentences:
        window.append(sentence)
        num_chars += len(sentence)
        if len(window) == max_rows or num_chars >= max_chars:
            yield window
            window, num_chars = [], 0
    if window:
        yield window
