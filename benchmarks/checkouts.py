"""Two checkouts of this project: how a change moves the speed of `encode`, `distill` and `finetune`.

    python -m benchmarks.checkouts --against /path/to/another/checkout [--jobs encode,distill]

Both run the installed command of their own `.venv` on the same files, and alternate. Nothing else of
a checkout is used, so any two commits with these commands can be compared. Each round is a new
process; the command's own `seconds` leave out its start, loading and evaluations. A ratio above 1
means that this checkout is faster.
"""

import argparse
import json
import resource
import subprocess
import tempfile
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.peer import ROOT, Peer, SideFailed, most_memory
from distilcse_cli import console

OTHER = "the other checkout"
JOBS = {"encode": "sentences", "distill": "sentences", "finetune": "triples"}
"""Command -> unit that is counted."""


class Checkout:
    """A command of a checkout, once a round. The first time, which fills the data home, is not counted.

    Args:
        folder: checkout with a `.venv`.
        command: arguments of `distilcse`, without `--out` and `--json`.
        num: number of sentences or triples that the command does.
    """

    def __init__(self, *, folder: str, command: list[str], num: int) -> None:
        self._command = [f"{folder}/.venv/bin/distilcse", *command, "--json", "--out"]
        self._num = num
        commit = ["git", "-C", folder, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        self.facts = {"folder": folder, "commit": subprocess.run(commit, capture_output=True, text=True).stdout.strip()}
        self.run()

    def run(self) -> dict[str, Any]:
        """Run the command."""
        with tempfile.TemporaryDirectory() as out:
            done = subprocess.run([*self._command, f"{out}/out.npy"], capture_output=True, text=True)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [""]
            raise SideFailed(f"{self._command[0]} ended with exit code {done.returncode}: {lines[-1]}")
        memory = most_memory(resource.RUSAGE_CHILDREN)
        return {"num": self._num, "seconds": json.loads(done.stdout)["seconds"], "resident_bytes": memory}


def command_of(job: str, arguments: argparse.Namespace, folder: Path) -> tuple[list[str], int]:
    """The arguments of a job's command, whose input is written to `folder`, and the number that it counts."""
    text, model = folder / f"{job}.csv", arguments.model
    if job == "finetune":
        with common.shared_file("nli/nli_triplets.csv").open(encoding="utf-8", newline="") as file:
            text.write_text("".join(islice(file, arguments.sentences + 1)), encoding="utf-8")
        command = ["--student", model, "--triplets", str(text)]
    else:
        text = text.with_suffix(".txt")
        text.write_text("\n".join(common.mixed_lines(arguments.sentences)) + "\n", encoding="utf-8")
        command = ["--teacher", model, "--student", model, "--keep-layers", arguments.layers, "--corpus", str(text)]
    if job == "encode":
        return ["encode", str(text), "--model", model], arguments.sentences
    how = {"max-steps": arguments.steps, "batch-size": arguments.batch_size, "eval-every": 0, "save-every": 0}
    steps = [f"--{name}={value}" for name, value in how.items()]
    return [job, *command, *steps], arguments.steps * arguments.batch_size


def main() -> None:
    parser = common.new_parser(__doc__)
    parser.add_argument("--against", type=Path, required=True, metavar="FOLDER", help="the other checkout")
    parser.add_argument("--jobs", default=",".join(JOBS), help="comma-separated (default: all)")
    parser.add_argument("--sentences", type=common.whole(), default=20_000, help="sentences to encode, and to train on")
    parser.add_argument("--steps", type=common.whole(), default=100, help="of training, a round; at most one epoch")
    parser.add_argument("--batch-size", type=common.whole(), default=128)
    parser.add_argument("--layers", default="0,3,5", help="layers of the model that `distill` trains")
    arguments = common.parse(parser)
    jobs = arguments.jobs.split(",")
    if not set(jobs) <= set(JOBS):
        parser.error(f"--jobs are some of {', '.join(JOBS)}, not {arguments.jobs}")

    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        for job in jobs:
            command, num = command_of(job, arguments, Path(name))
            starters = {
                side: partial(
                    Peer,
                    "benchmarks.checkouts:Checkout",
                    {"folder": str(folder), "command": command, "num": num},
                    threads=arguments.threads,
                )
                for side, folder in (("ours", ROOT), (OTHER, arguments.against.resolve()))
            }
            console.log(f"{job}: this checkout against {arguments.against}")
            results[job], _ = common.compare(starters, arguments.rounds, unit=JOBS[job], against=OTHER)
            facts = {"steps": arguments.steps, "batch_size": arguments.batch_size, "jobs": results}
            common.save("checkouts", arguments, facts)  # a later job may fail


if __name__ == "__main__":
    common.run(main)
