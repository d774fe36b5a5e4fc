"""The frame of every benchmark: options, rounds in which the sides alternate, ratios, result files."""

import argparse
import datetime
import gzip
import os
import platform
import random
import shlex
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.peer import Peer, SideFailed
from distilcse_cli import console
from distilcse_cli.errors import DataError, DistilCSEError
from distilcse_cli.evaluation.boundary import senteval_errors
from distilcse_cli.files import write_json
from distilcse_cli.runtime import Runtime, num_usable_cores

SHARED_DATA = Path(os.environ.get("DISTILCSE_DATA", Path(__file__).resolve().parent.parent.parent / "shared" / "data"))
PACKAGES = ("torch", "transformers", "numpy", "onnxruntime", "sentence-transformers")


Starters = Mapping[str, Callable[[], Peer]]
"""Name of a side -> the function that sets it up."""


def run(main: Callable[[], None]) -> None:
    """Run a benchmark. An error that its user can fix, or a side that fails, ends it with one line and an exit code."""
    try:
        with senteval_errors():
            main()
    except DistilCSEError as error:
        console.error(error)
        raise SystemExit(error.exit_code) from error
    except SideFailed as error:
        raise SystemExit(f"a side failed: {error}") from error


def new_parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the options of every benchmark."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    cores = num_usable_cores()
    parser.add_argument("--rounds", type=whole(), default=7)
    parser.add_argument("--threads", type=whole(cores), default=cores, help="of each side (default: all cores)")
    parser.add_argument("--model", default="all-minilm-l6", help="folder, catalogue name or hub id")
    parser.add_argument("--out", type=Path, help="result file (default: benchmarks/results/NAME.json)")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line, then keep this process and its sides to `--threads` cores.

    The arguments get a `machine`: what a time depends on, as it was before the comparison.
    """
    arguments = parser.parse_args()
    machine = {
        "cpu": cpu_name(),
        "cores": num_usable_cores(),
        "load_before": os.getloadavg()[0],
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES if find_spec(package.replace("-", "_"))},
    }
    cores = sorted(os.sched_getaffinity(0))[: arguments.threads]
    os.sched_setaffinity(0, cores)
    arguments.machine = machine | {"threads": arguments.threads, "pinned_to": cores}
    return arguments


def cpu_name() -> str:
    """The CPU's own name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def whole(most: int | None = None) -> Callable[[str], int]:
    """Type of an option: a whole number from 1 to `most`; None sets no upper limit."""

    def number(text: str) -> int:
        value = int(text)
        if value < 1 or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"{value} is not from 1 {'on' if most is None else f'to {most}'}")
        return value

    return number


def compare(
    starters: Starters, rounds: int, *, unit: str, ours: str = "ours", against: str | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Let the sides alternate: the `unit`s a second of each, and how many times as fast ours is.

    The ratio is taken within a round, so that other work on the machine slows both sides of it. Every
    second round runs the sides in reverse order.

    Args:
        starters: the sides. All end when the comparison ends.
        rounds: turns of each side.
        unit: what `num` in a side's figures counts.
        ours: the side that the ratios compare with the others.
        against: a second side without which the comparison is useless.

    Returns:
        The sides' figures, and the reason for each side that could not be set up. Without `ours` or
        `against` the program ends with one line.
    """
    figures: dict[str, list[dict[str, Any]]] = {}
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        sides: dict[str, Peer] = {}
        for name, start in starters.items():
            console.log(f"setting up: {name}")
            try:
                sides[name] = start()
            except SideFailed as error:
                failed[name] = str(error)
                console.warn(f"{name}: {error}")
            else:
                stack.callback(sides[name].close)
        for name in (ours, against or ours):
            if name not in sides:
                raise SystemExit(f"nothing to compare with: {name} could not be set up")
        for number in range(rounds):
            for name in list(sides) if number % 2 == 0 else reversed(sides):
                figures.setdefault(name, []).append(sides[name].run())
            rates = ", ".join(f"{name} {rate_of(figures[name][-1]):,.1f}" for name in sides)
            console.log(f"round {number + 1} of {rounds}, {unit} a second: {rates}")
    return {name: _summary(figures[name], figures[ours], unit) | {"facts": sides[name].facts} for name in sides}, failed


def rate_of(figures: Mapping[str, Any]) -> float:
    """What a side did a second in a round."""
    return figures["num"] / figures["seconds"]


def _summary(figures: Sequence[Mapping[str, Any]], of_ours: Sequence[Mapping[str, Any]], unit: str) -> dict[str, Any]:
    rates = [rate_of(one) for one in figures]
    return {
        "unit": unit,
        "rate": spread(rates),
        "rates": rates,
        "ratio": spread([rate_of(ours) / rate for ours, rate in zip(of_ours, rates, strict=True)]),
        "resident_bytes": max(one["resident_bytes"] for one in figures),
        "last_round": figures[-1],
    }


def without_bf16(names: Iterable[str], runtime: Runtime) -> dict[str, str]:
    """The sides among `names` to leave out because this CPU would emulate their bf16, each with this reason."""
    if runtime.dtype == "bfloat16":
        return {}
    return {name: f"left out, as {runtime.reason}" for name in names if "bf16" in name}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def shared_file(name: str) -> Path:
    """A file of the shared data.

    Raises:
        DataError: the file is missing.
    """
    path = SHARED_DATA / name
    if not path.is_file():
        raise DataError(
            f"{path} is not there", hint="set DISTILCSE_DATA to the folder that has news/, nli/ and senteval/"
        )
    return path


def read_lines(name: str) -> list[str]:
    """All lines of `news` or `captions` of the shared data."""
    with gzip.open(shared_file(f"news/{name}.en.txt.gz"), "rt", encoding="utf-8") as file:
        return file.read().split("\n")[:-1]


def mixed_lines(num: int) -> list[str]:
    """`num` lines, half news and half captions, in a seeded order."""
    generator = random.Random(0)
    half = generator.sample(read_lines("news"), num - num // 2) + generator.sample(read_lines("captions"), num // 2)
    generator.shuffle(half)
    return half


def save(name: str, arguments: argparse.Namespace, result: Mapping[str, Any]) -> None:
    """Print a result's table, and write it with its date, command and machine to `--out` or results/NAME.json."""
    whole_result = {
        "measured": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": shlex.join(["python", "-m", f"benchmarks.{name}", *sys.argv[1:]]),
        "machine": arguments.machine,
        "rounds": arguments.rounds,
        **result,
    }
    for side, reason in result.get("failed", {}).items():
        console.log(f"not measured: {side}: {reason}")
    console.result(tables.section(name, whole_result))
    write_json(arguments.out or tables.RESULTS / f"{name}.json", whole_result)
