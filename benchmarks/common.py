"""What all benchmarks share: rounds that take turns, medians, machine facts, result files."""

import argparse
import datetime
import gzip
import os
import platform
import random
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.peer import Peer, SideFailed
from distilcse_cli import console
from distilcse_cli.errors import DataError, DistilCSEError
from distilcse_cli.evaluation.boundary import senteval_errors
from distilcse_cli.files import write_json
from distilcse_cli.runtime import Runtime, num_usable_cores

RESULTS = Path(__file__).parent / "results"
SHARED_DATA = Path(os.environ.get("DISTILCSE_DATA", Path(__file__).resolve().parent.parent.parent / "shared" / "data"))
PACKAGES = ("torch", "transformers", "numpy", "scikit-learn", "sentence-transformers")


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; what its user can mend, or a side that broke off, ends it with one line and an exit code."""
    try:
        with senteval_errors():
            main()
    except DistilCSEError as error:
        console.error(error)
        raise SystemExit(error.exit_code) from error
    except SideFailed as error:
        raise SystemExit(f"a side broke off: {error}") from error


def take_turns(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each side in each round; the sides run one after the other in every round.

    What else the machine does then slows all of them alike, and their ratio within a round is
    worth more than any of the times.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, run in sides.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
        console.log(f"round {number + 1} of {rounds}: " + ", ".join(f"{n} {s[-1]:.2f} s" for n, s in seconds.items()))
    return seconds


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratios(slow: Sequence[float], fast: Sequence[float]) -> list[float]:
    """How many times faster, round by round."""
    return [one / other for one, other in zip(slow, fast, strict=True)]


def whole(most: int | None = None) -> Callable[[str], int]:
    """A type of options: a whole number from 1 on, to `most` where it is given."""

    def number(text: str) -> int:
        value = int(text)
        if value < 1 or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"{value} is not from 1 {'on' if most is None else f'to {most}'}")
        return value

    return number


def add_options(parser: argparse.ArgumentParser, *, out: bool = True) -> None:
    """`--rounds`, `--threads` and `--out`, the same in every comparison."""
    cores = num_usable_cores()
    parser.add_argument("--rounds", type=whole(), default=7)
    parser.add_argument("--threads", type=whole(cores), default=cores, help="of each side (default: all cores)")
    if out:
        parser.add_argument("--out", type=Path, help="result file (default: benchmarks/results/NAME.json)")


def pin(threads: int) -> list[int]:
    """Keep this process and the sides it starts to the first `threads` of its cores."""
    cores = sorted(os.sched_getaffinity(0))[:threads]
    os.sched_setaffinity(0, cores)
    return cores


@contextmanager
def _open_peers(sides: Mapping[str, Callable[[], Peer]]) -> Iterator[tuple[dict[str, Peer], dict[str, str]]]:
    """Set the sides up one after the other: those that work, and why the others do not. They end with the block."""
    peers: dict[str, Peer] = {}
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        for name, start in sides.items():
            console.log(f"setting up: {name}")
            try:
                peers[name] = start()
            except SideFailed as error:
                failed[name] = str(error)
                console.warn(f"{name}: {error}")
            else:
                stack.callback(peers[name].close)
        yield peers, failed


def without_bf16(names: Iterable[str], runtime: Runtime) -> dict[str, str]:
    """The sides among `names` that compute in bf16, where this CPU would emulate it, and why they are left out."""
    if runtime.dtype == "bfloat16":
        return {}
    return {name: f"left out, as {runtime.reason}" for name in names if "bf16" in name}


def compare(
    starters: Mapping[str, Callable[[], Peer]],
    rounds: int,
    *,
    unit: str,
    ours: str = "ours",
    against: str | None = None,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Let the sides take turns; how many `unit` a second each does, and how many times ours is as fast.

    Each side's figures have `num` of what it has done in `seconds`. The ratio is taken round by round.

    Args:
        starters: name -> what sets the side up. Each ends with the comparison.
        rounds: turns of each side.
        unit: what `num` counts.
        ours: the side that all ratios are of.
        against: another side that the comparison is worth nothing without.

    Returns:
        The sides' figures, and why a side has none. Without `ours` or `against` the program ends with one line.
    """
    with _open_peers(starters) as (peers, failed):
        for name in (ours, against or ours):
            if name not in peers:
                raise SystemExit(f"nothing to compare with: {name} could not be set up")
        return _turns_of(peers, rounds, unit=unit, ours=ours), failed


