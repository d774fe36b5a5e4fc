"""The prepacked forward pass gives what transformers' own gives, up to bf16."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from distilcse_cli.config import POOLINGS, EncodeSettings
from distilcse_cli.models.encoder import SentenceEncoder, load_encoder
from distilcse_cli.models.inference import embed_sentences
from distilcse_cli.models.prepacked import PrepackedForward, fastest_forward
from distilcse_cli.runtime import Runtime

BF16 = Runtime(device="cpu", dtype="bfloat16", reason="test")
FP32 = Runtime(device="cpu", dtype="float32", reason="test")
SENTENCES = ["the cat sleeps", "a man and a dog play in the garden of the big house", "market", "the bank"] * 9


def batch(encoder: SentenceEncoder) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = encoder.tokenizer(SENTENCES[:4], padding=True, return_tensors="pt")
    return tokens["input_ids"], tokens["attention_mask"]


@pytest.fixture(autouse=True)
def has_bf16_kernels(tiny: Callable[..., Path]) -> None:
    if fastest_forward(load_encoder(str(tiny("bert")), pooler="avg"), BF16).__class__ is not PrepackedForward:
        pytest.skip("this CPU or torch has no bf16 kernels")


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_equals_the_models_own_forward_up_to_bf16(tiny: Callable[..., Path], kind: str, pooling: str) -> None:
    encoder = load_encoder(str(tiny(kind)), pooler=pooling)
    forward = fastest_forward(encoder, BF16)
    assert isinstance(forward, PrepackedForward)
    ids, mask = batch(encoder)
    with torch.no_grad():
        wanted = encoder(ids, mask)
    got = forward(ids, mask)
    assert got.dtype == torch.float32
    assert got.shape == wanted.shape
    assert torch.cosine_similarity(got, wanted).min() > 0.999
    # eight bits of mantissa, a few products deep
    torch.testing.assert_close(got, wanted, atol=0.03 * wanted.abs().max().item(), rtol=0)


def test_padding_changes_nothing(tiny: Callable[..., Path]) -> None:
    encoder = load_encoder(str(tiny("bert")), pooler="avg")
    forward = fastest_forward(encoder, BF16)
    ids, mask = batch(encoder)
    wider = [torch.nn.functional.pad(tensor, (0, 5)) for tensor in (ids, mask)]
    torch.testing.assert_close(forward(*wider), forward(ids, mask), atol=2e-3, rtol=0)


@pytest.mark.parametrize("width", [24, 32])
def test_plain_and_fused_attention_equal_the_models_own(tiny: Callable[..., Path], width: int) -> None:
    encoder = load_encoder(str(tiny("bert")), pooler="avg")
    ids, mask = (torch.nn.functional.pad(tensor, (0, width - tensor.shape[1])) for tensor in batch(encoder))
    with torch.no_grad():
        wanted = encoder(ids, mask)
    got = fastest_forward(encoder, BF16)(ids, mask)
    torch.testing.assert_close(got, wanted, atol=0.03 * wanted.abs().max().item(), rtol=0)


@pytest.mark.parametrize("kind", ["distilbert", "mpnet"])
def test_other_architectures_run_as_they_are(tiny: Callable[..., Path], kind: str) -> None:
    encoder = load_encoder(str(tiny(kind)), pooler="avg")
    assert fastest_forward(encoder, BF16) is encoder


def test_fp32_and_other_activations_run_as_they_are(tiny: Callable[..., Path]) -> None:
    encoder = load_encoder(str(tiny("bert")), pooler="avg")
    assert fastest_forward(encoder, FP32) is encoder
    encoder.backbone.config.hidden_act = "relu"
    assert fastest_forward(encoder, BF16) is encoder


@pytest.mark.parametrize("runtime", [BF16, FP32], ids=["bf16", "fp32"])
def test_several_threads_give_the_bytes_of_one(tiny: Callable[..., Path], runtime: Runtime) -> None:
    encoder = load_encoder(str(tiny("bert")), pooler="avg")
    settings = EncodeSettings(batch_tokens=24)
    before = torch.get_num_threads()
    try:
        rows = []
        for num_threads in (1, 2, 5):
            torch.set_num_threads(num_threads)
            rows.append(embed_sentences(encoder, SENTENCES, runtime, settings))
            assert torch.get_num_threads() == num_threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(rows[0], rows[2])


def test_an_error_in_one_thread_ends_all(tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load_encoder(str(tiny("bert")), pooler="avg")
    calls = []

    def broken(*arguments: torch.Tensor) -> None:
        calls.append(arguments)
        raise ValueError("broken")

    monkeypatch.setattr(encoder, "forward", broken)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError, match="broken"):
            embed_sentences(encoder, SENTENCES, FP32, EncodeSettings(batch_tokens=1))
    finally:
        torch.set_num_threads(before)
    assert len(calls) <= len(SENTENCES) // 2


def test_a_row_without_any_token_is_finite(tiny: Callable[..., Path]) -> None:
    encoder = load_encoder(str(tiny("bert")), pooler="avg")
    ids, mask = batch(encoder)
    mask[0] = 0
    assert fastest_forward(encoder, BF16)(ids, mask).isfinite().all()
