"""What all benchmarks share: rounds that take turns, medians, machine facts, result files."""

import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from distilcse_cli import console
from distilcse_cli.files import write_json
from distilcse_cli.runtime import num_usable_cores

RESULTS = Path(__file__).parent / "results"
SHARED_DATA = Path(os.environ.get("DISTILCSE_DATA", Path(__file__).resolve().parent.parent.parent / "shared" / "data"))
PACKAGES = ("torch", "transformers", "numpy", "scikit-learn", "sentence-transformers")


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
        **{package: version(package) for package in PACKAGES},
    }


def save(name: str, facts: dict[str, Any], machine_before: dict[str, Any], out: Path | None = None) -> None:
    """Write `benchmarks/results/NAME.json`."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    write_json(out or RESULTS / f"{name}.json", {"measured": today, "machine": machine_before, **facts})
