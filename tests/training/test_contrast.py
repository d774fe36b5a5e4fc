"""The pass over a long bank against the plain formula, and the keys that do not count."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from distilcse_cli.training import contrast
from distilcse_cli.training.contrast import FalseNegatives, log_sum_exp, pairs_of_same_text
from distilcse_cli.training.losses import ckd_loss, kl_loss


def _unit(num_rows: int, seed: int, width: int = 5) -> torch.Tensor:
    return functional.normalize(torch.randn(num_rows, width, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("chunk_scores", [1, 12, 28, 1 << 20])
def test_gradients_over_chunks_are_those_of_the_plain_formula(
    monkeypatch: pytest.MonkeyPatch, chunk_scores: int
) -> None:
    # 4 queries: chunks of 1, 3, 7 and all 33 keys
    monkeypatch.setitem(contrast.CHUNK_SCORES, "cpu", chunk_scores)
    queries, keys, scale = _unit(4, seed=0), _unit(33, seed=1), torch.tensor(30.0)
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])
    grads = []
    for formula in ("plain", "chunks"):
        query, factor = queries.clone().requires_grad_(), scale.clone().requires_grad_()
        if formula == "plain":
            value = torch.logsumexp(query @ keys.T * factor, dim=1)
        else:
            value, _ = log_sum_exp(query, (keys[:6], keys[6:]), scale=factor)
        grads.append((value.detach(), *torch.autograd.grad(value @ weights, (query, factor))))
    for plain, chunked in zip(*grads, strict=True):
        assert torch.allclose(plain, chunked, rtol=2e-5, atol=2e-5)


def test_large_scales_do_not_overflow() -> None:
    # scores 200, -200: log(e^200 + e^-200) = 200; e^200 is no fp32 number
    value, _ = log_sum_exp(torch.eye(2)[:1], (torch.eye(2)[:1], -torch.eye(2)[:1]), scale=200.0)
    assert value.item() == pytest.approx(200.0)


def test_any_part_of_a_batch_gives_its_share_of_the_gradient() -> None:
    students, teachers, bank = _unit(6, seed=2), _unit(6, seed=3), _unit(9, seed=4)
    for loss in (ckd_loss, kl_loss):
        whole, parts = students.clone().requires_grad_(), students.clone().requires_grad_()
        loss(whole, teachers, bank, scale=7.0).backward()
        for own in ([4, 0, 5], [1], [3, 2]):
            part = torch.tensor(own)
            share = len(own) / 6
            (loss(parts[part], teachers, bank, scale=7.0, own=part) * share).backward()
        assert torch.allclose(whole.grad, parts.grad, atol=1e-6)


def test_another_copy_of_the_text_is_no_negative() -> None:
    # query 0 is text 7, query 1 text 8; keys 0 and 1 are their positives, key 2 is text 8 again
    pairs = pairs_of_same_text(np.array([7, 8]), np.array([7, 8, 8]), own=np.array([0, 1]))
    assert [numbers.tolist() for numbers in pairs] == [[1], [2]]
    eye = torch.eye(2)
    hidden = FalseNegatives(torch.tensor([0, 1]), *pairs)
    loss = ckd_loss(eye, eye, eye[1:], scale=1.0, false_negatives=hidden)
    # query 0 sees cosines 1, 0, 0; query 1 sees 0 and 1 and not the third key
    expected = (math.log(math.e + 2) - 1 + math.log(math.e + 1) - 1) / 2
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert int(hidden.num_hidden) == 1


def test_keys_near_the_positive_are_no_negatives_and_the_positive_stays() -> None:
    teacher = torch.eye(2)
    near_first = torch.tensor([[0.8, 0.6]])
    empty = torch.empty(0, dtype=torch.int64)
    hidden = FalseNegatives(torch.tensor([0, 1]), empty, empty, positives=teacher, max_cosine=0.7)
    loss = ckd_loss(teacher, teacher, near_first, scale=1.0, false_negatives=hidden)
    # cosines to the bank row are 0.8 (hidden) and 0.6 (kept)
    expected = (math.log(math.e + 1) - 1 + math.log(1 + math.e + math.exp(0.6)) - 1) / 2
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert int(hidden.num_hidden) == 1


def test_a_key_that_is_both_near_and_the_same_text_counts_once() -> None:
    teacher = torch.eye(2)
    hidden = FalseNegatives(
        torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([2]), positives=teacher, max_cosine=0.9
    )
    ckd_loss(teacher, teacher, teacher[:1], scale=1.0, false_negatives=hidden)
    assert int(hidden.num_hidden) == 1


def test_masks_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    students, teachers, bank = _unit(4, seed=5), _unit(4, seed=6), _unit(20, seed=7)
    texts, keys = np.array([0, 1, 2, 3]), np.array([0, 1, 2, 3, *range(20)])
    values = []
    for chunk_scores in (1, 20, 1 << 20):
        monkeypatch.setitem(contrast.CHUNK_SCORES, "cpu", chunk_scores)
        own = torch.arange(4)
        hidden = FalseNegatives(own, *pairs_of_same_text(texts, keys, own.numpy()), positives=teachers, max_cosine=0.5)
        loss = ckd_loss(students, teachers, bank, scale=5.0, false_negatives=hidden)
        values.append((round(loss.item(), 5), int(hidden.num_hidden)))
    assert values[0] == values[1] == values[2]
    assert values[0][1] > 4
