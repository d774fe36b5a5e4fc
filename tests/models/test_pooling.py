"""The six poolings on numbers small enough to follow by hand."""

import pytest
import torch

from distilcse_cli.models.pooling import POOLINGS, layer_weights, mixed_layer, needs_hidden_states, pool

# one sentence of two tokens and one of three, one number a token; 100 stands at the padding
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])
EMBEDDING = torch.tensor([[0.0, 2.0, 100.0], [1.0, 1.0, 1.0]]).unsqueeze(-1)
LAYER_1 = torch.tensor([[4.0, 6.0, 100.0], [3.0, 4.0, 5.0]]).unsqueeze(-1)
LAYER_2 = torch.tensor([[8.0, 8.0, 100.0], [0.0, 3.0, 9.0]]).unsqueeze(-1)
LAST = torch.tensor([[2.0, 4.0, 100.0], [5.0, 6.0, 10.0]]).unsqueeze(-1)
LAYERS = (EMBEDDING, LAYER_1, LAYER_2, LAST)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("cls", [2.0, 5.0]),  # the first token; the dense layer comes later
        ("cls_before_pooler", [2.0, 5.0]),
        ("avg", [3.0, 7.0]),  # (2 + 4) / 2, (5 + 6 + 10) / 3
        ("avg_top2", [5.5, 5.5]),  # layer 2: 8 and 4; (8 + 3) / 2, (4 + 7) / 2
        ("avg_first_last", [2.0, 4.0]),  # embedding output: 1 and 1; (1 + 3) / 2, (1 + 7) / 2
        ("avg_layer1_last", [4.0, 5.5]),  # layer 1: 5 and 4; (5 + 3) / 2, (4 + 7) / 2
    ],
)
def test_each_pooling_by_hand(pooling: str, expected: list[float]) -> None:
    layers = LAYERS if needs_hidden_states(pooling) else None
    assert pool(pooling, LAST, MASK, layers).squeeze(-1).tolist() == pytest.approx(expected)


def test_the_last_layer_is_the_last_hidden_state_even_where_the_layers_say_otherwise() -> None:
    # ModernBERT norms its last layer's output; avg_top2 of the normed 3 and 7 with layer 2's 8 and 4
    raw = (EMBEDDING, LAYER_1, LAYER_2, LAST * 1000)
    assert pool("avg_top2", LAST, MASK, raw).squeeze(-1).tolist() == pytest.approx([5.5, 5.5])


def test_sums_are_in_fp32_though_the_layers_are_in_bf16() -> None:
    # 1 + 1/128 in bf16, averaged over 512 tokens: a bf16 sum stops growing long before 512
    last = torch.full((1, 512, 1), 1.0078125, dtype=torch.bfloat16)
    pooled = pool("avg", last, torch.ones(1, 512, dtype=torch.int64))
    assert pooled.dtype == torch.float32
    assert pooled.item() == 1.0078125


def test_a_sentence_without_any_token_is_zero_and_not_nan() -> None:
    assert pool("avg", LAST, torch.zeros_like(MASK)).tolist() == [[0.0], [0.0]]


def test_an_unknown_pooling_and_missing_layers_are_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="no pooling 'max'"):
        pool("max", LAST, MASK)
    with pytest.raises(ValueError, match="avg_top2 needs the hidden states"):
        pool("avg_top2", LAST, MASK)


def test_layer_weights_by_hand() -> None:
    assert layer_weights(-2, 3) == [0, 0, 1, 1]
    assert layer_weights(0, 3) == [1, 0, 0, 1]
    assert layer_weights(1, 3) == [0, 1, 0, 1]
    assert layer_weights(1, 1) == [0, 2]  # layer 1 is the last one: plain avg


@pytest.mark.parametrize("mixes", [pooling.mixes for pooling in POOLINGS.values() if pooling.mixes is not None])
def test_layer_weights_are_recognized_whatever_their_scale(mixes: int) -> None:
    assert mixed_layer([0.5 * weight for weight in layer_weights(mixes, 6)]) == mixes


@pytest.mark.parametrize("weights", [[1, 1, 1, 1], [1, 0, 0, 2], [1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1], [1], []])
def test_other_layer_weights_are_no_pooling_of_ours(weights: list[float]) -> None:
    assert mixed_layer([float(weight) for weight in weights]) is None
