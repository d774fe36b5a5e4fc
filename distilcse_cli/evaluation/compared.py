"""What a comparison of students with their teacher found: as a table, as JSON, and against least values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

import numpy as np

from distilcse_cli import console
from distilcse_cli.evaluation import verdict
from distilcse_cli.evaluation.retrieval import LabelScores
from distilcse_cli.evaluation.verdict import Fault
from distilcse_cli.teacher.closeness import Closeness, Spread

HISTOGRAM_EDGES = np.linspace(-1, 1, 41)
MILLION = 1_000_000


@dataclass(frozen=True, kw_only=True)
class ModelResult:
    """One model of a comparison. A figure is None where it was not measured, as of a teacher that is a store."""

    name: str
    """Short, and different for each model."""
    source: str
    """The reference as typed."""
    pooling: str | None
    num_layers: int | None
    num_parameters: int | None
    embedding_dim: int
    num_truncated: int
    """Sentences that were cut to the model's limit."""
    bytes_on_disk: int | None
    peak_memory_bytes: int | None
    """Of a process that loads the model and embeds the timed sentences, Python and torch included."""
    sentences_per_second: float | None
    """Median of interleaved rounds, tokenization included."""
    price_per_hour: float | None
    spread: Spread
    random_histogram: np.ndarray
    """(40,) counts of the random pairs' cosines between `HISTOGRAM_EDGES`."""
    near_histogram: np.ndarray
    """(40,) the same of the near pairs."""
    labels: LabelScores

    @property
    def seconds_per_million(self) -> float | None:
        """Seconds for a million sentences at that speed."""
        return None if self.sentences_per_second is None else MILLION / self.sentences_per_second

    @property
    def cost_per_million(self) -> float | None:
        """Price of a million sentences; None without a price."""
        seconds = self.seconds_per_million
        return None if seconds is None or self.price_per_hour is None else seconds / 3600 * self.price_per_hour

    def metrics(self) -> dict[str, float | None]:
        """The figures that say how good the model is, by name."""
        return {
            **self.spread.as_dict(),
            "sentences_per_second": self.sentences_per_second,
            "seconds_per_million": self.seconds_per_million,
            "cost_per_million": self.cost_per_million,
            **self.labels.as_dict(),
        }

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        facts = ("name", "source", "pooling", "num_layers", "num_parameters", "embedding_dim", "num_truncated")
        sizes = ("bytes_on_disk", "peak_memory_bytes")
        return {
            **{field: getattr(self, field) for field in (*facts, *sizes)},
            **self.metrics(),
            "random_histogram": self.random_histogram.tolist(),
            "near_histogram": self.near_histogram.tolist(),
        }


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """A sentence whose neighbours the two models see differently."""

    sentence: str
    shared10: int
    """How many of the teacher's ten nearest are among the student's."""
    fall: float
    """Mean of teacher's minus student's cosine of the sentence and the teacher's ten nearest."""
    teacher_nearest: str
    teacher_nearest_cosines: tuple[float, float]
    """Of sentence and teacher's nearest: by the teacher, by the student."""
    student_nearest: str
    student_nearest_cosines: tuple[float, float]
    """Of sentence and student's nearest: by the teacher, by the student."""


@dataclass(frozen=True, kw_only=True)
class StudentResult(ModelResult):
    """A student beside its teacher."""

    closeness: Closeness
    rank_ratio: float
    """Effective rank by the teacher's, or by the student's width if that is less. Low is collapsed."""
    same_space: bool
    """Whether the student's folder says that its vectors live in the teacher's space."""
    scatter: np.ndarray
    """(n, 2) cosines of some of the pairs by the teacher and by the student."""
    worst: tuple[Disagreement, ...]
    """The sentences with the fewest shared neighbours, of equal ones those with the largest fall."""

    def metrics(self) -> dict[str, float | None]:
        """As for any model, and how close it is to the teacher."""
        return {**self.closeness.as_dict(), **super().metrics(), "rank_ratio": self.rank_ratio}

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            **super().as_dict(),
            "same_space": self.same_space,
            "scatter": self.scatter.tolist(),
            "worst": [asdict(one) for one in self.worst],
        }


