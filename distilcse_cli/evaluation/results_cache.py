"""Scores of earlier runs, a file for each model, task and choice of settings.

A file's name is the hash of everything that the score depends on, so a file that is found is right. The size of
the batches is not part of it, though it may change the last digit of an embedding.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from distilcse_cli import __version__, console
from distilcse_cli.config import data_home
from distilcse_cli.errors import DataError
from distilcse_cli.files import read_json, write_json
from senteval import RegressorScore, StsScore, TransferScore
from senteval.results import Score

FORMAT_VERSION = 1
_SCORES: dict[str, type[StsScore] | type[TransferScore] | type[RegressorScore]] = {
    kind.__name__: kind for kind in (StsScore, TransferScore, RegressorScore)
}


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """A task's score, and when it was made."""

    score: Score
    nested: dict[str, Any]
    """SentEval's result dict."""
    date: str
    """When it was scored, ISO 8601 in UTC."""


def now() -> str:
    """The present date for a `TaskResult`."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read(facts: dict[str, Any]) -> TaskResult | None:
    """The result that depends on the same facts, if an earlier run of this release has kept it."""
    try:
        kept = read_json(_path(facts))
        kind = _SCORES[kept["kind"]]
        return TaskResult(score=kind(**kept["score"]), nested=kept["nested"], date=kept["date"])
    except (DataError, KeyError, TypeError):
        return None  # absent or damaged: it is scored again and the file replaced


def write(facts: dict[str, Any], result: TaskResult) -> None:
    """Keep a result. A data home that cannot be written costs a warning, not the result."""
    kept = {
        "facts": facts,
        "kind": type(result.score).__name__,
        "score": asdict(result.score),
        "nested": result.nested,
        "date": result.date,
    }
    try:
        write_json(_path(facts), kept)
    except DataError as error:
        console.warn(f"the result is not kept for later runs: {error.message}")


def _path(facts: dict[str, Any]) -> Path:
    key = json.dumps([FORMAT_VERSION, __version__, facts], sort_keys=True)
    return data_home() / "results" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
