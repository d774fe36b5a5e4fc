"""Log-sum-exp of scores over a large number of keys, a chunk at a time, with exact gradients; and false negatives.

The gradient of log sum exp(s q.k) to q is s times the softmax-weighted mean of the keys. The
forward pass computes that mean together with the sum, so the backward pass needs neither the scores
nor their softmax: memory is one chunk of scores, whatever the number of keys.

Shape letters: B queries, D their width, K keys of all blocks together, C keys of a chunk.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

CHUNK_SCORES = {"cpu": 1 << 19, "cuda": 1 << 25}
"""Scores of a chunk. On a CPU they should stay in the cache, on a GPU they should keep it busy."""


@dataclass
class FalseNegatives:
    """Keys that mean the same as the positive. They do not count, where they would be punished as negatives."""

    own: Tensor
    """(B,) int64: the key that is the query's positive. It always counts."""
    queries: Tensor
    """(P,) int64: together with `keys` the P pairs whose texts are the same."""
    keys: Tensor
    """(P,) int64"""
    positives: Tensor | None = None
    """(B, D) unit teacher rows of the positives, for `max_cosine`."""
    max_cosine: float | None = None
    """Keys with a larger cosine to the positive are false negatives, too; None looks at texts only."""
    num_hidden: int | Tensor = 0
    """Pairs left out by the last pass over the keys."""

    @classmethod
    def among(
        cls, teacher: Tensor, own: np.ndarray, sentences: np.ndarray | None, max_cosine: float | None
    ) -> "FalseNegatives | None":
        """Find those of a micro-batch; None if there are none to look for.

        Args:
            teacher: (G, D) teacher rows, the first keys.
            own: (B,) which of these rows belong to the queries.
            sentences: (K,) numbers of the sentences of all keys; None does not look for copies of a text.
            max_cosine: as the field.
        """
        nothing = torch.empty(0, dtype=torch.int64)
        pairs = (nothing, nothing) if sentences is None else pairs_of_same_text(sentences[own], sentences, own)
        if not len(pairs[0]) and max_cosine is None:
            return None
        device = teacher.device
        row = torch.from_numpy(own).to(device)
        positives = functional.normalize(teacher[row], dim=1)
        return cls(row, pairs[0].to(device), pairs[1].to(device), positives=positives, max_cosine=max_cosine)

    def hide(self, scores: Tensor, keys: Tensor, first: int) -> None:
        """Set the scores (B, C) of false negatives among `keys` to minus infinity.

        Args:
            scores: those of the chunk, changed in place.
            keys: (C, D) keys of the chunk.
            first: number of its first key.
        """
        here = (self.keys >= first) & (self.keys < first + len(keys))
        pairs = self.queries[here], self.keys[here] - first
        if self.positives is None or self.max_cosine is None:
            scores[pairs] = -torch.inf
            self.num_hidden = self.num_hidden + len(pairs[0])
            return
        near = self.positives.to(keys.dtype) @ keys.T > self.max_cosine
        near[pairs] = True
        mine = (self.own >= first) & (self.own < first + len(keys))
        near[mine.nonzero().squeeze(1), self.own[mine] - first] = False
        scores.masked_fill_(near, -torch.inf)
        self.num_hidden = self.num_hidden + near.sum()


def pairs_of_same_text(query_texts: np.ndarray, key_texts: np.ndarray, own: np.ndarray) -> tuple[Tensor, Tensor]:
    """Find the keys that are copies of a query's text.

    Args:
        query_texts: (B,) numbers of texts.
        key_texts: (K,) numbers of texts.
        own: (B,) number of the key that is the query's own positive; it makes no pair.

    Returns:
        (P,) numbers of queries and (P,) numbers of keys.
    """
    candidates = np.flatnonzero(np.isin(key_texts, query_texts))
    queries, found = np.nonzero(query_texts[:, None] == key_texts[candidates])
    keys = candidates[found]
    other = keys != own[queries]
    return torch.from_numpy(queries[other]), torch.from_numpy(keys[other])


