"""How much faster SentEval's transfer classifiers train together than one after another.

    python -m benchmarks.transfer

Both sides run on the same embeddings in one process, in turn: a piece of the sequential path, the
whole batched protocol, another piece of the sequential path. The sequential side would take most
of an hour, so a sample stands for it: seconds a step, measured on one classifier with as many rows
as the protocol's and dev evaluations as often, times the optimizer steps of all the classifiers,
which the batched side counts one by one. `--whole` runs all of it instead. The sequential path
keeps to one torch thread, which suits its small steps best.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import SHARED_DATA, add_options, machine, run, save, spread
from distilcse_cli import console
from distilcse_cli.config import EncodeSettings
from distilcse_cli.runtime import choose_runtime
from senteval.classifier import Fold, fit_sequentially
from senteval.embedding import encode_distinct
from senteval.loading import load_tasks
from senteval.transfer import features, protocol_of
from senteval.validation import L2_GRID, ClassifierSettings, Score, inner_kfold, kfold_then_test, split

TASKS = ("MR", "CR", "SUBJ", "MPQA", "SST2", "TREC", "MRPC")
SAMPLE_STEPS = 4000

Part = tuple[np.ndarray, np.ndarray]
"""(N, D) features and (N,) classes."""


@dataclass(frozen=True)
class Measured:
    """One task in one round."""

    batched: float
    """Seconds."""
    sequential: float
    """Seconds, measured or estimated from a sample."""
    score: Score

    @property
    def ratio(self) -> float:
        """How many times faster."""
        return self.sequential / self.batched


@dataclass(frozen=True)
class Job:
    """A transfer task's features, and how it is validated."""

    name: str
    kind: str
    parts: list[Part]
    num_classes: int
    settings: ClassifierSettings
    num_folds: int

    def run(self, *, sequential: bool) -> Score:
        """The whole protocol."""
        how: dict[str, Any] = {"settings": self.settings, "sequential": sequential}
        if self.kind == "inner_kfold":
            return inner_kfold(*self.parts[0], num_folds=self.num_folds, **how)
        if self.kind == "kfold":
            train, test = self.parts
            how |= {"num_classes": self.num_classes, "num_folds": self.num_folds}
            return kfold_then_test(*train, *test, **how)
        train, dev, test = self.parts
        return split(train, dev, test, num_classes=self.num_classes, **how)

    def sample(self) -> Fold:
        """Rows of the first part in the protocol's proportions; a split's dev rows are as many of its train rows."""
        num_rows = len(self.parts[0][1])
        rows = np.random.default_rng(0).permutation(num_rows)
        if self.kind == "split":
            return Fold(rows, rows[: len(self.parts[1][1])], L2_GRID[:1])
        outer = num_rows if self.kind == "kfold" else num_rows - num_rows // self.num_folds
        held = outer // self.num_folds
        return Fold(rows[held:outer], rows[:held], L2_GRID[:1])


def sequential_seconds_a_step(job: Job) -> float:
    """Train one classifier for a while, never stopping early, dev evaluations included."""
    fold, (X, y) = job.sample(), job.parts[0]
    steps_between_evaluations = job.settings.epoch_size * job.settings.steps_a_pass(len(fold.train))
    num_evaluations = -(-SAMPLE_STEPS // steps_between_evaluations)
    settings = replace(
        job.settings, max_epoch=job.settings.epoch_size * (num_evaluations - 1), tenacity=num_evaluations
    )
    tensors = torch.from_numpy(X), torch.from_numpy(y)
    start = time.perf_counter()
    [[fit]] = fit_sequentially(*tensors, [fold], settings, job.num_classes)
    seconds = time.perf_counter() - start
    return seconds / fit.num_steps


def measure(job: Job, *, whole: bool) -> Measured:
    """Both sides in turn."""
    before = 0.0 if whole else sequential_seconds_a_step(job)
    start = time.perf_counter()
    score = job.run(sequential=False)
    batched = time.perf_counter() - start
    if not whole:
        return Measured(batched, (before + sequential_seconds_a_step(job)) / 2 * score.num_steps, score)
    start = time.perf_counter()
    expected = job.run(sequential=True)
    sequential = time.perf_counter() - start
    if (score.devacc, score.acc) != (expected.devacc, expected.acc):
        console.warn(f"{job.name}: batched {score.devacc} {score.acc}, sequential {expected.devacc} {expected.acc}")
    return Measured(batched, sequential, score)


def real_jobs(model: str, data: Path, mode: Any) -> list[Job]:
    """The tasks on a model's pooled embeddings, not normalized."""
    loaded = load_tasks(TASKS, data, mode=mode)

    def encode(sentences: list[str]) -> np.ndarray:
        from distilcse_cli.models.embed import Embedder
        from distilcse_cli.models.encoder import load_encoder

        runtime = choose_runtime("cpu", "float32")
        return Embedder(load_encoder(model), runtime, EncodeSettings(normalize=False)).sentences(sentences)

    embeddings = encode_distinct(encode, (sentence for task in loaded for sentence in task.sentences()))
    protocol = protocol_of(mode)
    return [
        Job(
            task.task.name,
            task.task.kind,
            [(features(embeddings.of_split(part)), part.labels) for part in task.splits.values()],
            task.task.num_classes,
            protocol.settings,
            protocol.num_folds,
        )
        for task in loaded
    ]


def random_jobs(width: int, mode: Any) -> list[Job]:
    """Noise with a direction in it for each class, in the tasks' sizes."""
    sizes: dict[str, tuple[str, int, tuple[int, ...]]] = {
        "MR": ("inner_kfold", 2, (10662,)),
        "CR": ("inner_kfold", 2, (3775,)),
        "SUBJ": ("inner_kfold", 2, (10000,)),
        "MPQA": ("inner_kfold", 2, (10606,)),
        "SST2": ("split", 2, (67349, 872, 1821)),
        "TREC": ("kfold", 6, (5452, 500)),
        "MRPC": ("kfold", 2, (4076, 1725)),
    }
    rng, protocol = np.random.default_rng(0), protocol_of(mode)
    jobs = []
    for name, (kind, num_classes, lengths) in sizes.items():
        num_features = 2 * width if name == "MRPC" else width
        directions = rng.normal(size=(num_features, num_classes))
        parts = []
        for length in lengths:
            X = rng.normal(scale=0.25, size=(length, num_features)).astype(np.float32)
            noise = rng.normal(scale=0.5 * np.sqrt(num_features), size=(length, num_classes))
            parts.append((X, (X @ directions + noise).argmax(axis=1)))
        jobs.append(Job(name, kind, parts, num_classes, protocol.settings, protocol.num_folds))
    return jobs


def warm_up() -> None:
    """Have libraries loaded before the first round."""
    X = np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32)
    inner_kfold(X, (X[:, 0] > 0).astype(np.int64), num_folds=2, settings=ClassifierSettings(max_epoch=4))


