"""Stage 2's loss, and the two-pass forward that lets a batch be larger than the memory for it.

Shape letters: A anchors, P positives, N hard negatives, S sentences of a batch (all three
together), D width of an embedding.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from distilcse_cli.runtime import Runtime


def contrastive_loss(
    anchors: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    scale: float | Tensor,
    own: Tensor | None = None,
    hidden: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Supervised InfoNCE: pick the own positive out of all positives and all hard negatives.

    One direction only, from anchors to keys (arXiv:2104.08821, equation 5, and stage 2 of
    arXiv:2112.05638).

    Args:
        anchors: (A, D) embeddings of any length.
        positives: (P, D); without `own`, row i is that of anchor i.
        negatives: (N, D) hard negatives; N may be 0.
        scale: cosines are multiplied by it, i.e. 1 / temperature.
        own: (A,) int64 row of `positives` that belongs to each anchor, where the anchors are a part
            of the batch.
        hidden: numbers of anchors and of keys, pair by pair, that do not count. Keys are numbered
            through `positives`, then `negatives`.

    Returns:
        Scalar, the mean over the anchors, in nats.

    Raises:
        ValueError: the widths differ, or not every anchor has a positive.
    """
    num_own = len(positives) if own is None else len(own)
    if not anchors.shape[1] == positives.shape[1] == negatives.shape[1] or len(anchors) != num_own:
        shapes = [tuple(rows.shape) for rows in (anchors, positives, negatives)]
        raise ValueError(f"anchors {shapes[0]}, positives {shapes[1]}, negatives {shapes[2]}, {num_own} own")
    if own is None:
        own = torch.arange(len(anchors), device=anchors.device)
    keys = functional.normalize(torch.cat([positives.float(), negatives.float()]), dim=1)
    scores = functional.normalize(anchors.float(), dim=1) @ keys.T * scale
    if hidden is not None:
        scores = scores.index_put(hidden, scores.new_tensor(-torch.inf))
    return functional.cross_entropy(scores, own)


class TwoPassForward:
    """Embeddings of a batch, computed a part at a time, and their backward pass, a part at a time.

    Which parts there are makes no difference to the gradient: a loss over all embeddings says what
    each of them should have been, and then each part answers for its own (gradient caching, Gao et
    al., RepL4NLP 2021). What it costs is a second forward pass; with `keep_graphs` there is none,
    and the memory is that of the whole batch.

    The second pass draws the random numbers of the first, so dropout is the same in both.

    Args:
        forward: from the numbers of a part's sentences to their embeddings, a row each.
        parts: disjoint numbers from 0 to S - 1, together all of them.
        width: D.
        runtime: device and precision.
        keep_graphs: remember all parts instead of computing them again.
    """

    def __init__(
        self,
        forward: Callable[[np.ndarray], Tensor],
        parts: Sequence[np.ndarray],
        *,
        width: int,
        runtime: Runtime,
        keep_graphs: bool,
    ) -> None:
        self._forward = forward
        self._parts = parts
        self._runtime = runtime
        self._graphs: list[Tensor] = []
        self._random: list[list[Tensor]] = []
        device = runtime.torch_device()
        self.embeddings = torch.zeros(sum(map(len, parts)), width, device=device)
        """(S, D) fp32, of no graph."""
        with torch.set_grad_enabled(keep_graphs), runtime.autocast():
            for part in parts:
                self._random.append(_random_state(device))
                embedded = forward(part)
                if keep_graphs:
                    self._graphs.append(embedded)
                self.embeddings[torch.from_numpy(part).to(device)] = embedded.detach().float()

    def backward(self, gradient: Tensor) -> None:
        """Add to the weights' `.grad`.

        Args:
            gradient: (S, D), the loss's gradient to `embeddings`.
        """
        device = self._runtime.torch_device()
        after = _random_state(device)
        for index, part in enumerate(self._parts):
            embedded = self._graphs[index] if self._graphs else self._again(part, self._random[index])
            embedded.backward(gradient[torch.from_numpy(part).to(device)].to(embedded.dtype))
        _set_random_state(device, after)

    def _again(self, part: np.ndarray, random: list[Tensor]) -> Tensor:
        _set_random_state(self._runtime.torch_device(), random)
        # a context of its own: autocast's copies of the weights from the first pass have no graph
        with self._runtime.autocast():
            return self._forward(part)


def _random_state(device: torch.device) -> list[Tensor]:
    state = [torch.get_rng_state()]
    return [*state, torch.cuda.get_rng_state(device)] if device.type == "cuda" else state


def _set_random_state(device: torch.device, state: list[Tensor]) -> None:
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)
