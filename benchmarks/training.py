"""What `distill` and `finetune` share: options, the student, sentence-transformers' trainer, the result.

All sides train the same student, some layers of the teacher, in slices that alternate. The first steps
of a slice are not counted. Each of our batches has sentences of one length, so our slices have more
steps; each slice then has batches of all lengths.
"""

import argparse
import os
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.peer import Peer
from distilcse_cli.models.folder import save_student
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.runtime import Runtime, choose_runtime

ST_SIDES = {
    "sentence-transformers fp32": (False, False),
    "sentence-transformers fp32, eager attention, no dropout": (False, True),
    "sentence-transformers bf16": (True, False),
    "sentence-transformers bf16, eager attention, no dropout": (True, True),
}
"""Name -> bf16, tuned."""
OUR_STEPS = 5
"""Our steps to one of theirs: with 12 batches of one length each, our rate was 335/s in one round, 532/s in another."""


def training_parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the options of both stages."""
    parser = common.new_parser(doc)
    parser.add_argument("--layers", default="0,3,5", help="layers of the model that the student keeps")
    parser.add_argument("--batch-size", type=common.whole(), default=128)
    parser.add_argument(
        "--steps", type=common.whole(), default=12, help=f"counted steps of a slice; ours has {OUR_STEPS} times as many"
    )
    parser.add_argument("--warmup-steps", type=common.whole(), default=3, help="steps before them")
    parser.add_argument(
        "--st-python",
        default=os.environ.get("BENCH_ST_PYTHON"),
        help="interpreter that has sentence-transformers[train] (default: $BENCH_ST_PYTHON, else this one)",
    )
    return parser


def write_student(arguments: argparse.Namespace, folder: Path) -> str:
    """Save the student that all sides start from."""
    layers = tuple(int(number) for number in arguments.layers.split(","))
    student = ModelRef(ref=arguments.model, keep_layers=layers).load()
    save_student(student, folder / "student", card="", settings={})
    return str(folder / "student")


def of_slice(arguments: argparse.Namespace, times: int = 1) -> dict[str, int]:
    """Settings of a slice with `times` the steps of `--steps`."""
    return {
        "batch_size": arguments.batch_size,
        "num_warmup": arguments.warmup_steps,
        "num_steps": times * arguments.steps,
    }


def worth_trying(runtime: Runtime) -> dict[str, tuple[bool, bool]]:
    """The trainer at its defaults, and both ways in this runtime's number format."""
    bf16 = runtime.dtype == "bfloat16"
    return {name: how for name, how in ST_SIDES.items() if how == (False, False) or how[0] == bf16}


def compare_trainers(
    name: str,
    arguments: argparse.Namespace,
    ours: common.Starters,
    *,
    unit: str,
    of_st: dict[str, str],
    facts: dict[str, Any],
) -> None:
    """Let our sides and the trainer's alternate; print and save the result.

    Args:
        name, arguments: of the benchmark.
        ours: all sides but the trainer's.
        unit: what is counted.
        of_st: what the trainer's sides train, and on what.
        facts: more for the result file.
    """
    runtime = choose_runtime("cpu")

    def trainer(bf16: bool, tuned: bool) -> Peer:
        settings = of_st | of_slice(arguments) | {"bf16": bf16, "tuned": tuned}
        return Peer("benchmarks.st_sides:STTrainer", settings, threads=arguments.threads, python=arguments.st_python)

    starters: common.Starters = {
        **ours,
        **{side: partial(trainer, *how) for side, how in worth_trying(runtime).items()},
    }
    sides, failed = common.compare(starters, arguments.rounds, unit=unit)
    failed |= common.without_bf16(ST_SIDES, runtime)
    facts |= {"our_steps": OUR_STEPS * arguments.steps, "layers": arguments.layers, "sides": sides, "failed": failed}
    common.save(name, arguments, of_slice(arguments) | facts)
