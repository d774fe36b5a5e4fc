"""The schedule at its corners."""

import pytest

from distilcse_cli.training.steps import cosine_with_warmup


def test_warmup_is_linear_from_zero_and_may_end_between_two_steps() -> None:
    factors = [cosine_with_warmup(step, num_steps=100, warmup_steps=2.5) for step in range(3)]
    assert factors == pytest.approx([0.0, 1 / 2.5, 2 / 2.5])


def test_after_warmup_a_half_cosine_falls_to_zero() -> None:
    def factor(step: int) -> float:
        return cosine_with_warmup(step, num_steps=110, warmup_steps=10)

    # 10: the top; 60: half way, cos(pi / 2) = 0; 110: the end
    assert [factor(10), factor(60), factor(110)] == pytest.approx([1.0, 0.5, 0.0])


def test_no_warmup_starts_at_the_top() -> None:
    assert cosine_with_warmup(0, num_steps=10, warmup_steps=0) == 1.0
