"""The prepacked forward pass gives what transformers' own gives: in fp32 to rounding, on any CPU, in bf16 near it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from distilcse_cli.config import POOLINGS, EncodeSettings
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder, load_encoder
from distilcse_cli.models.pooling import pool
from distilcse_cli.models.prepacked import PrepackedForward, _Linear, fastest_forward, has_bf16_kernels
from distilcse_cli.runtime import Runtime

BF16 = Runtime(device="cpu", dtype="bfloat16", reason="test")
FP32 = Runtime(device="cpu", dtype="float32", reason="test")
SENTENCES = ["the cat sleeps", "a man and a dog play in the garden of the big house", "market", "the bank"] * 9


def batch(encoder: SentenceEncoder) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = encoder.tokenizer(SENTENCES[:4], padding=True, return_tensors="pt")
    return tokens["input_ids"], tokens["attention_mask"]


@pytest.fixture
def bf16_kernels() -> None:
    if not has_bf16_kernels():
        pytest.skip("this CPU or torch has no bf16 kernels")


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    if request.param == torch.bfloat16:
        request.getfixturevalue("bf16_kernels")
    elif not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    return request.param


def own(encoder: SentenceEncoder, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What transformers' own modules give, all tokens of all layers computed."""
    with torch.no_grad():
        output = encoder.backbone(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        return encoder.apply_dense(pool(encoder.pooling, output.last_hidden_state, mask, output.hidden_states))


def assert_near(got: torch.Tensor, wanted: torch.Tensor, dtype: torch.dtype) -> None:
    assert got.dtype == torch.float32
    assert torch.cosine_similarity(got, wanted).min() > 0.999
    # bf16: eight bits of mantissa, a few products deep
    atol = 1e-5 if dtype == torch.float32 else 0.03 * wanted.abs().max().item()
    torch.testing.assert_close(got, wanted, atol=atol, rtol=0)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_equals_the_models_own_forward(tiny: Callable[..., Path], kind: str, pooling: str, dtype: torch.dtype) -> None:
    encoder = load_encoder(str(tiny(kind)), pooler=pooling)
    ids, mask = batch(encoder)
    assert_near(PrepackedForward(encoder, dtype)(ids, mask), own(encoder, ids, mask), dtype)


@pytest.mark.parametrize("pooling", ["avg", "cls"])
def test_padding_changes_nothing(tiny: Callable[..., Path], pooling: str, dtype: torch.dtype) -> None:
    encoder = load_encoder(str(tiny("bert")), pooler=pooling)
    forward = PrepackedForward(encoder, dtype)
    ids, mask = batch(encoder)
    wider = [torch.nn.functional.pad(tensor, (0, 5)) for tensor in (ids, mask)]
    got, wanted = forward(*wider), forward(ids, mask)
    assert_near(got, wanted, dtype)
    if pooling == "avg":  # over tokens, whose roundings even out
        torch.testing.assert_close(got, wanted, atol=2e-3, rtol=0)


@pytest.mark.parametrize("width", [24, 32])
def test_plain_and_fused_attention_equal_the_models_own(
    tiny: Callable[..., Path], width: int, dtype: torch.dtype
) -> None:
    encoder = load_encoder(str(tiny("bert")), pooler="avg")
    ids, mask = (torch.nn.functional.pad(tensor, (0, width - tensor.shape[1])) for tensor in batch(encoder))
    assert_near(PrepackedForward(encoder, dtype)(ids, mask), own(encoder, ids, mask), dtype)


@pytest.mark.parametrize("pooling", ["cls", "cls_before_pooler"])
def test_the_last_feed_forward_block_sees_one_token_a_sentence(
    tiny: Callable[..., Path], pooling: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder(str(tiny("bert")), pooler=pooling)
    ids, mask = batch(encoder)
    seen, product = [], _Linear.__call__

    def watched(self: _Linear, rows: torch.Tensor, plus: torch.Tensor | None = None) -> torch.Tensor:
        if self._activation == "gelu":
            seen.append(rows.shape[:2])
        return product(self, rows, plus)

    monkeypatch.setattr(_Linear, "__call__", watched)
    PrepackedForward(encoder, dtype)(ids, mask)
    assert seen == [ids.shape] * (encoder.num_layers - 1) + [(len(ids), 1)]


@pytest.mark.usefixtures("bf16_kernels")
@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_bf16_runtime_takes_it(tiny: Callable[..., Path], kind: str, pooling: str) -> None:
    encoder = load_encoder(str(tiny(kind)), pooler=pooling)
    forward = fastest_forward(encoder, BF16)
    assert isinstance(forward, PrepackedForward)
    ids, mask = batch(encoder)
    assert_near(forward(ids, mask), own(encoder, ids, mask), torch.bfloat16)


@pytest.fixture
def said_to_have_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the CPU is: what then runs as it is does so for another reason."""
    monkeypatch.setattr("distilcse_cli.models.prepacked.has_bf16_kernels", lambda: True)


@pytest.mark.usefixtures("said_to_have_kernels")
@pytest.mark.parametrize("kind", ["distilbert", "mpnet"])
def test_other_architectures_run_as_they_are(tiny: Callable[..., Path], kind: str) -> None:
    encoder = load_encoder(str(tiny(kind)), pooler="avg")
    assert fastest_forward(encoder, BF16) is encoder


@pytest.mark.usefixtures("said_to_have_kernels")
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
            rows.append(Embedder(encoder, runtime, settings).sentences(SENTENCES))
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
            Embedder(encoder, FP32, EncodeSettings(batch_tokens=1)).sentences(SENTENCES)
    finally:
        torch.set_num_threads(before)
    assert len(calls) <= len(SENTENCES) // 2


@pytest.mark.parametrize("pooling", ["avg", "cls"])
def test_a_row_without_any_token_is_finite(tiny: Callable[..., Path], pooling: str, dtype: torch.dtype) -> None:
    encoder = load_encoder(str(tiny("bert")), pooler=pooling)
    ids, mask = batch(encoder)
    mask[0] = 0
    assert PrepackedForward(encoder, dtype)(ids, mask).isfinite().all()


@pytest.mark.parametrize("pooling", ["avg", "cls_before_pooler"])
def test_a_model_without_layers_embeds_its_tokens(tiny: Callable[..., Path], pooling: str, dtype: torch.dtype) -> None:
    encoder = load_encoder(str(tiny("bert")), pooler=pooling)
    encoder.backbone.encoder.layer = torch.nn.ModuleList()
    encoder.backbone.config.num_hidden_layers = 0
    ids, mask = batch(encoder)
    assert_near(PrepackedForward(encoder, dtype)(ids, mask), own(encoder, ids, mask), dtype)
