"""The first token computed alone is the one that the whole backbone gives, with the same gradients."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distilcse_cli.models.encoder import ATTENTION, SentenceEncoder, load_encoder
from distilcse_cli.models.first_token import first_token, reads_first_token

SENTENCES = {
    "padded": ["the cat sleeps in the house", "dog", "a big woman runs to the red market and eats"],
    "full": ["the cat sleeps in the house", "the dog sleeps in the house"],
}


def batch(encoder: SentenceEncoder, sentences: list[str]) -> tuple[Tensor, Tensor]:
    tokens = encoder.tokenizer(sentences, padding=True, return_tensors="pt")
    return tokens["input_ids"], tokens["attention_mask"]


def gradients(backbone: Any, first: Tensor) -> dict[str, Tensor]:
    """Of a sum in which every number of the states counts differently."""
    backbone.zero_grad()
    (first * torch.arange(first.numel()).view(first.shape)).sum().backward()
    return {name: weight.grad.clone() for name, weight in backbone.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("sentences", SENTENCES.values(), ids=list(SENTENCES))
def test_state_and_gradients_are_the_backbones_own(
    tiny: Callable[..., Path], kind: str, attention: str, sentences: list[str]
) -> None:
    encoder = load_encoder(str(tiny(kind)), pooler="cls_before_pooler")
    encoder.set_attention(attention)
    ids, mask = batch(encoder, sentences)
    wanted = encoder.backbone(input_ids=ids, attention_mask=mask).last_hidden_state[:, :1]
    got = first_token(encoder.backbone, ids, mask)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)
    wanted_gradients, got_gradients = gradients(encoder.backbone, wanted), gradients(encoder.backbone, got)
    assert got_gradients.keys() == wanted_gradients.keys()
    torch.testing.assert_close(got_gradients, wanted_gradients, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["cls", "cls_before_pooler"])
def test_the_last_feed_forward_block_sees_one_token_a_sentence(tiny: Callable[..., Path], pooling: str) -> None:
    encoder = load_encoder(str(tiny("bert")), pooler=pooling)
    ids, mask = batch(encoder, SENTENCES["padded"])
    seen = []
    for layer in encoder.backbone.encoder.layer:
        layer.intermediate.dense.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[:2]))
    encoder(ids, mask)
    assert seen == [ids.shape] * (encoder.num_layers - 1) + [(len(ids), 1)]


def test_in_bf16_it_stays_near_fp32(tiny: Callable[..., Path]) -> None:
    for attention in ATTENTION:
        encoder = load_encoder(str(tiny("bert")), pooler="cls")
        encoder.set_attention(attention)
        ids, mask = batch(encoder, SENTENCES["padded"])
        with torch.no_grad():
            wanted = encoder(ids, mask)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                got = encoder(ids, mask)
        assert got.dtype == torch.float32
        assert torch.cosine_similarity(got, wanted).min() > 0.999


def test_dropout_is_that_of_the_layer(tiny: Callable[..., Path]) -> None:
    encoder = load_encoder(str(tiny("bert")), pooler="cls_before_pooler")
    ids, mask = batch(encoder, SENTENCES["padded"])
    last = encoder.backbone.encoder.layer[-1]
    steady = encoder(ids, mask)
    encoder.train()
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    torch.testing.assert_close(encoder(ids, mask), steady)
    last.attention.self.dropout.p = 0.5  # of the attention's weights alone
    assert not torch.allclose(encoder(ids, mask), encoder(ids, mask))
    encoder.eval()
    torch.testing.assert_close(encoder(ids, mask), steady)


def test_only_first_token_pooling_of_berts_kind_is_read_that_way(tiny: Callable[..., Path]) -> None:
    bert, other = load_encoder(str(tiny("bert"))), load_encoder(str(tiny("distilbert")), pooler="avg")
    assert reads_first_token(bert.backbone, "cls")
    assert not reads_first_token(bert.backbone, "avg")
    assert not reads_first_token(other.backbone, "cls_before_pooler")
    bert.backbone.config.num_hidden_layers = 0
    assert not reads_first_token(bert.backbone, "cls")
    bert.backbone.config.num_hidden_layers = 2
    bert.backbone.config.is_decoder = True  # whose tokens do not see all others
    assert not reads_first_token(bert.backbone, "cls")
