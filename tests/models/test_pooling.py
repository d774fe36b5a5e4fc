"""Every pooling on numbers small enough to follow by hand, and against sentence-transformers."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer

from distilcse_cli import config
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.models.pooling import POOLINGS, layer_weights, mixed_layer, needs_hidden_states, pool
from distilcse_cli.runtime import Runtime

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
        ("weighted_mean", [10 / 3, 47 / 6]),  # (1 * 2 + 2 * 4) / 3, (1 * 5 + 2 * 6 + 3 * 10) / 6
        ("last_token", [4.0, 10.0]),
    ],
)
def test_each_pooling_by_hand(pooling: str, expected: list[float]) -> None:
    layers = LAYERS if needs_hidden_states(pooling) else None
    assert pool(pooling, LAST, MASK, layers).squeeze(-1).tolist() == pytest.approx(expected)


def test_the_settings_name_the_poolings_of_the_table_in_its_order() -> None:
    assert tuple(POOLINGS) == config.POOLINGS
    assert all(name == pooling.name for name, pooling in POOLINGS.items())


@pytest.mark.parametrize("pooling", ["avg", "weighted_mean", "last_token"])
def test_padding_on_the_left_changes_nothing(pooling: str) -> None:
    left = torch.tensor([[0, 1, 1], [1, 1, 1]])
    moved = torch.stack([LAST[0].roll(1, dims=0), LAST[1]])  # 100, 2, 4
    assert pool(pooling, moved, left).tolist() == pool(pooling, LAST, MASK).tolist()


# of a row that is padded on the left, sentence-transformers takes the padding for the first token
@pytest.mark.parametrize(
    ("pooling", "side"),
    [
        (name, side)
        for name, one in POOLINGS.items()
        for side in ("right", "left")
        if one.mixes is None and (one.reads.mode, side) != ("cls", "left")
    ],
)
def test_a_pooling_gives_what_sentence_transformers_gives(pooling: str, side: str) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(6, 9, 5, generator=generator)
    mask = (torch.arange(9) < torch.tensor([1, 2, 5, 8, 9, 9]).unsqueeze(1)).long()
    mask = mask.flip(1) if side == "left" else mask
    theirs = Pooling(5, POOLINGS[pooling].reads.mode)({"token_embeddings": tokens, "attention_mask": mask})
    torch.testing.assert_close(pool(pooling, tokens, mask), theirs["sentence_embedding"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("mode", ["mean", "weightedmean", "lasttoken"])
def test_a_folder_of_sentence_transformers_whose_tokenizer_pads_on_the_left(
    tiny: Callable[..., Path], tmp_path: Path, mode: str
) -> None:
    SentenceTransformer(modules=[Transformer(str(tiny("bert"))), Pooling(16, mode)]).save(str(tmp_path / "model"))
    (settings,) = (tmp_path / "model").rglob("tokenizer_config.json")
    changed = json.loads(settings.read_text(encoding="utf-8")) | {"padding_side": "left"}
    settings.write_text(json.dumps(changed), encoding="utf-8")
    model = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert model.tokenizer.padding_side == "left"
    sentences = ["the cat sleeps", "market", "a big red dog runs to the river and eats"]
    encoder = load_encoder(str(tmp_path / "model"))
    assert encoder.tokenizer.padding_side == "left"
    runtime = Runtime(device="cpu", dtype="float32", reason="test")
    # theirs one at a time: their padding on the left would move the positions of a BERT
    np.testing.assert_allclose(
        Embedder(encoder, runtime).sentences(sentences), model.encode(sentences, batch_size=1), atol=1e-5
    )


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
    for pooling in config.POOLINGS:
        pooled = pool(pooling, LAST, torch.zeros_like(MASK), LAYERS if needs_hidden_states(pooling) else None)
        assert pooled.isfinite().all(), pooling


def test_an_unknown_pooling_and_missing_layers_are_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="no pooling 'nonesuch'"):
        pool("nonesuch", LAST, MASK)
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
