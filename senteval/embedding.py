"""Encode every distinct sentence once, and look its embedding up for each task."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from senteval.errors import EncodingError
from senteval.loading import Split

Encode = Callable[[list[str]], Any]


@dataclass(frozen=True)
class Vectors:
    """Embeddings of a split's N rows."""

    first: np.ndarray
    """(N, D) float32 or wider, of the sentences."""
    second: np.ndarray | None
    """(N, D) float32 or wider, of the partners; None if the rows are single sentences."""


Embed = Callable[[Split], Vectors]
"""Returns the embeddings of a split."""


class Embeddings:
    """Embeddings of distinct sentences, looked up by sentence.

    Args:
        sentences: N distinct sentences.
        vectors: (N, D) their embeddings, float32 or wider.
    """

    def __init__(self, sentences: Sequence[str], vectors: np.ndarray) -> None:
        self.vectors = vectors
        self._row = {sentence: row for row, sentence in enumerate(sentences)}

    def __len__(self) -> int:
        return len(self.vectors)

    def of(self, sentences: Sequence[str]) -> np.ndarray:
        """Return a copy of the (N, D) embeddings of N sentences."""
        return self.vectors[[self._row[sentence] for sentence in sentences]]

    def of_split(self, split: Split) -> Vectors:
        """Embeddings of a split's rows."""
        return Vectors(self.of(split.sentences), None if split.partners is None else self.of(split.partners))


def encode_distinct(encode: Encode, sentences: Iterable[str]) -> Embeddings:
    """Encode each distinct sentence once. Nothing is normalized.

    Args:
        encode: takes N sentences and returns an (N, D) array or tensor; it does its own sorting and batching.
        sentences: repetitions are allowed; the encoder gets them in the order of their first appearance.

    Raises:
        EncodingError: an embedding holds NaN or infinity; the message names the sentence.
        ValueError: the encoder returned a wrong shape.
    """
    distinct = list(dict.fromkeys(sentences))
    if not distinct:
        return Embeddings([], np.empty((0, 0), dtype=np.float32))
    return Embeddings(distinct, checked(encode(distinct), distinct))


def checked(vectors: Any, sentences: Sequence[str]) -> np.ndarray:
    """Convert an encoder's result for N sentences to an (N, D) array of floats, and check it.

    As in SentEval, float32 and float64 stay what they are: the last digits of a cosine decide how pairs with nearly
    equal cosines rank. Narrower formats become float32, since their products would overflow.

    Args:
        vectors: an array, a torch tensor of any device and number format, or nested lists.
        sentences: N sentences.

    Raises:
        EncodingError: an embedding holds NaN or infinity; the message names the sentence.
        ValueError: the shape is wrong.
    """
    if hasattr(vectors, "detach"):
        vectors = vectors.detach()
        vectors = (vectors.float() if vectors.dtype.itemsize < 4 else vectors).cpu().numpy()
    array = np.asarray(vectors)
    is_real = array.dtype.kind in "biuf"
    array = np.ascontiguousarray(array, dtype=np.result_type(array.dtype, np.float32) if is_real else np.float32)
    if array.ndim != 2 or len(array) != len(sentences) or array.shape[1] == 0:
        raise ValueError(f"{len(sentences)} sentences were encoded to shape {array.shape}, not ({len(sentences)}, D)")
    broken = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(broken):
        raise EncodingError(
            f"the embedding of {_shorten(sentences[broken[0]])} is not finite"
            + (f", nor are those of {len(broken) - 1} more sentences" if len(broken) > 1 else ""),
            hint="encode in float32, or check the model's weights",
        )
    return array


def _shorten(sentence: str, width: int = 80) -> str:
    return repr(sentence if len(sentence) <= width else sentence[: width - 1] + "…")
