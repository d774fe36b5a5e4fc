"""Start-up: how long help and usage errors take beside `python -c pass`, and that torch stays unimported.

python -m benchmarks.startup
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import typer

from benchmarks.common import add_options, pinned_machine, run, save, spread
from distilcse_cli import console
from distilcse_cli.commands import app

DISTILCSE = str(Path(sys.executable).with_name("distilcse"))
NOTHING = "python -c pass"


def invocations() -> dict[str, list[str]]:
    """`python -c pass`, help, and for each command its help and an option that it does not have."""
    runs = {NOTHING: [sys.executable, "-c", "pass"], "--help": [DISTILCSE, "--help"]}
    for name in sorted(typer.main.get_command(app).commands):  # type: ignore[attr-defined]
        runs[f"{name} --help"] = [DISTILCSE, name, "--help"]
        runs[f"{name} --no-such-option"] = [DISTILCSE, name, "--no-such-option"]
    return runs


def seconds_of(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, capture_output=True, check=False)
    return time.perf_counter() - started


def imports_torch(arguments: list[str]) -> bool:
    """Whether a process that has just run the command line has imported torch."""
    code = (
        "import sys\nfrom distilcse_cli.__main__ import run\n"
        f"sys.argv = ['distilcse', *{arguments!r}]\nrun()\nsys.exit(77 if 'torch' in sys.modules else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    if done.returncode not in (0, 77):
        raise RuntimeError(f"{arguments}: exit code {done.returncode}\n{done.stderr.decode()}")
    return done.returncode == 77


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    arguments = parser.parse_args()
    before = pinned_machine(arguments.threads)
    runs = invocations()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(arguments.rounds):
        for name, command in runs.items():
            seconds[name].append(seconds_of(command))
        console.log(f"round {number + 1} of {arguments.rounds}")
    sides: dict[str, Any] = {name: {"seconds": spread(seconds[name])} for name in runs}
    for name, command in runs.items():
        sides[name]["imports_torch"] = name != NOTHING and imports_torch(command[1:])
    rows = [
        [name, f"{side['seconds']['median']:.3f}", "yes" if side["imports_torch"] else "no"]
        for name, side in sides.items()
    ]
    console.result(console.table(("command", "seconds", "imports torch"), rows, align="lrl"))
    save("startup", {"rounds": arguments.rounds, "sides": sides}, before, arguments.out)


if __name__ == "__main__":
    run(main)
