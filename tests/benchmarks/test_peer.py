"""Sides in processes of their own take turns, and a side that breaks says why."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.common import compare
from benchmarks.encode import min_cosine
from benchmarks.peer import Peer, SideFailed, memory_now
from benchmarks.steps import StepClock


class Counts:
    """Ten of something in as many seconds as it is told."""

    def __init__(self, *, seconds: float) -> None:
        print("noise on standard output")
        self.seconds = seconds
        self.facts = {"kind": "test"}

    def run(self) -> dict[str, Any]:
        print("more noise")
        return {"num": 10, "seconds": self.seconds}


class Breaks:
    def __init__(self) -> None:
        raise ValueError("no such backend")


def test_ratios_are_taken_round_by_round_and_a_broken_side_is_told() -> None:
    here = "tests.benchmarks.test_peer"
    sides, failed = compare(
        {
            "ours": lambda: Peer(f"{here}:Counts", {"seconds": 2.0}, threads=1),
            "slow": lambda: Peer(f"{here}:Counts", {"seconds": 8.0}, threads=1),
            "broken": lambda: Peer(f"{here}:Breaks", {}, threads=1),
        },
        2,
        unit="sentences",
    )

    assert sides["ours"]["rates"] == [5.0, 5.0]
    # ten in 8 s are 1.25 a second, a fourth of ours
    assert sides["slow"]["rate"]["median"] == 1.25
    assert sides["slow"]["ratio"] == {"median": 4.0, "min": 4.0, "max": 4.0}
    assert sides["slow"]["facts"]["kind"] == "test"
    assert failed == {"broken": "ValueError: no such backend"}


def test_a_side_that_ends_is_no_silence() -> None:
    with pytest.raises(SideFailed):
        Peer("no.such.module:Side", {}, threads=1)


def test_steps_of_the_warm_up_are_not_counted() -> None:
    clock = StepClock(2)
    for num in (5, 5, 3, 4):
        clock.tick(num)
    assert clock.figures()["num"] == 7


def test_the_least_cosine_is_of_rows_of_any_length() -> None:
    # (3, 4) against (1, 0): 3 / 5; (2, 0) against (5, 0): 1
    assert min_cosine(np.array([[3.0, 4.0], [2.0, 0.0]]), np.array([[1.0, 0.0], [5.0, 0.0]])) == pytest.approx(0.6)


def test_memory_of_mapped_files_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "zeros.bin"
    path.write_bytes(bytes(1 << 26))
    mapped = np.memmap(path, mode="r")
    before = memory_now()
    mapped.sum()
    after = memory_now()
    assert after["resident_bytes"] - before["resident_bytes"] > 1 << 25
    assert after["anonymous_bytes"] - before["anonymous_bytes"] < 1 << 25
