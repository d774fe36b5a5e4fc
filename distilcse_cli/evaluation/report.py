"""The report of `distilcse eval`: tables as in the papers, JSON, and remarks on missing numbers."""

import importlib.metadata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from html import escape
from typing import Any, cast

from distilcse_cli import console
from distilcse_cli.evaluation.scoring import Evaluation
from distilcse_cli.evaluation.settings import EvalSettings, Mode
from distilcse_cli.evaluation.tasks import EvalData
from distilcse_cli.paths import expanded
from senteval import STS_TASKS, TRANSFER_TASKS, Results, TransferScore, protocol_of
from senteval.results import Score
from senteval.tables import Table, other_table, sts_table, transfer_table

TEACHER = "teacher"
PACKAGES = ("distilcse", "torch", "transformers", "tokenizers", "numpy", "scipy")
"""Packages whose versions stand in a file of results."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Report:
    """Results of one or more models on the same tasks."""

    evaluations: tuple[Evaluation, ...]
    teacher: Evaluation | None
    data: EvalData
    settings: EvalSettings

    @cached_property
    def by_label(self) -> dict[str, Evaluation]:
        """Evaluations by a short, unique name of their model. The teacher comes first, as `teacher`."""
        labeled = {TEACHER: self.teacher} if self.teacher else {}
        for one in self.evaluations:
            name = short_name(one.model)
            if name == TEACHER or [short_name(other.model) for other in self.evaluations].count(name) > 1:
                name = one.model
            labeled[f"{name} ({one.pooler})" if name in labeled else name] = one
        return labeled

    @property
    def is_single(self) -> bool:
        """Whether there is one model and nothing to compare it with."""
        return len(self.by_label) == 1

    def text(self) -> str:
        """The tables that have tasks, under a header with the conditions of the evaluation."""
        return "\n".join([f"------ {self.settings.mode} ------", self._conditions(), *map(_draw, self._tables())])

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        """Conditions, tables and remarks, for notebooks."""
        lines = "".join(f"<p>{escape(line)}</p>" for line in [self._conditions(), *self.remarks()])
        return lines + "".join(console.html_table(one.header, one.rows, align=_align(one)) for one in self._tables())

    @property
    def scores(self) -> dict[str, dict[str, float | None]]:
        """Score x 100 of each task and average, by the short name of each model; None where it is undefined."""
        averages = self.average_names()
        return {
            label: {task: one.results.headline(task) for task in one.results.scores}
            | {name: one.results.average(tasks) for name, tasks in averages.items()}
            for label, one in self.by_label.items()
        }

    def as_dict(self) -> dict[str, Any]:
        """Scores × 100, unrounded: those of one model, or of several under `results`, beside `teacher`."""
        if self.is_single:
            return self._scores(self.evaluations[0])
        results = [self._scores(one) for one in self.evaluations]
        if self.teacher is None:
            return {"results": results}
        for one, entry in zip(self.evaluations, results, strict=True):
            entry["difference"] = self._difference(one, self.teacher)
        return {"teacher": self._scores(self.teacher), "results": results}

    def senteval_dict(self) -> dict[str, Any]:
        """SentEval's results by task, and `settings`: of one model, or of several under `results`, `teacher`."""
        if self.is_single:
            return self._senteval_entry(self.evaluations[0])
        results = {"results": [self._senteval_entry(one) for one in self.evaluations]}
        return {"teacher": self._senteval_entry(self.teacher), **results} if self.teacher else results

    def remarks(self) -> list[str]:
        """Why numbers are missing."""
        lines = []
        reasons: dict[str, list[str]] = {}
        for task, reason in next(iter(self.by_label.values())).results.skipped.items():
            reasons.setdefault(reason, []).append(task)
        lines += [f"{', '.join(tasks)}: not run ({reason})" for reason, tasks in reasons.items()]
        for label, one in self.by_label.items():
            for task, score in one.results.scores.items():
                if not isinstance(score, TransferScore) and score.reason:
                    lines.append(f"{task}: undefined for {label} ({score.reason})")
        return lines

    def average_names(self) -> dict[str, tuple[str, ...]]:
        """The averages to report: one for each table that has tasks, with its tasks."""
        averages = {"avg_sts": STS_TASKS, "avg_transfer": TRANSFER_TASKS}
        return {name: tasks for name, tasks in averages.items() if set(tasks) & set(self.data.names)}

    def _conditions(self) -> str:
        poolers = {label: one.pooler for label, one in self.by_label.items()}
        pooler = ", ".join(set(poolers.values()))
        if len(set(poolers.values())) > 1:
            pooler = ", ".join(f"{name} ({label})" for label, name in poolers.items())
        parts = [f"mode {self.settings.mode}", f"pooler {pooler}", f"aggregation {self.settings.aggregation}"]
        if self.is_single:
            parts.insert(0, f"model {self.evaluations[0].model}")
        if self.teacher:
            parts.insert(0, f"teacher {self.teacher.model}")
        if self.settings.stsb_text == "raw":
            parts.append("raw STSBenchmark text")
        return ", ".join([*parts, f"embeddings {'normalized' if self.settings.normalize else 'not normalized'}"])

    def _tables(self) -> list[Table]:
        results: Mapping[str, Results] | Results = {label: one.results for label, one in self.by_label.items()}
        if self.is_single:
            results = self.evaluations[0].results
        baseline = TEACHER if self.teacher else None
        averages = self.average_names()
        tables = [
            sts_table(results, baseline=baseline) if "avg_sts" in averages else None,
            transfer_table(results, baseline=baseline) if "avg_transfer" in averages else None,
            other_table(results, baseline=baseline),
        ]
        return [table for table in tables if table]

    def _scores(self, one: Evaluation) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "model": one.model,
            "pooler": one.pooler,
            "mode": self.settings.mode,
            "aggregation": self.settings.aggregation,
        }
        # only where it differs from SentEval, so that programs written for SentEval find the fields they know
        if self.settings.normalize:
            entry["normalize"] = True
        if self.settings.stsb_text != "tokenized":
            entry["stsb_text"] = self.settings.stsb_text
        entry["tasks"] = {task: _score_dict(score) for task, score in one.results.scores.items()}
        return entry | {name: one.results.average(tasks) for name, tasks in self.average_names().items()}

    def _senteval_entry(self, one: Evaluation) -> dict[str, Any]:
        settings = {
            "model": one.model,
            "revision": one.revision,
            "pooler": one.pooler,
            "mode": self.settings.mode,
            "aggregation": self.settings.aggregation,
            "stsb_text": self.settings.stsb_text,
            "exact_sequential": self.settings.exact_sequential,
            "seed": protocol_of(cast(Mode, self.settings.mode)).settings.seed,
            **one.facts,
            "data": str(self.data.folder),
            "data_fingerprints": self.data.fingerprints,
            "dates": one.dates,
            "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
        }
        return {**one.results.tasks, "settings": settings}

    def _difference(self, one: Evaluation, other: Evaluation) -> dict[str, Any]:
        pairs = {task: (one.results.headline(task), other.results.headline(task)) for task in one.results.scores}
        for name, tasks in self.average_names().items():
            pairs[name] = one.results.average(tasks), other.results.average(tasks)
        return {name: None if a is None or b is None else a - b for name, (a, b) in pairs.items()}


def _score_dict(score: Score) -> dict[str, Any]:
    """A score's fields, without those that are None and that only some scores have."""
    return {name: value for name, value in asdict(score).items() if value is not None or name not in ("reason", "f1")}


def short_name(ref: str) -> str:
    """The last part of a local folder's name; any other reference unchanged."""
    path = expanded(ref)
    return path.resolve().name if path.is_dir() else ref


def _draw(table: Table) -> str:
    return console.table(table.header, table.rows, align=_align(table))


def _align(table: Table) -> str:
    return "l" + "c" * (len(table.header) - 1) if table.header[0] == "Model" else "c"
