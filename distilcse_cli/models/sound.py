"""Rows that may be handed out: finite, and in the number format asked for."""

import numpy as np

from distilcse_cli.errors import DataError, ModelError


def first_non_finite_row(embeddings: np.ndarray) -> int | None:
    """Number of the first row that holds a NaN or an infinity, None if all rows are sound."""
    sound = np.isfinite(embeddings).all(axis=1)
    return None if sound.all() else int(sound.argmin())


def as_dtype(embeddings: np.ndarray, dtype: str, first_row: int) -> np.ndarray:
    """Finite float32 rows in another number format.

    Args:
        embeddings: (n, H).
        dtype: one of config.STORE_DTYPES.
        first_row: number of the first row, for the message.

    Raises:
        DataError: a row is too large for float16.
    """
    if dtype == "float32":
        return embeddings
    with np.errstate(over="ignore"):  # an overflow is an infinity, which is looked for right below
        cast = embeddings.astype(dtype)
    broken = first_non_finite_row(cast)
    if broken is not None:
        largest = float(np.abs(embeddings[broken]).max())
        raise DataError(
            f"the embedding of row {first_row + broken} reaches {largest:.3g}, too large for {dtype}",
            hint="--dtype float32, or --normalize",
        )
    return cast


def non_finite(model: str, where: str) -> ModelError:
    """The error of a model that gives a NaN or an infinity for one row."""
    return ModelError(
        f"{model} gives an embedding with NaN or infinity for {where}",
        hint="its weights may be damaged; in bfloat16, try --compute-dtype float32",
    )


def excerpt(sentence: str, width: int = 60) -> str:
    """A sentence in quotes, its end left out if it is long."""
    return repr(sentence if len(sentence) <= width else sentence[: width - 1] + "…")
