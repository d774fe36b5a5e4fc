"""Sides alternate, each in its own process or command, and a side that fails says why."""

import json
from argparse import Namespace
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.checkouts import Checkout
from benchmarks.common import compare, save
from benchmarks.encode import min_cosine
from benchmarks.peer import Peer, SideFailed, StepClock, most_memory
from benchmarks.sides import EncodeCorpus, Extract
from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.corpus import prepare_corpus

HERE = "tests.benchmarks.test_peer"


class Counts:
    """Ten of something in the given seconds."""

    def __init__(self, *, seconds: float) -> None:
        print("noise on standard output")
        self.seconds = seconds
        self.facts = {"kind": "test"}

    def run(self) -> dict[str, Any]:
        print("more noise")
        return {"num": 10, "seconds": self.seconds}


class FailsLater:
    """Works for one round."""

    def __init__(self) -> None:
        self.is_new = True

    def run(self) -> dict[str, Any]:
        if not self.is_new:
            raise ValueError("out of work")
        self.is_new = False
        return {"num": 1, "seconds": 1.0}


class Fails:
    def __init__(self) -> None:
        raise ValueError("no such backend")


def test_ratios_are_taken_round_by_round_and_a_broken_side_is_named() -> None:
    sides, failed = compare(
        {
            "ours": partial(Peer, f"{HERE}:Counts", {"seconds": 2.0}, threads=1),
            "slow": partial(Peer, f"{HERE}:Counts", {"seconds": 8.0}, threads=1),
            "broken": partial(Peer, f"{HERE}:Fails", {}, threads=1),
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
        peers.append(Peer(f"{HERE}:{side}", settings, threads=1))
        return peers[-1]

    starters = {"ours": lambda: start("Counts", {"seconds": 1.0}), "other": lambda: start("FailsLater", {})}
    with pytest.raises(SideFailed, match="out of work") if rounds == 2 else nullcontext():
        compare(starters, rounds, unit="sentences", against="other")
    assert [peer._process.poll() for peer in peers] == [0, 0]


def test_a_comparison_without_its_other_side_ends_in_one_line() -> None:
    starters = {"ours": partial(Peer, f"{HERE}:Counts", {"seconds": 1.0}, threads=1)}
    with pytest.raises(SystemExit, match="nothing to compare with: other could not be set up"):
        compare(starters, 1, unit="sentences", against="other")


def test_a_result_names_its_command_and_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["finetune.py", "--rounds", "2"])
    machine = {"cpu": "abacus", "cores": 1, "load_before": 0.5}
    spread = {"median": 2.0, "min": 1.0, "max": 3.0}
    ours = {"unit": "triples", "rate": spread, "ratio": spread, "facts": {}}
    save(
        "finetune",
        Namespace(rounds=2, out=tmp_path / "result.json", machine=machine),
        {"sides": {"ours": ours}, "failed": {"other": "no such backend"}},
    )
    written = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert written["command"] == "python -m benchmarks.finetune --rounds 2"
    assert written["machine"] == machine
    assert written["failed"] == {"other": "no such backend"}
    printed = capsys.readouterr()
    assert "| ours | 2 (1 to 3) | 2.00 (1.00 to 3.00) |" in printed.out
    assert "no such backend" in printed.err


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("side", [Extract, EncodeCorpus])
def test_each_round_takes_the_next_corpus_and_after_the_last_the_first(
    side: Callable[..., Any], tiny: Callable[..., Path], tmp_path: Path
) -> None:
    corpora = []
    for size in (3, 5):
        text = tmp_path / f"{size}.txt"
        text.write_text("".join(f"the {word} sleeps\n" for word in "cat dog man woman market".split()[:size]))
        corpora.append(str(prepare_corpus([str(text)], CorpusSettings()).folder))
    worker = side(model=str(tiny("bert")), corpora=corpora)
    assert [worker.run()["num"] for _ in range(3)] == [3, 5, 3]


def test_a_side_that_ends_is_no_silence() -> None:
    with pytest.raises(SideFailed):
        Peer("no.such.module:Side", {}, threads=1)


def test_a_checkout_is_run_by_its_own_command_and_timed_by_its_seconds(tmp_path: Path) -> None:
    command = tmp_path / ".venv" / "bin" / "distilcse"
    command.parent.mkdir(parents=True)
    settings = {"folder": str(tmp_path), "command": ["encode"], "num": 10}
    command.write_text('#!/bin/sh\ntest "$OMP_NUM_THREADS $2" = "1 --json" && echo \'{"seconds": 4.0}\'\n')
    command.chmod(0o755)
    checkout = Peer("benchmarks.checkouts:Checkout", settings, threads=1)
    figures = checkout.run()
    checkout.close()
    assert (figures["num"], figures["seconds"]) == (10, 4.0)

    command.write_text("#!/bin/sh\necho 'error: no such model' >&2\nexit 4\n")
    with pytest.raises(SideFailed, match="distilcse ended with exit code 4: error: no such model"):
        Checkout(**settings)
    with pytest.raises(SideFailed, match=r"No such file or directory: '/no/checkout/\.venv/bin/distilcse'"):
        Peer("benchmarks.checkouts:Checkout", settings | {"folder": "/no/checkout"}, threads=1)


def test_steps_of_the_warm_up_are_not_counted() -> None:
    clock = StepClock(2)
    for num in (5, 5, 3, 4):
        clock.tick(num)
    assert clock.figures()["num"] == 7


def test_the_least_cosine_is_of_rows_of_any_length() -> None:
    # (3, 4) against (1, 0): 3 / 5; (2, 0) against (5, 0): 1
    assert min_cosine(np.array([[3.0, 4.0], [2.0, 0.0]]), np.array([[1.0, 0.0], [5.0, 0.0]])) == pytest.approx(0.6)


def test_memory_is_in_bytes() -> None:
    held = np.ones(1 << 22)
    assert held.nbytes < most_memory() < 1 << 40
