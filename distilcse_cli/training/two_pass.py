"""Gradient caching: a forward pass in two passes, so that a batch may be larger than the memory for it.

Shape letters: S sentences of a batch, D width of an embedding.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from distilcse_cli.models.batching import token_budget_batches
from distilcse_cli.runtime import Runtime

PART_TOKENS = 8192
"""Most tokens of one forward pass: sentences of about one length together, with hardly any padding."""


def parts_of_batch(lengths: np.ndarray, budget: int | None) -> tuple[list[np.ndarray], bool]:
    """Cut a batch into parts of sentences of about one length.

    Args:
        lengths: (S,) tokens of each sentence.
        budget: most tokens held at once, padding included; None for no limit.

    Returns:
        Numbers of the sentences of each part, and whether all parts fit into the budget together.
    """
    parts = token_budget_batches(lengths, min(PART_TOKENS, budget or PART_TOKENS))
    num_padded = sum(int(lengths[part].max()) * len(part) for part in parts)
    return parts, budget is None or num_padded <= budget


class TwoPassForward:
    """Embeddings of a batch, computed a part at a time, and their backward pass, a part at a time.

    The gradient does not depend on the parts: the loss over all embeddings gives the gradient to each
    embedding, and then each part is run again and passes its share on to the weights (gradient caching,
    Gao et al., RepL4NLP 2021). The price is a second forward pass. With `keep_graphs` there is none, and
    memory is that of the whole batch.

    The second pass draws the same random numbers as the first, so dropout is the same in both.

    Args:
        forward: numbers of a part's sentences to their embeddings, one row each.
        parts: disjoint numbers from 0 to S - 1, together all of them.
        width: D.
        runtime: device and precision.
        keep_graphs: keep the graphs of all parts instead of computing them again.
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
        """(S, D) fp32, outside any graph."""
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
            gradient: (S, D) gradient of the loss to `embeddings`.
        """
        device = self._runtime.torch_device()
        after = _random_state(device)
        for index, part in enumerate(self._parts):
            embedded = self._graphs[index] if self._graphs else self._again(part, self._random[index])
            embedded.backward(gradient[torch.from_numpy(part).to(device)].to(embedded.dtype))
        _set_random_state(device, after)

    def _again(self, part: np.ndarray, random: list[Tensor]) -> Tensor:
        _set_random_state(self._runtime.torch_device(), random)
        # a new context: autocast's cached copies of the weights from the first pass have no graph
        with self._runtime.autocast():
            return self._forward(part)


def _random_state(device: torch.device) -> list[Tensor]:
    state = [torch.get_rng_state()]
    return [*state, torch.cuda.get_rng_state(device)] if device.type == "cuda" else state


def _set_random_state(device: torch.device, state: list[Tensor]) -> None:
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)