def same_text_in_triples(rows: np.ndarray, own: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Find the keys of stage 2 that are copies of an anchor's text or of its positive's.

    Args:
        rows: (G, C) sentences of triples. Keys are numbered through all positives, then all negatives.
        own: (M,) which of these triples the anchors belong to.
        device: of the results.

    Returns:
        (P,) numbers of anchors, counted within `own`, and (P,) numbers of keys.
    """
    keys = rows[:, 1:].T.reshape(-1)
    pairs = [pairs_of_same_text(rows[own, role], keys, own) for role in (0, 1)]
    anchors, copies = (torch.cat(both).to(device) for both in zip(*pairs, strict=True))
    return anchors, copies


def log_sum_exp(
    queries: Tensor, blocks: Sequence[Tensor], *, scale: float | Tensor, false_negatives: FalseNegatives | None = None
) -> tuple[Tensor, Tensor]:
    """Log-sum-exp of `scale` times the queries' products with all keys.

    Args:
        queries: (B, D) fp32 rows of length 1. They get a gradient.
        blocks: matrices of keys with D columns, together K keys. Products are computed in the dtype of
            the block, sums in fp32. Keys get no gradient.
        scale: gets a gradient if it is a tensor that requires one.
        false_negatives: keys to leave out.

    Returns:
        (B,) the log-sum-exp, and (B, D) the softmax-weighted means of the keys, which carry no gradient.
    """
    scale = torch.as_tensor(scale, dtype=torch.float32, device=queries.device)
    if false_negatives is not None:
        false_negatives.num_hidden = 0
    return _LogSumExp.apply(queries, scale, blocks, false_negatives)


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, scale: Tensor, blocks: Sequence[Tensor], false_negatives: FalseNegatives | None
    ) -> tuple[Tensor, Tensor]:
        log_sum, mean = _pass_over(queries * scale, blocks, false_negatives)
        ctx.save_for_backward(queries, scale, mean)
        ctx.mark_non_differentiable(mean)
        return log_sum, mean

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        queries, scale, mean = ctx.saved_tensors
        weighted = mean * grads[0].unsqueeze(1)
        return weighted * scale, (weighted * queries).sum(), None, None


def _pass_over(
    scaled: Tensor, blocks: Sequence[Tensor], false_negatives: FalseNegatives | None
) -> tuple[Tensor, Tensor]:
    """One pass over all keys. Sums are kept relative to the largest score so far, so none overflows."""
    largest = scaled.new_full((len(scaled), 1), -torch.inf)
    total, mean = torch.zeros_like(largest), torch.zeros_like(scaled)
    cast = {block.dtype: scaled.to(block.dtype) for block in blocks}
    for first, keys in _chunks(blocks, CHUNK_SCORES[scaled.device.type] // max(1, len(scaled))):
        scores = (cast[keys.dtype] @ keys.T).float()
        if false_negatives is not None:
            false_negatives.hide(scores, keys, first)
        before = largest
        largest = torch.maximum(before, scores.amax(dim=1, keepdim=True))
        weights = scores.sub_(largest).exp_()
        shrink = (before - largest).exp_()
        total.mul_(shrink).add_(weights.sum(dim=1, keepdim=True))
        if keys.dtype == torch.float32:
            mean.mul_(shrink).addmm_(weights, keys)
        else:
            mean.mul_(shrink).add_(weights.to(keys.dtype) @ keys)
    return (largest + total.log()).squeeze(1), mean.div_(total)


def _chunks(blocks: Sequence[Tensor], size: int) -> Iterator[tuple[int, Tensor]]:
    """Cut the blocks into chunks. With each comes the number of its first key among all keys."""
    first = 0
    for block in blocks:
        for start in range(0, len(block), max(1, size)):
            yield first + start, block[start : start + max(1, size)]
        first += len(block)