def _turns_of(peers: Mapping[str, Peer], rounds: int, *, unit: str, ours: str) -> dict[str, Any]:
    figures: dict[str, list[dict[str, Any]]] = {name: [] for name in peers}
    for number in range(rounds):
        for name, peer in peers.items():
            figures[name].append(peer.run())
        rates = ", ".join(f"{name} {told[-1]['num'] / told[-1]['seconds']:,.1f}" for name, told in figures.items())
        console.log(f"round {number + 1} of {rounds}, {unit} a second: {rates}")
    rates_of = {name: [one["num"] / one["seconds"] for one in told] for name, told in figures.items()}
    return {
        name: {
            "unit": unit,
            "rate": spread(rates_of[name]),
            "rates": rates_of[name],
            "ratio": spread(ratios(rates_of[ours], rates_of[name])),
            **{memory: max(one[memory] for one in told) for memory in ("resident_bytes", "anonymous_bytes")},
            "last_round": told[-1],
            "facts": peers[name].facts,
        }
        for name, told in figures.items()
    }


def show(sides: Mapping[str, Any], failed: Mapping[str, str]) -> None:
    """Print what `compare` gave."""
    rows = [
        [name, f"{side['rate']['median']:,.0f}", f"{side['ratio']['median']:.2f}", between(side["ratio"])]
        for name, side in sides.items()
    ]
    unit = next(iter(sides.values()))["unit"]
    console.result(console.table(("side", f"{unit}/s", "ours is × as fast", "over the rounds"), rows, align="lrrl"))
    for name, reason in failed.items():
        console.result(f"{name}: {reason}")


def between(values: Mapping[str, float]) -> str:
    """The range of a spread, for a table."""
    return f"{values['min']:.2f} to {values['max']:.2f}"


def shared_file(name: str) -> Path:
    """A file of the shared data.

    Raises:
        DataError: it is not there.
    """
    path = SHARED_DATA / name
    if not path.is_file():
        raise DataError(
            f"{path} is not there", hint="DISTILCSE_DATA names the folder that has news/, nli/ and senteval/"
        )
    return path


def read_lines(name: str) -> list[str]:
    """All lines of `news` or `captions` of the shared data."""
    with gzip.open(shared_file(f"news/{name}.en.txt.gz"), "rt", encoding="utf-8") as file:
        return file.read().split("\n")[:-1]


def mixed_lines(num: int) -> list[str]:
    """`num` lines, news and captions half and half, in a seeded order."""
    generator = random.Random(0)
    half = generator.sample(read_lines("news"), num - num // 2) + generator.sample(read_lines("captions"), num // 2)
    generator.shuffle(half)
    return half


def machine() -> dict[str, Any]:
    """Facts that a time depends on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": num_usable_cores(),
        "load_before": os.getloadavg()[0],
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES if find_spec(package.replace("-", "_"))},
    }


def pinned_machine(threads: int) -> dict[str, Any]:
    """`machine()` before a measurement, for which this process and its sides are then pinned to so many cores."""
    return machine() | {"threads": threads, "pinned_to": pin(threads)}


def save(name: str, facts: dict[str, Any], machine_before: dict[str, Any], out: Path | None = None) -> None:
    """Write `benchmarks/results/NAME.json`, with the command that was given."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    command = shlex.join(["python", "-m", f"benchmarks.{name}", *sys.argv[1:]])
    told = {"measured": today, "command": command, "machine": machine_before, **facts}
    write_json(out or RESULTS / f"{name}.json", told)
