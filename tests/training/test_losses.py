"""Losses against values derived by hand."""

import math

import pytest
import torch

from distilcse_cli.training.losses import ckd_loss, cosine_loss, kl_loss, mse_loss

NO_BANK = torch.empty(0, 2)
EYE = torch.eye(2)


def test_ckd_loss_of_two_perfect_students() -> None:
    # each row sees the cosines (1, 0), so its loss is -log(e / (e + 1))
    assert ckd_loss(EYE, EYE, NO_BANK, scale=1.0).item() == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-6)


def test_ckd_loss_counts_every_bank_row_as_one_more_negative() -> None:
    # each row sees (1, 0) in the batch and, of the two bank rows, 0 and 1 in some order: the
    # denominator is e + 1 + e + 1
    expected = -math.log(math.e / (2 * math.e + 2))
    assert ckd_loss(EYE, EYE, EYE, scale=1.0).item() == pytest.approx(expected, abs=1e-6)


def test_ckd_loss_multiplies_cosines_by_the_scale() -> None:
    assert ckd_loss(EYE, EYE, NO_BANK, scale=3.0).item() == pytest.approx(math.log(1 + math.exp(-3)), abs=1e-6)


def test_ckd_loss_is_blind_to_the_length_of_embeddings() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(4, 3, generator=generator), torch.randn(4, 3, generator=generator)
    bank = torch.nn.functional.normalize(torch.randn(5, 3, generator=generator), dim=1)
    short = ckd_loss(student, teacher, bank, scale=2.0)
    assert ckd_loss(student * 7, teacher * 0.1, bank, scale=2.0).item() == pytest.approx(short.item(), abs=1e-6)


def test_ckd_loss_is_the_cross_entropy_over_batch_and_bank() -> None:
    generator = torch.Generator().manual_seed(1)
    student, teacher, bank = (
        torch.nn.functional.normalize(torch.randn(rows, 3, generator=generator), dim=1) for rows in (4, 4, 6)
    )
    scores = 2.5 * student @ torch.cat([teacher, bank]).T
    expected = torch.nn.functional.cross_entropy(scores, torch.arange(4))
    assert ckd_loss(student, teacher, bank, scale=2.5).item() == pytest.approx(expected.item(), abs=1e-6)


def test_ckd_loss_trains_student_and_scale_and_never_the_teacher() -> None:
    student, scale = torch.randn(3, 2, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    ckd_loss(student, torch.eye(3)[:, :2] + 0.1, torch.eye(2), scale=scale).backward()
    assert student.grad is not None
    assert scale.grad is not None


def test_mse_loss_of_unit_rows_is_two_minus_two_cosines() -> None:
    # cos = 0 for rows at a right angle, whatever their lengths
    assert mse_loss(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 5.0]]), normalize=True).item() == pytest.approx(2.0)


def test_raw_mse_loss_is_the_mean_over_rows_and_columns() -> None:
    # squares 9 and 25 over 1 x 2 numbers
    loss = mse_loss(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 5.0]]), normalize=False)
    assert loss.item() == pytest.approx(17.0)


def test_cosine_loss_of_rows_at_sixty_degrees() -> None:
    student, teacher = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, math.sqrt(3.0)]])
    assert cosine_loss(student, teacher).item() == pytest.approx(0.5, abs=1e-6)


def test_kl_loss_of_a_perfect_student_is_zero() -> None:
    assert kl_loss(EYE, EYE, EYE, scale=5.0).item() == pytest.approx(0.0, abs=1e-6)


def test_kl_loss_of_a_student_who_swaps_two_sentences() -> None:
    # teacher: p = (e, 1) / (e + 1); student: the same swapped. KL = sum p log(p / q)
    # = (e - 1) / (e + 1) * log(e / 1)
    swapped = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    expected = (math.e - 1) / (math.e + 1)
    assert kl_loss(swapped, EYE, NO_BANK, scale=1.0).item() == pytest.approx(expected, abs=1e-6)


def test_widths_that_differ_are_the_callers_error() -> None:
    with pytest.raises(ValueError, match=r"student \(2, 2\), teacher \(2, 3\)"):
        ckd_loss(torch.ones(2, 2), torch.ones(2, 3), NO_BANK, scale=1.0)
    with pytest.raises(ValueError, match=r"bank \(4, 3\)"):
        ckd_loss(EYE, EYE, torch.ones(4, 3), scale=1.0)
