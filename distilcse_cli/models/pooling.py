"""From token vectors to one vector a sentence: the six poolings.

Shapes: B sentences, T tokens, H hidden. `hidden_states` are what transformers returns: the
embedding layer's output first, then one tensor a layer.
"""

from collections.abc import Sequence

from torch import Tensor

from distilcse_cli.config import POOLINGS

_MIXED_WITH_LAST = {"avg_top2": -2, "avg_first_last": 0, "avg_layer1_last": 1}
"""Index into hidden_states of the layer that is averaged with the last one."""


def needs_hidden_states(pooling: str) -> bool:
    """Whether the pooling looks at more than the last layer, so that all layers have to be kept."""
    return pooling in _MIXED_WITH_LAST


def layer_weights(pooling: str, num_layers: int) -> list[float]:
    """How much each of the `num_layers + 1` hidden states counts in a pooling that mixes two of them."""
    weights = [0.0] * (num_layers + 1)
    weights[_MIXED_WITH_LAST[pooling]] += 1.0
    weights[-1] += 1.0
    return weights


def mixing_pooling(weights: list[float]) -> str | None:
    """The pooling that mixes hidden states with these weights, up to scale; None if there is none."""
    num_layers, scale = len(weights) - 1, sum(weights) / 2
    if num_layers < 1 or scale <= 0:
        return None
    for pooling in _MIXED_WITH_LAST:
        if weights == [scale * weight for weight in layer_weights(pooling, num_layers)]:
            return pooling
    return None


def pool(pooling: str, last: Tensor, attention_mask: Tensor, hidden_states: Sequence[Tensor] | None = None) -> Tensor:
    """Pool token vectors, as SimCSE's evaluation does.

    `cls` and `cls_before_pooler` take the first token (the dense layer of `cls` comes after
    pooling), the others average over the tokens that are not padding: the last layer (`avg`), or
    the mean of the last layer and the one before it (`avg_top2`), the embedding layer's output
    (`avg_first_last`, as the authors of DistilCSE have it) or the first layer's
    (`avg_layer1_last`, SimCSE's later `avg_first_last`).

    Args:
        pooling: one of `config.POOLINGS`.
        last: (B, T, H) the model's last hidden state.
        attention_mask: (B, T) 1 at tokens, 0 at padding, which is on the right.
        hidden_states: L + 1 times (B, T, H); only if `needs_hidden_states(pooling)`.

    Returns:
        (B, H), at least fp32.

    Raises:
        ValueError: no such pooling, or its hidden states are not given.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"no pooling {pooling!r}, only {', '.join(POOLINGS)}")
    if pooling.startswith("cls"):
        return _at_least_fp32(last[:, 0])
    tokens = _at_least_fp32(last)
    if needs_hidden_states(pooling):
        if hidden_states is None:
            raise ValueError(f"pooling {pooling} needs the hidden states of all layers")
        tokens = (tokens + _at_least_fp32(hidden_states[_MIXED_WITH_LAST[pooling]])) / 2
    mask = attention_mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def _at_least_fp32(tensor: Tensor) -> Tensor:
    # a sum over tokens in bf16 would keep two or three digits of it
    return tensor.float() if tensor.element_size() < 4 else tensor
