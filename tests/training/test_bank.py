"""The ring buffer against the list it stands for."""

import numpy as np
import torch

from distilcse_cli.training.bank import MemoryBank


def _rows(*values: float) -> torch.Tensor:
    return torch.tensor(values).reshape(-1, 1)


def _bank(size: int) -> MemoryBank:
    return MemoryBank(size, 1, dtype=torch.float32)


def _push(bank: MemoryBank, *values: int) -> None:
    bank.push(_rows(*values), np.array(values))


def newest_first(bank: MemoryBank) -> torch.Tensor:
    """The rows in the published code's order: each batch in front of those before it, in its own order."""
    order = (bank._next - 1 - torch.arange(len(bank))) % max(bank.size, 1)
    return bank.rows[order]


def test_a_new_batch_stands_in_front_in_its_own_order() -> None:
    bank = _bank(6)
    _push(bank, 1, 2)
    _push(bank, 3, 4)
    assert newest_first(bank).flatten().tolist() == [3, 4, 1, 2]


def test_rows_beyond_the_size_fall_out_oldest_batch_from_its_end() -> None:
    bank = _bank(5)
    for batch in ((1, 2), (3, 4), (5, 6)):
        _push(bank, *batch)
    # in front of [3, 4, 1, 2] come 5, 6; the sixth row, 2, falls out
    assert newest_first(bank).flatten().tolist() == [5, 6, 3, 4, 1]


def test_of_a_batch_larger_than_the_bank_the_first_rows_stay() -> None:
    bank = _bank(2)
    _push(bank, 9)
    _push(bank, 1, 2, 3)
    assert newest_first(bank).flatten().tolist() == [1, 2]


def test_the_bank_grows_from_empty_to_its_size() -> None:
    bank = _bank(3)
    sizes = [len(bank)]
    for value in range(4):
        _push(bank, value)
        sizes.append(len(bank))
    assert sizes == [0, 1, 2, 3, 3]


def test_a_bank_of_size_zero_stays_empty() -> None:
    bank = _bank(0)
    _push(bank, 1, 2)
    assert bank.rows.shape == (0, 1)


def test_random_pushes_match_a_plain_list() -> None:
    generator = torch.Generator().manual_seed(0)
    bank, expected = _bank(7), []
    for step in range(50):
        size = int(torch.randint(1, 10, (), generator=generator))
        batch = [100 * step + index for index in range(size)]
        _push(bank, *batch)
        expected = (batch + expected)[:7]
        assert newest_first(bank).flatten().tolist() == expected
        assert sorted(bank.rows.flatten().tolist()) == sorted(expected)
        assert bank.sentences.tolist() == bank.rows.flatten().tolist()