@dataclass(frozen=True, kw_only=True, repr=False)
class CompareResult:
    """Students beside their teacher on the same sentences."""

    teacher: ModelResult
    students: tuple[StudentResult, ...]
    least: Mapping[str, float]
    """The least values by which students are judged."""
    num_sentences: int
    corpus: str
    counts: Mapping[str, int]
    """Of queries, random pairs and near pairs."""
    seed: int
    machine: str
    """CPU, threads, device and number format of the speeds."""

    def faults(self) -> dict[str, tuple[Fault, ...]]:
        """What each student lacks, by its name; nothing if it is good enough."""
        return {one.name: verdict.faults(one.metrics(), self.least) for one in self.students}

    def require(self) -> None:
        """Fail if a student is not good enough.

        Raises:
            VerdictError: naming the first one, and what it lacks.
        """
        verdict.require(self.faults())

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON. Shares are from 0 to 1."""
        found = self.faults()
        return {
            "teacher": self.teacher.as_dict(),
            "students": [
                {
                    **one.as_dict(),
                    "good_enough": not found[one.name],
                    "faults": [asdict(fault) for fault in found[one.name]],
                }
                for one in self.students
            ],
            "least": dict(self.least),
            "corpus": self.corpus,
            "num_sentences": self.num_sentences,
            **self.counts,
            "seed": self.seed,
            "histogram_edges": HISTOGRAM_EDGES.tolist(),
            "machine": self.machine,
        }

    def how(self) -> str:
        """How the sentences and pairs were drawn, in two sentences."""
        return (
            f"{self.counts['num_queries']:,} of {self.num_sentences:,} sentences, drawn with seed {self.seed}, look for"
            f" their neighbours among all others. Pairs: {self.counts['num_random_pairs']:,} random ones, and"
            f" {self.counts['num_near_pairs']:,} of these sentences with the teacher's ten nearest of each."
        )

    def verdicts(self) -> list[str]:
        """A line for each student."""
        return [
            f"{name}: {'not good enough: ' + ', '.join(map(str, some)) if some else 'good enough'}"
            for name, some in self.faults().items()
        ]

    def rows(self) -> list[tuple[str, list[str]]]:
        """The lines of the table: what it is, and a cell for the teacher and each student."""
        models: list[ModelResult] = [self.teacher, *self.students]
        all_metrics = [one.metrics() for one in models]
        lines = [(label, [_cell(one, field) for one in models]) for field, label in _FACTS.items()]
        for name, (label, digits) in _MEASURES.items():
            values = [metrics.get(name) for metrics in all_metrics]
            if any(value is not None for value in values):
                lines.append((label, ["-" if value is None else f"{value:,.{digits}f}" for value in values]))
        return [(label, cells) for label, cells in lines if any(cell != "-" for cell in cells)]

    def table(self) -> str:
        """The table, how it was made, and the verdict."""
        return "\n".join([console.table(*self._cells(), align=self._align), *self._remarks()])

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        """The same for notebooks."""
        remarks = "".join(f"<p>{escape(line)}</p>" for line in self._remarks())
        return console.html_table(*self._cells(), align=self._align) + remarks

    @property
    def _align(self) -> str:
        return "l" + "r" * (1 + len(self.students))

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        header = ["", f"{self.teacher.name} (teacher)", *(one.name for one in self.students)]
        return header, [[label, *cells] for label, cells in self.rows()]

    def _remarks(self) -> list[str]:
        return [self.how(), f"Speed: {self.machine}.", *self.verdicts()]


_FACTS = {
    "num_layers": "layers",
    "num_parameters": "parameters, million",
    "embedding_dim": "width",
    "bytes_on_disk": "MB on disk",
    "peak_memory_bytes": "MB of memory, peak",
}
_MEASURES = {
    "sentences_per_second": ("sentences/s", 0),
    "seconds_per_million": ("seconds per million", 0),
    "cost_per_million": ("cost per million", 2),
    "spearman": ("Spearman, both kinds", 3),
    "spearman_random": ("Spearman, random pairs", 3),
    "spearman_near": ("Spearman, near pairs", 3),
    "shared1": ("nearest shared", 3),
    "shared10": ("10 nearest shared", 3),
    "shared100": ("100 nearest shared", 3),
    "asymmetric1": ("nearest shared, on teacher's index", 3),
    "asymmetric10": ("10 nearest shared, on teacher's index", 3),
    "asymmetric100": ("100 nearest shared, on teacher's index", 3),
    "cosine": ("cosine with the teacher's vector", 3),
    "spread": ("spread: mean cosine of random pairs", 3),
    "uniformity": ("uniformity", 2),
    "effective_rank": ("effective rank", 1),
    "rank_ratio": ("effective rank / teacher's", 3),
    "labels_spearman": ("Spearman with your scores", 3),
    "ndcg10": ("nDCG@10", 3),
    "recall1": ("recall@1", 3),
    "recall10": ("recall@10", 3),
    "recall100": ("recall@100", 3),
}
LABELS = {**_FACTS, **{name: label for name, (label, _) in _MEASURES.items()}}
"""Figure -> its line in the table."""


def _cell(model: ModelResult, field: str) -> str:
    value = getattr(model, field)
    if value is None:
        return "-"
    return f"{value:,}" if field in ("num_layers", "embedding_dim") else f"{value / 1e6:,.1f}"
