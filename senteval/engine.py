"""SentEval's own interface: `senteval.engine.SE(params, batcher, prepare).eval(tasks)`.

Scripts written for SentEval or SimCSE's copy of it run unchanged. The batcher gets exactly the
batches that SentEval gives it, repeated sentences included, so the numbers agree with SentEval's to
the last digit. `senteval.evaluate` is faster, because it encodes each sentence once.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from senteval import correlation
from senteval.correlation import Correlation
from senteval.embedding import Vectors, checked
from senteval.errors import UsageError
from senteval.loading import Split, TaskData, check_data, load_task
from senteval.regressor import score_regressor
from senteval.tasks import find_task
from senteval.transfer import Protocol, score_transfer

UNDEFINED = Correlation(math.nan, math.nan)


class Params(dict[str, Any]):
    """A dict whose keys are attributes too. A missing attribute is None. `batcher` and `prepare` may add keys."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]


Batcher = Callable[[Params, list[list[str]]], Any]
Prepare = Callable[[Params, list[list[str]]], Any]


class SE:
    """SentEval's evaluator.

    Args:
        params: `task_path` (the folder that holds `downstream/`), and optionally `batch_size` (128),
            `seed` (1111), `kfold` (5), `similarity` (a function of two embeddings; default cosine) and
            `classifier` (`nhid`, `optim`, `batch_size`, `tenacity`, `epoch_size`, `max_epoch`, `dropout`).
            Other keys are kept for the batcher.
        batcher: takes these params and a list of B token lists, returns (B, D) embeddings.
        prepare: called before each task with these params and all of the task's token lists.

    Raises:
        UsageError: `task_path` or the classifier's `nhid` is missing.
    """

    def __init__(self, params: Mapping[str, Any], batcher: Batcher, prepare: Prepare | None = None) -> None:
        defaults = {"usepytorch": True, "seed": 1111, "batch_size": 128, "nhid": 0, "kfold": 5}
        self.params = Params(defaults | dict(params))
        self.params.classifier = self.params.classifier or {"nhid": 0}
        if "task_path" not in self.params:
            raise UsageError("params has no task_path", hint="set it to the folder that holds downstream/")
        if "nhid" not in self.params.classifier:
            raise UsageError("params['classifier'] has no nhid", hint="0 is logistic regression")
        self.batcher = batcher
        self.prepare = prepare
        self.results: dict[str, Any] = {}

    def eval(self, name: str | list[str]) -> dict[str, Any]:
        """Results of a task, or of several by name, as SentEval returns them.

        Correlations read like SciPy's (`[0]`, `.correlation`). An undefined one is NaN, as in
        SentEval, and a warning says why.

        Raises:
            UsageError: there is no such task, or `usepytorch` is false for a task that trains a classifier.
            DataError: a file is missing, malformed or of an unexpected size.
            EncodingError: an embedding is not finite.
        """
        if not isinstance(name, str):
            self.results = {one: self.eval(one) for one in name}
            return self.results
        task, data = find_task(name), Path(self.params.task_path)
        check_data(name, data, splits="all")
        loaded = load_task(task, data, splits="all")
        self.params.current_task = name
        if self.prepare:
            self.prepare(self.params, [sentence.split() for sentence in loaded.sentences()])
        match task.kind:
            case "sts":
                pairs = {
                    split: correlation.pairs_of(rows, self._embed(rows), self.params.similarity)
                    for split, rows in loaded.splits.items()
                }
                self.results = _with_nan(name, correlation.nested(pairs, with_summary=True))
            case "regressor":
                self.results = score_regressor(loaded, self._embed, seed=self.params.seed)
            case _:
                self.results = score_transfer(loaded, self._embed, self._protocol(loaded))
        return self.results

    def _embed(self, split: Split) -> Vectors:
        first = self._encode(split.sentences)
        return Vectors(first, None if split.partners is None else self._encode(split.partners))

    def _encode(self, sentences: list[str]) -> np.ndarray:
        """Run the batcher over SentEval's own batches."""
        size = self.params.batch_size
        batches = [sentences[start : start + size] for start in range(0, len(sentences), size)]
        return np.concatenate(
            [checked(self.batcher(self.params, [sentence.split() for sentence in batch]), batch) for batch in batches]
        )

    def _protocol(self, loaded: TaskData) -> Protocol:
        from senteval.validation import ClassifierSettings

        if not self.params.usepytorch:
            raise UsageError(
                f"{loaded.task.name} does not support usepytorch=False (scikit-learn's classifier)",
                hint="leave usepytorch out: the published numbers use the PyTorch classifier",
            )
        known = {setting.name for setting in fields(ClassifierSettings)} - {"seed"}
        given = self.params.classifier
        if unknown := sorted(set(given) - known):
            warnings.warn(f"params['classifier']: {', '.join(unknown)} has no effect", stacklevel=3)
        settings = ClassifierSettings(seed=self.params.seed, **{key: given[key] for key in given if key in known})
        return Protocol(settings=settings, num_folds=self.params.kfold)


def _with_nan(task: str, result: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    reasons = [f"{name}: {entry['reason']}" for name, entry in result.items() if "reason" in entry]
    if reasons:
        warnings.warn(f"{task} has undefined correlations ({'; '.join(reasons)})", stacklevel=3)
    for name, entry in result.items():
        for kind in ("pearson", "spearman"):
            if name == "all":
                entry[kind] = {how: math.nan if value is None else value for how, value in entry[kind].items()}
            else:
                entry[kind] = entry[kind] or UNDEFINED
    return result
