"""Multiply-adds by hand."""

from types import SimpleNamespace

import numpy as np

from benchmarks.work import encode_multiply_adds, train_multiply_adds

# a token takes 4 * 2 * 2 + 2 * 2 * 3 = 28 in a layer
CONFIG = SimpleNamespace(hidden_size=2, intermediate_size=3, num_hidden_layers=2)


def test_encoding_counts_every_product_once() -> None:
    # 3 tokens: 3 * 28 + 2 * 3 * 3 * 2 = 120; 1 token: 28 + 2 * 2 = 32; two layers of both
    assert encode_multiply_adds(np.array([3, 1]), CONFIG) == 2 * (120 + 32)


def test_training_is_three_passes_and_the_scores_of_batch_and_bank() -> None:
    # 304 forward, 3 times; 2 students against 2 + 10 rows 2 wide, forward and backward: 2 * 2 * 12 * 2 = 96
    needed = train_multiply_adds(np.array([3, 1]), CONFIG, batch_size=2, bank_size=10, teacher_dim=2)
    assert needed == 3 * 304 + 96


def test_a_projection_to_another_width_counts_thrice() -> None:
    # scores 2 * 2 * 12 * 5 = 240; projection 3 * 2 * 2 * 5 = 60
    needed = train_multiply_adds(np.array([3, 1]), CONFIG, batch_size=2, bank_size=10, teacher_dim=5)
    assert needed == 3 * 304 + 240 + 60
