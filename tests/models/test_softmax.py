"""Softmax over short and long rows."""

import pytest
import torch

from distilcse_cli.models.prepacked import softmax_


def test_by_hand() -> None:
    scores = torch.log(torch.tensor([[1.0, 2.0, 5.0], [3.0, 3.0, 2.0]]))
    expected = torch.tensor([[0.125, 0.25, 0.625], [0.375, 0.375, 0.25]])
    torch.testing.assert_close(softmax_(scores), expected)


@pytest.mark.parametrize("width", [1, 3, 15, 16, 17, 40])
def test_equals_torchs_own_with_masked_scores(width: int) -> None:
    generator = torch.Generator().manual_seed(width)
    scores = 20 * torch.randn(5, 4, width, generator=generator)
    scores[::2, :, width // 2 + 1 :] = -torch.inf
    torch.testing.assert_close(softmax_(scores.clone()), scores.softmax(-1), atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("width", [3, 20])
def test_scores_that_overflow_exp(width: int) -> None:
    scores = torch.full((2, width), 1000.0)
    scores[0, 0] = 2000.0
    rows = softmax_(scores)
    torch.testing.assert_close(rows[0], torch.eye(width)[0], atol=1e-30, rtol=0)
    torch.testing.assert_close(rows[1], torch.full((width,), 1 / width))