def report(jobs: Sequence[Job], rounds: Sequence[Sequence[Measured]]) -> dict[str, Any]:
    """Medians and spreads by task and over all."""

    def total(field: Callable[[Measured], float]) -> list[float]:
        return [sum(field(measured) for measured in measured_round) for measured_round in rounds]

    batched, sequential = total(lambda one: one.batched), total(lambda one: one.sequential)
    tasks: dict[str, Any] = {}
    for job, measured in zip(jobs, zip(*rounds, strict=True), strict=True):
        tasks[job.name] = {
            "acc": measured[0].score.acc,
            "num_steps": measured[0].score.num_steps,
            "batched_seconds": spread([one.batched for one in measured]),
            "sequential_seconds": spread([one.sequential for one in measured]),
            "ratio": spread([one.ratio for one in measured]),
        }
    tasks["all"] = {
        "batched_seconds": spread(batched),
        "sequential_seconds": spread(sequential),
        "ratio": spread([slow / fast for slow, fast in zip(sequential, batched, strict=True)]),
    }
    return tasks


def table(tasks: dict[str, Any]) -> str:
    def row(name: str, task: dict[str, Any]) -> list[str]:
        ratio = task["ratio"]
        return [
            name,
            f"{task['acc']:.2f}" if "acc" in task else "",
            f"{task['sequential_seconds']['median']:.1f}",
            f"{task['batched_seconds']['median']:.2f}",
            f"{ratio['median']:.1f}",
            f"{ratio['min']:.1f} to {ratio['max']:.1f}",
        ]

    header = ("task", "accuracy", "sequential, s", "batched, s", "ratio", "over the rounds")
    return console.table(header, [row(name, task) for name, task in tasks.items()], align="lrrrrr")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.set_defaults(threads=1)  # several are processes of the batched side, which the other side has not
    parser.add_argument("--tasks", default=",".join(TASKS), help="comma-separated")
    parser.add_argument("--mode", choices=("test", "fasttest"), default="test")
    parser.add_argument("--model", default="all-minilm-l6", help="folder, catalogue name or hub id")
    parser.add_argument("--data", type=Path, default=SHARED_DATA / "senteval")
    parser.add_argument("--random", type=int, metavar="WIDTH", help="random features of this width, no model or data")
    parser.add_argument("--whole", action="store_true", help="run all of the sequential side, not a sample of it")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    before = machine() | {"threads": arguments.threads}
    names = arguments.tasks.split(",")
    if not set(names) <= set(TASKS):
        parser.error(f"--tasks are some of {', '.join(TASKS)}, not {arguments.tasks}")
    if arguments.random:
        jobs = random_jobs(arguments.random, arguments.mode)
    else:
        jobs = real_jobs(arguments.model, arguments.data, arguments.mode)
    jobs = [job for job in jobs if job.name in names]
    warm_up()
    rounds = []
    for number in range(arguments.rounds):
        rounds.append([measure(job, whole=arguments.whole) for job in jobs])
        console.log(f"round {number + 1}: " + ", ".join(f"{m.ratio:.1f}" for m in rounds[-1]))

    tasks = report(jobs, rounds)
    console.result(table(tasks))
    facts = {
        "features": f"random, {arguments.random} wide" if arguments.random else f"{arguments.model}, pooled",
        "mode": arguments.mode,
        "sequential": "whole" if arguments.whole else "seconds a step of a sample, times the steps of all fits",
        "rounds": arguments.rounds,
        "tasks": tasks,
    }
    save("transfer", facts, before, arguments.out)


if __name__ == "__main__":
    run(main)
