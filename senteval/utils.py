"""What scripts import from SentEval's own `senteval.utils`."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from senteval.params import Params as dotdict

if TYPE_CHECKING:
    import torch

__all__ = ["cosine", "create_dictionary", "dotdict", "get_optimizer"]

FIRST_WORDS = ("<s>", "</s>", "<p>")


def cosine(u: np.ndarray, v: np.ndarray) -> Any:
    """The cosine of two embeddings, in their own number format; NaN if one is all zeros."""
    return np.dot(u, v) / (np.linalg.norm(u) * np.linalg.norm(v))


def create_dictionary(sentences: Iterable[Sequence[str]]) -> tuple[list[str], dict[str, int]]:
    """Return the words of token lists, the most frequent first, and the number of each word.

    `<s>`, `</s>` and `<p>` come before them all.
    """
    counts = Counter(word for sentence in sentences for word in sentence)
    words = [*FIRST_WORDS, *(word for word, _ in counts.most_common() if word not in FIRST_WORDS)]
    return words, {word: number for number, word in enumerate(words)}


def get_optimizer(s: str) -> "tuple[Callable[..., torch.optim.Optimizer], dict[str, float]]":
    """Return torch's class and the settings that a string such as `sgd,lr=0.1` names.

    Raises:
        ValueError: there is no such optimizer or setting.
    """
    from senteval.optimizers import parse_optimizer

    return parse_optimizer(s)
