"""How much faster SentEval's transfer classifiers train together than one after another.

    python -m benchmarks.transfer

Both sides run in turn on the same embeddings in one process: a piece of the sequential path, the
whole batched protocol, another piece of the sequential path. The sequential side would take most
of an hour, so a sample stands for it: the seconds of a step, measured on one classifier with as many
rows as the protocol's and as frequent dev evaluations, times the optimizer steps of all classifiers,
which the batched side counts. The sequential path keeps to one torch thread, which suits its small
steps best.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import common
from distilcse_cli import console
from distilcse_cli.config import EncodeSettings
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.reference import ModelRef
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
    """Seconds of one task in one round."""

    batched: float
    sequential: float
    """Estimated from a sample."""
    score: Score

    @property
    def ratio(self) -> float:
        """How many times faster."""
        return self.sequential / self.batched


@dataclass(frozen=True)
class Job:
    """A transfer task's features and its way of validation."""

    name: str
    kind: str
    parts: list[Part]
    num_classes: int
    settings: ClassifierSettings
    num_folds: int

    def run(self) -> Score:
        """The whole protocol, all its classifiers together."""
        if self.kind == "inner_kfold":
            return inner_kfold(*self.parts[0], num_folds=self.num_folds, settings=self.settings)
        how: dict[str, Any] = {"settings": self.settings, "num_classes": self.num_classes}
        if self.kind == "kfold":
            train, test = self.parts
            return kfold_then_test(*train, *test, num_folds=self.num_folds, **how)
        return split(*self.parts, **how)

    def sample(self) -> Fold:
        """Rows of the first part in the protocol's proportions; for a split its first train rows stand for dev."""
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


def measure(job: Job) -> Measured:
    """Both sides in turn."""
    before = sequential_seconds_a_step(job)
    start = time.perf_counter()
    score = job.run()
    batched = time.perf_counter() - start
    return Measured(batched, (before + sequential_seconds_a_step(job)) / 2 * score.num_steps, score)


def open_jobs(model: str, data: Path, names: Sequence[str]) -> list[Job]:
    """The tasks on a model's pooled embeddings, not normalized."""
    loaded = load_tasks([task for task in TASKS if task in names], data)

    def encode(sentences: list[str]) -> np.ndarray:
        runtime = choose_runtime("cpu", "float32")
        return Embedder(ModelRef(ref=model).load(), runtime, EncodeSettings(normalize=False)).sentences(sentences)

    embeddings = encode_distinct(encode, (sentence for task in loaded for sentence in task.sentences()))
    protocol = protocol_of("test")
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


def warm_up() -> None:
    """Load libraries before the first round."""
    X = np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32)
    inner_kfold(X, (X[:, 0] > 0).astype(np.int64), num_folds=2, settings=ClassifierSettings(max_epoch=4))


def report(jobs: Sequence[Job], rounds: Sequence[Sequence[Measured]]) -> dict[str, Any]:
    """Medians and ranges of each task and of all."""
    tasks: dict[str, Any] = {}
    for job, measured in zip(jobs, zip(*rounds, strict=True), strict=True):
        score = measured[0].score
        tasks[job.name] = {"acc": score.acc, "num_steps": score.num_steps, **_times(measured)}
    totals = [
        Measured(sum(one.batched for one in measured), sum(one.sequential for one in measured), measured[0].score)
        for measured in rounds
    ]
    return tasks | {"all": _times(totals)}


def _times(measured: Sequence[Measured]) -> dict[str, Any]:
    return {
        "batched_seconds": common.spread([one.batched for one in measured]),
        "sequential_seconds": common.spread([one.sequential for one in measured]),
        "ratio": common.spread([one.ratio for one in measured]),
    }


def main() -> None:
    parser = common.new_parser(__doc__)
    common.add_model(parser)
    parser.set_defaults(threads=1)  # more would be processes of the batched side only
    parser.add_argument("--tasks", default=",".join(TASKS), help="comma-separated")
    parser.add_argument("--data", type=Path, default=common.SHARED_DATA / "senteval")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    before = common.machine() | {"threads": arguments.threads}
    names = arguments.tasks.split(",")
    if not set(names) <= set(TASKS):
        parser.error(f"--tasks are some of {', '.join(TASKS)}, not {arguments.tasks}")
    jobs = open_jobs(arguments.model, arguments.data, names)
    warm_up()
    rounds = []
    for number in range(arguments.rounds):
        rounds.append([measure(job) for job in jobs])
        console.log(f"round {number + 1}: " + ", ".join(f"{m.ratio:.1f}" for m in rounds[-1]))

    tasks = report(jobs, rounds)
    rows = [
        [
            name,
            f"{task['acc']:.2f}" if "acc" in task else "",
            f"{task['sequential_seconds']['median']:.1f}",
            f"{task['batched_seconds']['median']:.2f}",
            f"{task['ratio']['median']:.1f}",
            common.between(task["ratio"]),
        ]
        for name, task in tasks.items()
    ]
    header = ("task", "accuracy", "sequential, s", "batched, s", "ratio", "over the rounds")
    console.result(console.table(header, rows, align="lrrrrr"))
    facts = {
        "features": f"{arguments.model}, pooled",
        "mode": "test",
        "sequential": "seconds a step of a sample, times the steps of all fits",
        "rounds": arguments.rounds,
        "tasks": tasks,
    }
    common.save("transfer", facts, before, arguments.out)


if __name__ == "__main__":
    common.run(main)
