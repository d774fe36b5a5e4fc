"""Subsets of a model's layers: the rows that each of them gives, and which of them is worth most.

Subsets that begin with the same layers share the work of these. Shape letters: N sentences, H width of an embedding.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from math import comb
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from distilcse_cli import console
from distilcse_cli.data.tokens import TokenRows, tokenize
from distilcse_cli.errors import UsageError
from distilcse_cli.models.batching import excerpt, first_non_finite_row, non_finite, token_budget_batches
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.surgery import always_kept, cut_for_a_while, layers_of
from distilcse_cli.runtime import Runtime

MOST_SUBSETS = 70
"""Where there are no more, all are tried: always up to eight layers. Else the layers are added one by one."""

Subset = tuple[int, ...]
Worth = TypeVar("Worth", bound=tuple[float, ...])


def rank_subsets(
    encoder: SentenceEncoder,
    sentences: Sequence[str],
    worth: Callable[[np.ndarray], Worth],
    num_layers: int,
    runtime: Runtime,
    *,
    max_length: int | None = None,
) -> list[tuple[Subset, Worth]]:
    """Rank the subsets of an encoder's layers by what their rows are worth, the best one first.

    All subsets of `num_layers` layers are tried if there are at most `MOST_SUBSETS`. Else layers are added one by
    one, each time the best one, and the ranking is that of the last round.

    Args:
        encoder: whole; its layers are all there again at the end. It is moved to the runtime's device.
        sentences: N of them.
        worth: gets the (N, H) rows of a subset, neither normalized nor projected. What it returns is compared.
        num_layers: how many to keep.
        runtime: device and number format.
        max_length: most tokens of a sentence; None takes the encoder's own limit.

    Raises:
        UsageError: the encoder has fewer layers.
        ModelError: an architecture whose layers we cannot find, or that cannot be trained.
    """
    require_layers(encoder, num_layers)
    num_all = len(layers_of(encoder.backbone))
    limit = min(max_length or encoder.max_length, encoder.max_length)
    tokens = tokenize(sentences, encoder.tokenizer, limit, encoder.prompts.used)

    def rank(subsets: Sequence[Subset]) -> list[tuple[Subset, Worth]]:
        rows = embed_subsets(encoder, tokens, subsets, runtime)
        for subset in subsets:
            broken = first_non_finite_row(rows[subset])
            if broken is not None:
                layers = ",".join(map(str, subset))
                raise non_finite(f"{encoder.source} with layers {layers}", excerpt(sentences[broken]))
        ranked = [(subset, worth(rows[subset])) for subset in subsets]
        return sorted(ranked, key=lambda one: one[1], reverse=True)

    best = always_kept(encoder.backbone)
    if _can_try_all(num_all, num_layers):
        return rank([one for one in combinations(range(num_all), num_layers) if set(best) <= set(one)])
    while len(best) < num_layers:
        ranking = rank(_with_another(best, num_all))
        best = ranking[0][0]
    return ranking


def require_layers(encoder: SentenceEncoder, num_layers: int) -> None:
    """Check that a student of that many layers can be cut out of an encoder; raises as `rank_subsets` does."""
    num_all = len(layers_of(encoder.backbone))
    if num_layers > num_all:
        hint = "leave --layers out to keep them all"
        raise UsageError(f"--layers {num_layers}: {encoder.source} has {num_all} layers", hint=hint)
    encoder.require_trainable()


def num_passes(num_all: int, num_layers: int) -> float:
    """About how many passes of the whole model over the sentences `rank_subsets` takes."""
    if _can_try_all(num_all, num_layers):
        rounds = [list(combinations(range(num_all), num_layers))]
    else:
        rounds = [_with_another(tuple(range(num_kept)), num_all) for num_kept in range(num_layers)]
    return sum(len(subset) - shared for subsets in rounds for subset, shared in _with_shared(subsets)) / num_all


def _can_try_all(num_all: int, num_layers: int) -> bool:
    return comb(num_all, num_layers) <= MOST_SUBSETS


def _with_another(layers: Subset, num_all: int) -> list[Subset]:
    """The subsets that have one more of `num_all` layers."""
    return sorted(tuple(sorted((*layers, layer))) for layer in range(num_all) if layer not in layers)


def embed_subsets(
    encoder: SentenceEncoder, tokens: TokenRows, subsets: Iterable[Subset], runtime: Runtime
) -> dict[Subset, np.ndarray]:
    """(N, H) float32 rows of N token rows for each subset of the layers, neither normalized nor projected."""
    subsets = sorted(subsets)
    device = runtime.torch_device()
    rows = {subset: np.empty((len(tokens), encoder.embedding_dim), np.float32) for subset in subsets}
    encoder.to(device).eval()
    with (
        torch.inference_mode(),
        runtime.autocast(),
        console.Progress("layers", len(tokens), "sentences") as progress,
        _shared_layers(encoder.backbone) as shared,
    ):
        # transformers records the states of those layers alone that are there at the first call
        encoder(*(one.to(device) for one in tokens.pad(np.arange(1), encoder.pad_id)))
        for batch in token_budget_batches(tokens.lengths, runtime.batch_tokens):
            ids, mask = (one.to(device) for one in tokens.pad(batch, encoder.pad_id))
            for subset, vectors in shared.embedded(encoder, ids, mask, subsets):
                rows[subset][batch] = vectors.float().cpu().numpy()
            progress.update(len(batch))
    return rows


class _SharedLayers:
    """Calls of the layers of one subset after the other on one batch, each layer after the same ones only once."""

    def __init__(self) -> None:
        self._outputs: list[Any] = []
        """Of the layers of the subset that runs, as far as they are known."""
        self._position = 0

    def call(self, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The output of the next layer: that of the subset before, or computed."""
        if self._position == len(self._outputs):
            self._outputs.append(forward(*args, **kwargs))
        self._position += 1
        return self._outputs[self._position - 1]

    def embedded(
        self, encoder: SentenceEncoder, ids: Tensor, mask: Tensor, subsets: Sequence[Subset]
    ) -> Iterator[tuple[Subset, Tensor]]:
        """Each subset, and the vectors of a batch."""
        self._outputs = []
        for subset, num_shared in _with_shared(subsets):
            del self._outputs[num_shared:]
            self._position = 0
            with cut_for_a_while(encoder.backbone, subset):
                yield subset, encoder(ids, mask)


@contextmanager
def _shared_layers(backbone: Any) -> Iterator[_SharedLayers]:
    """Let all layers of a backbone be called through `_SharedLayers.call` while the block runs."""
    shared, layers = _SharedLayers(), list(layers_of(backbone))

    def through_shared(forward: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: shared.call(forward, *args, **kwargs)

    for layer in layers:
        layer.forward = through_shared(layer.forward)
    try:
        yield shared
    finally:
        for layer in layers:
            del layer.forward  # of the object; that of its class is there again


def _with_shared(subsets: Iterable[Subset]) -> Iterator[tuple[Subset, int]]:
    """Each subset, and how many of its first layers are those of the subset before it."""
    before: Subset = ()
    for subset in subsets:
        num_shared = 0
        while num_shared < min(len(before), len(subset)) and before[num_shared] == subset[num_shared]:
            num_shared += 1
        yield subset, num_shared
        before = subset
