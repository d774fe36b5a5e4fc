"""Stage 2's loss by hand, and parts of a batch that give the gradient of the whole."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from distilcse_cli.models.encoder import SentenceEncoder, load_encoder
from distilcse_cli.runtime import Runtime
from distilcse_cli.training.losses import contrastive_loss
from distilcse_cli.training.two_pass import TwoPassForward

FP32 = Runtime(device="cpu", dtype="float32", reason="test")
BF16 = Runtime(device="cpu", dtype="bfloat16", reason="test")
NONE = torch.empty(0, 2)


def test_an_anchor_sees_all_positives_and_all_hard_negatives() -> None:
    anchors = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    positives = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    negatives = torch.tensor([[0.0, 1.0], [3.0, 4.0]])
    loss = contrastive_loss(anchors, positives, negatives, scale=1.0)
    # cosines of anchor 0: 1 | 0, 0, 0.6; of anchor 1: 1 | 0, 1, 0.8
    first = math.log(math.e + 1 + 1 + math.exp(0.6)) - 1
    second = math.log(math.e + 1 + math.e + math.exp(0.8)) - 1
    assert loss.item() == pytest.approx((first + second) / 2, abs=1e-6)


def test_pairs_have_the_other_positives_as_their_only_negatives() -> None:
    eye = torch.eye(2)
    # each anchor sees cosines 1 and 0, times 2
    assert contrastive_loss(eye, eye, NONE, scale=2.0).item() == pytest.approx(math.log(1 + math.exp(-2)), abs=1e-6)


def test_the_loss_has_one_direction() -> None:
    anchors = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    positives = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    # from anchors: cosines (1 | 0) and (0 | 1); from positives it would be (1, 1) and (0, 0)
    expected = (math.log(math.e + 1) - 1 + math.log(math.e + 1)) / 2
    assert contrastive_loss(anchors, positives, NONE, scale=1.0).item() == pytest.approx(expected, abs=1e-6)


def test_hidden_keys_do_not_count() -> None:
    eye = torch.eye(2)
    # anchor 0 does not see the second positive (key 1), anchor 1 not the hard negative (key 2)
    hidden = torch.tensor([0, 1]), torch.tensor([1, 2])
    loss = contrastive_loss(eye, eye, eye[1:], scale=1.0, hidden=hidden)
    expected = math.log(math.e + 1) - 1  # both are left with cosines 1 and 0
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"anchors \(3, 2\), positives \(2, 2\)"):
        contrastive_loss(torch.ones(3, 2), torch.ones(2, 2), NONE, scale=1.0)
    with pytest.raises(ValueError, match=r"negatives \(1, 3\)"):
        contrastive_loss(torch.ones(2, 2), torch.ones(2, 2), torch.ones(1, 3), scale=1.0)


def _encoder(tiny: Callable[..., Path], dropout: float) -> SentenceEncoder:
    return load_encoder(str(tiny("bert", dropout=dropout)), pooler="avg").train(dropout > 0)


def _gradient(
    encoder: SentenceEncoder, parts: list[np.ndarray], *, keep_graphs: bool, runtime: Runtime = FP32
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings of 24 sentences, the weights' gradient of a loss over all of them, and the next random number."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 90, (24, 7), generator=generator)
    wanted = torch.randn(24, 16, generator=generator)
    encoder.zero_grad()
    torch.manual_seed(1)

    def forward(part: np.ndarray) -> torch.Tensor:
        rows = torch.from_numpy(part)
        return encoder(ids[rows], torch.ones_like(ids[rows]))

    passes = TwoPassForward(forward, parts, width=16, runtime=runtime, keep_graphs=keep_graphs)
    leaf = passes.embeddings.requires_grad_()
    # a loss that ties all sentences to each other
    torch.nn.functional.cross_entropy(leaf @ wanted.T / 4, torch.arange(24)).backward()
    assert leaf.grad is not None
    passes.backward(leaf.grad)
    gradient = torch.cat([p.grad.flatten() for p in encoder.parameters() if p.grad is not None])
    return leaf.detach(), gradient, torch.rand(1)


PARTS = [np.array([5, 0, 9, 1]), np.array([2]), np.setdiff1d(np.arange(24), [5, 0, 9, 1, 2])]


def test_any_parts_give_the_gradient_of_the_whole(tiny: Callable[..., Path]) -> None:
    encoder = _encoder(tiny, 0.0)
    rows, whole, _ = _gradient(encoder, [np.arange(24)], keep_graphs=True)
    for parts in (PARTS, list(np.arange(24).reshape(4, 6))):
        for keep_graphs in (True, False):
            again, gradient, _ = _gradient(encoder, parts, keep_graphs=keep_graphs)
            assert torch.allclose(again, rows, atol=1e-6)
            assert torch.allclose(gradient, whole, atol=1e-6 * whole.abs().max().item())


@pytest.mark.parametrize("runtime", [FP32, BF16], ids=["fp32", "bf16"])
def test_the_second_pass_has_the_dropout_of_the_first(tiny: Callable[..., Path], runtime: Runtime) -> None:
    encoder = _encoder(tiny, 0.3)
    remembered = _gradient(encoder, PARTS, keep_graphs=True, runtime=runtime)
    computed_again = _gradient(encoder, PARTS, keep_graphs=False, runtime=runtime)
    # and what is drawn after both is the same too
    for first, second in zip(remembered, computed_again, strict=True):
        assert torch.equal(first, second)
    other_parts = _gradient(encoder, [np.arange(24)], keep_graphs=True, runtime=runtime)
    assert not torch.allclose(other_parts[1], remembered[1], rtol=0.1)
