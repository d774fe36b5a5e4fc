"""Two checkouts of this project: how a change moves the speed of `encode`, `distill` and `finetune`.

    python -m benchmarks.checkouts --against /path/to/another/checkout [--jobs encode,distill]

Both run the installed command of their own `.venv` on the same files, and alternate. Nothing else of
a checkout is used, so any two commits with these commands can be compared. Each round is a new
process; the command's own `seconds` leave out its start, loading and evaluations. A ratio above 1
means that this checkout is faster.
"""

import argparse
import json
import os
import resource
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.peer import ROOT, SideFailed, thread_variables
from distilcse_cli import console

OTHER = "the other checkout"


class Checkout:
    """A command of a checkout, once a round, as a side. The first time, which fills the data home, is not counted.

    Args:
        folder: checkout with a `.venv`.
        arguments: of `distilcse`, without `--json`.
        num: gives the number of sentences or triples done, from the command's result.
        threads: of the command.

    Raises:
        SideFailed: the command is missing or failed.
    """

    def __init__(
        self, folder: Path, arguments: list[str], num: Callable[[dict[str, Any]], int], *, threads: int
    ) -> None:
        self._command = [str(folder / ".venv" / "bin" / "distilcse"), *arguments, "--json"]
        self._num, self._environment = num, os.environ | thread_variables(threads)
        self.facts = {"commit": _commit(folder), "folder": str(folder)}
        self.run()

    def run(self) -> dict[str, Any]:
        """Run the command."""
        try:
            done = subprocess.run(self._command, env=self._environment, capture_output=True, text=True, check=False)
        except OSError as error:
            raise SideFailed(f"cannot run {self._command[0]}: {error.strerror}") from error
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [""]
            raise SideFailed(f"{self._command[0]} ended with exit code {done.returncode}: {lines[-1]}")
        result = json.loads(done.stdout)
        # of the largest child so far, not of this one: the kernel keeps no other figure
        most = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        return {"num": self._num(result), "seconds": result["seconds"], "resident_bytes": most}

    def close(self) -> None:
        """Nothing runs between rounds."""


def _commit(folder: Path) -> str:
    """The commit that is checked out, with `-dirty` if files differ from it; empty without git."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def _encode(arguments: argparse.Namespace, folder: Path) -> list[str]:
    lines = folder / "lines.txt"
    lines.write_text("\n".join(common.mixed_lines(arguments.sentences)) + "\n", encoding="utf-8")
    return ["encode", str(lines), "--model", arguments.model, "--out"]


def _distill(arguments: argparse.Namespace, folder: Path) -> list[str]:
    news = folder / "news.txt"
    news.write_text("\n".join(common.read_lines("news")[: arguments.sentences]) + "\n", encoding="utf-8")
    models = ["--teacher", arguments.model, "--student", arguments.model, "--keep-layers", arguments.layers]
    return ["distill", *models, "--corpus", str(news), *_steps(arguments)]


def _finetune(arguments: argparse.Namespace, folder: Path) -> list[str]:
    table = folder / "triples.csv"
    with common.shared_file("nli/nli_triplets.csv").open(encoding="utf-8", newline="") as file:
        table.write_text("".join(islice(file, arguments.sentences + 1)), encoding="utf-8")
    return ["finetune", "--student", arguments.model, "--triplets", str(table), *_steps(arguments)]


def _steps(arguments: argparse.Namespace) -> list[str]:
    how = {"max-steps": arguments.steps, "batch-size": arguments.batch_size, "eval-every": 0, "save-every": 0}
    return [*(f"--{name}={value}" for name, value in how.items()), "--overwrite", "--out"]


JOBS = {"encode": (_encode, "sentences"), "distill": (_distill, "sentences"), "finetune": (_finetune, "triples")}
"""Name -> arguments of its command but for the value of the last one, `--out`; the unit that is counted."""


def main() -> None:
    parser = common.new_parser(__doc__)
    common.add_model(parser)
    parser.add_argument("--against", type=Path, required=True, metavar="FOLDER", help="the other checkout")
    parser.add_argument("--jobs", default=",".join(JOBS), help="comma-separated (default: all)")
    parser.add_argument("--sentences", type=common.whole(), default=20_000, help="sentences to encode, and to train on")
    parser.add_argument("--steps", type=common.whole(), default=100, help="of training, a round")
    parser.add_argument("--batch-size", type=common.whole(), default=128)
    parser.add_argument("--layers", default="0,2,5", help="layers of the model that `distill` trains")
    arguments = parser.parse_args()
    jobs = arguments.jobs.split(",")
    if not set(jobs) <= set(JOBS):
        parser.error(f"--jobs are some of {', '.join(JOBS)}, not {arguments.jobs}")

    before = common.pinned_machine(arguments.threads)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        for job in jobs:
            write, unit = JOBS[job]
            command = write(arguments, Path(name))

            def num(result: dict[str, Any], job: str = job) -> int:
                return result["num_rows"] if job == "encode" else result["num_steps"] * arguments.batch_size

            starters = {
                side: partial(
                    Checkout, folder, [*command, f"{name}/{job}-{number}.npy"], num, threads=arguments.threads
                )
                for number, (side, folder) in enumerate({"ours": ROOT, OTHER: arguments.against.resolve()}.items())
            }
            console.log(f"{job}: this checkout against {arguments.against}")
            results[job], _ = common.compare(starters, arguments.rounds, unit=unit, against=OTHER)
            common.show(results[job], {})
            facts = {"rounds": arguments.rounds, "steps": arguments.steps, "batch_size": arguments.batch_size}
            common.save("checkouts", facts | {"jobs": results}, before, arguments.out)  # a later job may fail


if __name__ == "__main__":
    common.run(main)
