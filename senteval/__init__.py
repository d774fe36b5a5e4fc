"""SentEval's evaluation of sentence embeddings, with the same numbers; each sentence is encoded once.

`evaluate(encode, tasks, data=…)` takes any function from sentences to an array.
`engine.SE(params, batcher, prepare).eval(tasks)` is SentEval's own interface.
"""

import importlib
from typing import Any

from senteval import engine, tables
from senteval.engine import SE
from senteval.errors import DataError, EncodingError, SentEvalError, UsageError
from senteval.evaluation import evaluate, evaluate_loaded
from senteval.loading import check_data, load_tasks, required_files
from senteval.results import RegressorScore, Results, StsScore, TransferScore
from senteval.tasks import STS_TASKS, TASK_SETS, TASKS, TRANSFER_TASKS
from senteval.transfer import Protocol, protocol_of

__all__ = [
    "SE",
    "STS_TASKS",
    "TASKS",
    "TASK_SETS",
    "TRANSFER_TASKS",
    "DataError",
    "EncodingError",
    "Protocol",
    "RegressorScore",
    "Results",
    "SentEvalError",
    "StsScore",
    "TransferScore",
    "UsageError",
    "check_data",
    "engine",
    "evaluate",
    "evaluate_loaded",
    "load_tasks",
    "protocol_of",
    "required_files",
    "tables",
]


def __getattr__(name: str) -> Any:
    """As in SentEval, `senteval.utils` and `senteval.tools.validation` are there without an import of their own."""
    if name not in ("utils", "tools"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    importlib.import_module("senteval.tools.validation" if name == "tools" else "senteval.utils")
    return globals()[name]
