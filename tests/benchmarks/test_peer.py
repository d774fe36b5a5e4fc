"""Sides in processes of their own take turns, and a side that breaks says why."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.common import compare
from benchmarks.encode import min_cosine
from benchmarks.peer import Peer, SideFailed, memory_now
from benchmarks.scaling_sides import EncodeSlices
from benchmarks.steps import StepClock
from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.corpus import prepare_corpus
from distilcse_cli.models.embed import Embedder


class Counts:
    """Ten of something in as many seconds as it is told."""

    def __init__(self, *, seconds: float) -> None:
        print("noise on standard output")
        self.seconds = seconds
        self.facts = {"kind": "test"}

    def run(self) -> dict[str, Any]:
        print("more noise")
        return {"num": 10, "seconds": self.seconds}


class BreaksOff:
    """Works for one round."""

    def __init__(self) -> None:
        self.is_new = True

    def run(self) -> dict[str, Any]:
        if not self.is_new:
            raise ValueError("out of work")
        self.is_new = False
        return {"num": 1, "seconds": 1.0}


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


@pytest.mark.parametrize("rounds", [1, 2])
def test_the_sides_end_with_the_comparison_however_it_ends(rounds: int) -> None:
    peers = []

    def start(side: str, settings: dict[str, Any]) -> Peer:
        peers.append(Peer(f"tests.benchmarks.test_peer:{side}", settings, threads=1))
        return peers[-1]

    starters = {"ours": lambda: start("Counts", {"seconds": 1.0}), "other": lambda: start("BreaksOff", {})}
    with pytest.raises(SideFailed, match="out of work") if rounds == 2 else nullcontext():
        compare(starters, rounds, unit="sentences", against="other")
    assert [peer._process.poll() for peer in peers] == [0, 0]


def test_a_comparison_without_its_other_side_ends_in_one_line() -> None:
    starters = {"ours": lambda: Peer("tests.benchmarks.test_peer:Counts", {"seconds": 1.0}, threads=1)}
    with pytest.raises(SystemExit, match="nothing to compare with: other could not be set up"):
        compare(starters, 1, unit="sentences", against="other")


@pytest.mark.usefixtures("home")
def test_a_slice_goes_on_where_the_last_one_ended_and_from_the_end_to_the_start(
    tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "five.txt"
    text.write_text("".join(f"the {word} sleeps in the house\n" for word in "cat dog man woman market".split()))
    corpus = prepare_corpus([str(text)], CorpusSettings())
    side = EncodeSlices(model=str(tiny("bert")), corpus=str(corpus.folder))
    # windows of two: 2, 2, 1 and again
    monkeypatch.setattr(Embedder, "stream", partialmethod(Embedder.stream, window_rows=2))
    monkeypatch.setattr(EncodeSlices, "NUM_WINDOWS", 2)
    assert [side.run()["num"] for _ in range(4)] == [4, 3, 3, 4]


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
