"""From token vectors to one vector a sentence: the poolings as a table, and the dense layers after them.

Shapes: B sentences, T tokens, H hidden. `hidden_states` are what transformers returns: the
embedding layer's output first, then one tensor a layer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

DEFAULT = "cls"
"""Pooling of a model whose folder names none."""

ACTIVATIONS: dict[str, type[nn.Module]] = {"Tanh": nn.Tanh, "Identity": nn.Identity, "ReLU": nn.ReLU, "GELU": nn.GELU}


def _first_token(tokens: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG001
    return tokens[:, 0]


def _last_token(tokens: Tensor, mask: Tensor) -> Tensor:
    last = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(dim=1)
    chosen = tokens[torch.arange(tokens.shape[0], device=tokens.device), (last - 1).clamp(min=0)]
    return chosen * (last > 0).unsqueeze(-1)


def _mean(tokens: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def _weighted_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    # a token's weight is its number in the sentence, whichever side is padded
    return _mean(tokens, mask.cumsum(dim=1) * mask)


@dataclass(frozen=True)
class Reading:
    """Which tokens of a sentence count, and how they become one vector."""

    mode: str
    """sentence-transformers' name of it."""
    flag: str
    """The key for it in folders that every version of sentence-transformers reads."""
    reduce: Callable[[Tensor, Tensor], Tensor]
    """(B, T, H) token vectors and (B, T) mask to (B, H)."""


FIRST_TOKEN = Reading("cls", "pooling_mode_cls_token", _first_token)
LAST_TOKEN = Reading("lasttoken", "pooling_mode_lasttoken", _last_token)
MEAN = Reading("mean", "pooling_mode_mean_tokens", _mean)
WEIGHTED_MEAN = Reading("weightedmean", "pooling_mode_weightedmean_tokens", _weighted_mean)


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """One pooling: a row of the table."""

    name: str
    """As in `config.POOLINGS`, on the command line and in reports."""
    reads: Reading
    mixes: int | None = None
    """Index into `hidden_states` of the layer that is averaged with the last one; None reads the last one alone."""
    dense: bool = False
    """Whether a dense layer with tanh follows, as in BERT's own pooler."""


POOLINGS = {
    pooling.name: pooling
    for pooling in (
        Pooling(name="cls", reads=FIRST_TOKEN, dense=True),
        Pooling(name="cls_before_pooler", reads=FIRST_TOKEN),
        Pooling(name="avg", reads=MEAN),
        Pooling(name="avg_top2", reads=MEAN, mixes=-2),
        # the embedding layer's output, as the authors of DistilCSE have it
        Pooling(name="avg_first_last", reads=MEAN, mixes=0),
        # the first layer's output: SimCSE's later `avg_first_last`
        Pooling(name="avg_layer1_last", reads=MEAN, mixes=1),
        Pooling(name="weighted_mean", reads=WEIGHTED_MEAN),
        Pooling(name="last_token", reads=LAST_TOKEN),
    )
}


def find_pooling(mode: str, *, mixes: int | None = None, dense: bool = False) -> str | None:
    """Name of the pooling with this mode of sentence-transformers, mixed layer and dense layer; None if there is none.

    A pooling with a dense layer of a kind that the table does not have is the one without, and the layer an extra.
    """
    for has_dense in (dense, False):
        for pooling in POOLINGS.values():
            if (pooling.reads.mode, pooling.mixes, pooling.dense) == (mode, mixes, has_dense):
                return pooling.name
    return None


def needs_hidden_states(pooling: str) -> bool:
    """Whether the pooling reads more than the last layer, so that all layers have to be kept."""
    return POOLINGS[pooling].mixes is not None


def layer_weights(mixes: int, num_layers: int) -> list[float]:
    """How much each of the `num_layers + 1` hidden states counts when layer `mixes` is averaged with the last one."""
    weights = [0.0] * (num_layers + 1)
    weights[mixes] += 1.0
    weights[-1] += 1.0
    return weights


def mixed_layer(weights: list[float]) -> int | None:
    """Which layer these weights average with the last one, whatever their scale; None if no pooling mixes that one."""
    num_layers, scale = len(weights) - 1, sum(weights) / 2
    if num_layers < 1 or scale <= 0:
        return None
    for pooling in POOLINGS.values():
        mixes = pooling.mixes
        if mixes is not None and weights == [scale * weight for weight in layer_weights(mixes, num_layers)]:
            return mixes
    return None


def pool(pooling: str, last: Tensor, attention_mask: Tensor, hidden_states: Sequence[Tensor] | None = None) -> Tensor:
    """Pool token vectors, as SimCSE's evaluation does; `weighted_mean` and `last_token` as sentence-transformers does.

    Args:
        pooling: a key of `POOLINGS`. Its dense layer comes later.
        last: (B, T, H) the model's last hidden state.
        attention_mask: (B, T) 1 at tokens, 0 at padding, which is on the right.
        hidden_states: L + 1 times (B, T, H); only if `needs_hidden_states(pooling)`.

    Returns:
        (B, H), at least fp32.

    Raises:
        ValueError: there is no such pooling, or its hidden states are not given.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"no pooling {pooling!r}, only {', '.join(POOLINGS)}")
    reads, mixes = POOLINGS[pooling].reads, POOLINGS[pooling].mixes
    if reads is FIRST_TOKEN:
        last = last[:, :1]  # before its cast: of all tokens it would cost more than the pooling
    tokens = _at_least_fp32(last)
    if mixes is not None:
        if hidden_states is None:
            raise ValueError(f"pooling {pooling} needs the hidden states of all layers")
        tokens = (tokens + _at_least_fp32(hidden_states[mixes])) / 2
    return reads.reduce(tokens, attention_mask)


def _at_least_fp32(tensor: Tensor) -> Tensor:
    # a sum over tokens in bf16 would keep two or three digits of it
    return tensor.float() if tensor.element_size() < 4 else tensor


class Dense(nn.Module):
    """A linear layer and an activation on pooled vectors: BERT's pooler, or a kept projection.

    Args:
        linear: (H_in → H_out).
        activation: a key of `ACTIVATIONS`.
    """

    def __init__(self, linear: nn.Linear, activation: str = "Tanh") -> None:
        super().__init__()
        self.linear = linear
        self.activation_name = activation
        self.activation = ACTIVATIONS[activation]()

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, H_in) → (B, H_out)."""
        return self.activation(self.linear(pooled))
