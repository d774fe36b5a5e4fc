"""Results of an evaluation: SentEval's nested dicts, and one small typed score for each task."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from senteval.correlation import Aggregation
from senteval.loading import Mode
from senteval.tasks import STS_TASKS, TRANSFER_TASKS


@dataclass(frozen=True, kw_only=True)
class StsScore:
    """Correlations × 100 over the subsets, by the evaluation's aggregation; None with a `reason` if undefined."""

    spearman: float | None
    pearson: float | None
    num_pairs: int
    reason: str | None = None

    def headline(self, mode: Mode) -> float | None:  # noqa: ARG002
        """The number that tables show."""
        return self.spearman


@dataclass(frozen=True, kw_only=True)
class TransferScore:
    """Accuracies of a classifier on the embeddings, and F1 for MRPC, in percent."""

    devacc: float
    acc: float
    num_dev: int
    num_test: int
    f1: float | None = None

    def headline(self, mode: Mode) -> float:
        """The number that tables show."""
        return self.devacc if mode == "dev" else self.acc


@dataclass(frozen=True, kw_only=True)
class RegressorScore:
    """Correlations × 100 of SentEval's trained relatedness model; `mse` is in squared units of the gold scale."""

    dev_spearman: float
    spearman: float | None
    pearson: float | None
    mse: float
    num_pairs: int
    reason: str | None = None

    def headline(self, mode: Mode) -> float | None:
        """The number that tables show."""
        return self.dev_spearman if mode == "dev" else self.spearman


Score = StsScore | TransferScore | RegressorScore


@dataclass(frozen=True, kw_only=True)
class Results:
    """Scores of one encoder."""

    mode: Mode
    aggregation: Aggregation
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """SentEval's result dict of each task, in plain numbers that fit JSON: correlations between -1 and 1,
    accuracies in percent."""
    scores: dict[str, Score] = field(default_factory=dict)
    """The scores of each task in short form; correlations × 100."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Requested tasks that the mode does not report, with the reason."""
    num_sentences: int = 0
    """Distinct sentences encoded."""

    @property
    def avg_sts(self) -> float | None:
        """Mean over the seven STS tasks before any rounding; None unless all seven have a score."""
        return self.average(STS_TASKS)

    @property
    def avg_transfer(self) -> float | None:
        """Mean over the seven transfer tasks; None unless all seven have a score."""
        return self.average(TRANSFER_TASKS)

    def headline(self, task: str) -> float | None:
        """The number that tables show for a task; None if it did not run or is undefined."""
        score = self.scores.get(task)
        return None if score is None else score.headline(self.mode)

    def average(self, tasks: Sequence[str]) -> float | None:
        """Mean of the headlines; None unless each task has one."""
        values = [self.headline(task) for task in tasks]
        numbers = [value for value in values if value is not None]
        return sum(numbers) / len(numbers) if numbers and len(numbers) == len(values) else None
