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
from senteval.tasks import Task
from senteval.transfer import features, protocol_of
from senteval.validation import L2_GRID, ClassifierSettings, Score, inner_kfold, kfold_then_test, split

TASKS = ("MR", "CR", "SUBJ", "MPQA", "SST2", "TREC", "MRPC")
SAMPLE_STEPS = 4000
PROTOCOL = protocol_of("test")


@dataclass(frozen=True)
class Job:
    """A transfer task with its features."""

    task: Task
    parts: list[tuple[np.ndarray, np.ndarray]]
    """(N, D) features and (N,) classes of each split."""

    def run(self) -> Score:
        """The whole protocol, all its classifiers together."""
        how: dict[str, Any] = {"settings": PROTOCOL.settings}
        if self.task.kind == "inner_kfold":
            return inner_kfold(*self.parts[0], num_folds=PROTOCOL.num_folds, **how)
        how["num_classes"] = self.task.num_classes
        if self.task.kind == "kfold":
            train, test = self.parts
            return kfold_then_test(*train, *test, num_folds=PROTOCOL.num_folds, **how)
        return split(*self.parts, **how)

    def sample(self) -> Fold:
        """Rows of the first part in the protocol's proportions; for a split its first train rows stand for dev."""
        num_rows, num_folds = len(self.parts[0][1]), PROTOCOL.num_folds
        rows = np.random.default_rng(0).permutation(num_rows)
        if self.task.kind == "split":
            return Fold(rows, rows[: len(self.parts[1][1])], L2_GRID[:1])
        outer = num_rows if self.task.kind == "kfold" else num_rows - num_rows // num_folds
        held = outer // num_folds
        return Fold(rows[held:outer], rows[:held], L2_GRID[:1])

    def sequential_seconds_a_step(self) -> float:
        """Train one classifier for a while, dev evaluations included; it never stops early."""
        fold, (X, y), settings = self.sample(), self.parts[0], PROTOCOL.settings
        steps_between_evaluations = settings.epoch_size * settings.steps_a_pass(len(fold.train))
        num_evaluations = -(-SAMPLE_STEPS // steps_between_evaluations)
        settings = replace(settings, max_epoch=settings.epoch_size * (num_evaluations - 1), tenacity=num_evaluations)
        start = time.perf_counter()
        [[fit]] = fit_sequentially(torch.from_numpy(X), torch.from_numpy(y), [fold], settings, self.task.num_classes)
        return (time.perf_counter() - start) / fit.num_steps

    def measure(self) -> tuple[float, float, Score]:
        """Seconds of all classifiers together, and one after another."""
        before = self.sequential_seconds_a_step()
        start = time.perf_counter()
        score = self.run()
        batched = time.perf_counter() - start
        return batched, (before + self.sequential_seconds_a_step()) / 2 * score.num_steps, score


def open_jobs(model: str, data: Path, names: Sequence[str]) -> list[Job]:
    """The tasks on a model's pooled embeddings, not normalized."""
    loaded = load_tasks([task for task in TASKS if task in names], data)

    def encode(sentences: list[str]) -> np.ndarray:
        runtime = choose_runtime("cpu", "float32")
        return Embedder(ModelRef(ref=model).load(), runtime, EncodeSettings(normalize=False)).sentences(sentences)

    embeddings = encode_distinct(encode, (sentence for task in loaded for sentence in task.sentences()))
    return [
        Job(task.task, [(features(embeddings.of_split(part)), part.labels) for part in task.splits.values()])
        for task in loaded
    ]


def warm_up() -> None:
    """Load libraries before the first round."""
    X = np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32)
    inner_kfold(X, (X[:, 0] > 0).astype(np.int64), num_folds=2, settings=ClassifierSettings(max_epoch=4))


def times(batched: Sequence[float], sequential: Sequence[float]) -> dict[str, Any]:
    """Medians and ranges over the rounds."""
    return {
        "batched_seconds": common.spread(batched),
        "sequential_seconds": common.spread(sequential),
        "ratio": common.spread([slow / fast for slow, fast in zip(sequential, batched, strict=True)]),
    }


def main() -> None:
    parser = common.new_parser(__doc__)
    parser.set_defaults(threads=1)  # more would be processes of the batched side only
    parser.add_argument("--tasks", default=",".join(TASKS), help="comma-separated")
    parser.add_argument("--data", type=Path, default=common.SHARED_DATA / "senteval")
    arguments = common.parse(parser)

    torch.set_num_threads(arguments.threads)
    names = arguments.tasks.split(",")
    if not set(names) <= set(TASKS):
        parser.error(f"--tasks are some of {', '.join(TASKS)}, not {arguments.tasks}")
    jobs = open_jobs(arguments.model, arguments.data, names)
    warm_up()
    rounds = []
    for number in range(arguments.rounds):
        rounds.append([job.measure() for job in jobs])
        console.log(f"round {number + 1}: " + ", ".join(f"{slow / fast:.1f}" for fast, slow, _ in rounds[-1]))

    tasks: dict[str, Any] = {}
    for job, measured in zip(jobs, zip(*rounds, strict=True), strict=True):
        score = measured[0][2]
        figures = times([fast for fast, _, _ in measured], [slow for _, slow, _ in measured])
        tasks[job.task.name] = {"acc": score.acc, "num_steps": score.num_steps, **figures}
    batched = [sum(fast for fast, _, _ in measured) for measured in rounds]
    sequential = [sum(slow for _, slow, _ in measured) for measured in rounds]
    facts = {
        "features": f"{arguments.model}, pooled",
        "mode": "test",
        "sequential": "seconds a step of a sample, times the steps of all fits",
        "tasks": tasks | {"all": times(batched, sequential)},
    }
    common.save("transfer", arguments, facts)


if __name__ == "__main__":
    common.run(main)
