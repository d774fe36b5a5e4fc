"""Every distinct sentence is encoded once; tasks take their rows from there."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from senteval.errors import EncodingError

Encode = Callable[[list[str]], Any]


class Embeddings:
    """Embeddings of distinct sentences, to be looked up by sentence.

    Args:
        sentences: N distinct sentences.
        vectors: (N, D) their embeddings, float32.
    """

    def __init__(self, sentences: Sequence[str], vectors: np.ndarray) -> None:
        self.vectors = vectors
        self._row = {sentence: row for row, sentence in enumerate(sentences)}

    def __len__(self) -> int:
        return len(self.vectors)

    def rows(self, sentences: Sequence[str]) -> np.ndarray:
        """(N,) row numbers of N sentences in `vectors`."""
        return np.fromiter((self._row[sentence] for sentence in sentences), dtype=np.int64, count=len(sentences))

    def of(self, sentences: Sequence[str]) -> np.ndarray:
        """(N, D) embeddings of N sentences, a copy."""
        return self.vectors[self.rows(sentences)]


def encode_distinct(encode: Encode, sentences: Iterable[str]) -> Embeddings:
    """Encode each distinct sentence once, as it is: nothing is normalized.

    Args:
        encode: takes N sentences, returns an (N, D) array or tensor; sorts and batches by itself.
        sentences: with repetitions; the encoder sees them in the order of first appearance.

    Raises:
        EncodingError: an embedding holds NaN or infinity; the message names the sentence.
        ValueError: the encoder returned another shape.
    """
    distinct = list(dict.fromkeys(sentences))
    if not distinct:
        return Embeddings([], np.empty((0, 0), dtype=np.float32))
    vectors = as_float32(encode(distinct))
    if vectors.ndim != 2 or len(vectors) != len(distinct) or vectors.shape[1] == 0:
        raise ValueError(
            f"encode returned shape {vectors.shape} for {len(distinct)} sentences, not ({len(distinct)}, D)"
        )
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise EncodingError(
            f"the embedding of {_shorten(distinct[bad[0]])} is not finite"
            + (f", nor are those of {len(bad) - 1} more sentences" if len(bad) > 1 else ""),
            hint="encode in float32, and look at the model's weights",
        )
    return Embeddings(distinct, vectors)


def as_float32(vectors: Any) -> np.ndarray:
    """An array, a torch tensor of any device and number format, or nested lists, as a float32 array."""
    if hasattr(vectors, "detach"):
        vectors = vectors.detach().float().cpu().numpy()
    return np.ascontiguousarray(vectors, dtype=np.float32)


def _shorten(sentence: str, width: int = 80) -> str:
    return repr(sentence if len(sentence) <= width else sentence[: width - 1] + "…")
