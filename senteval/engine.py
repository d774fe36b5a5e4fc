"""SentEval's own interface: `senteval.engine.SE(params, batcher, prepare).eval(tasks)`.

Scripts written for SentEval or SimCSE's copy of it run unchanged. The batcher gets exactly the
batches that SentEval gives it, repeated sentences included, so the numbers agree with SentEval's to
the last digit. `senteval.evaluate` is faster, because it encodes each sentence once.
"""

import logging
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from senteval import correlation
from senteval.correlation import Correlation
from senteval.embedding import Vectors, checked
from senteval.errors import UsageError
from senteval.loading import Split, TaskData, check_data, load_task
from senteval.params import Params, check_params, classifier_settings, ignored_keys
from senteval.regressor import score_regressor
from senteval.tasks import TASKS, Task, find_task
from senteval.transfer import Protocol, score_transfer

UNDEFINED = Correlation(math.nan, math.nan)
TRAINED = ("inner_kfold", "kfold", "split")
"""Kinds of tasks that train a classifier."""

Batcher = Callable[[Params, list[list[str]]], Any]
Prepare = Callable[[Params, list[list[str]]], Any]

logger = logging.getLogger("senteval")


class PairResults(dict[str, Any]):
    """Results of `STSBenchmark` or `SICKRelatedness` by split, as in SimCSE's copy of SentEval.

    Scripts for Facebook's own code read `["pearson"]` and the like, of a trained model. Here nothing is trained: they
    get the correlations of the cosines, and a warning.
    """

    def __missing__(self, key: str) -> Any:
        split, kind = ("dev", key[3:]) if key.startswith("dev") else ("test", key)
        if kind not in ("pearson", "spearman") or split not in self:
            raise KeyError(key)
        warnings.warn(
            f"[{key!r}] is of cosines; the tasks STSBenchmark-finetune and SICKRelatedness-finetune train a model",
            stacklevel=2,
        )
        return self[split][kind].statistic


class SE:
    """SentEval's evaluator.

    Args:
        params: `task_path` (the folder that holds `downstream/`), and optionally `batch_size` (128),
            `seed` (1111), `kfold` (5), `similarity` (a function of two embeddings; default cosine) and
            `classifier` (`nhid`, `optim` such as `adam` or `sgd,lr=0.1`, `batch_size`, `tenacity`, `epoch_size`,
            `max_epoch`, `dropout`).
            Other keys are kept for the batcher.
        batcher: takes these params and a list of B token lists, returns (B, D) embeddings.
        prepare: called before each task with these params and all of the task's token lists.

    Raises:
        UsageError: `task_path` or the classifier's `nhid` is missing.
    """

    list_tasks: ClassVar[list[str]] = list(TASKS)
    """Names of all tasks."""

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

    def eval(self, name: str | Sequence[str]) -> dict[str, Any]:
        """Results of a task, or of several by name, as SentEval returns them.

        All names, settings and files are checked before the first sentence is encoded. What is finished when an error
        comes is in `results`. Correlations read like SciPy's (`[0]`, `.correlation`). An undefined one is NaN, as in
        SentEval, and a warning says why.

        Raises:
            UsageError: there is no such task, or a setting is not what it should be.
            DataError: a file is missing, malformed or of an unexpected size.
            EncodingError: an embedding is not finite.
        """
        tasks = [find_task(one) for one in ([name] if isinstance(name, str) else name)]
        self._check(tasks)
        self.results = {}
        for task in tasks:
            self.results[task.name] = self._run(task)
        if isinstance(name, str):
            self.results = self.results[name]
        return self.results

    def _check(self, tasks: Sequence[Task]) -> None:
        """Check settings and files of all tasks."""
        check_params(self.params)
        if any(task.kind in TRAINED for task in tasks):
            self._protocol()
            if ignored := ignored_keys(self.params.classifier):
                warnings.warn(f"params['classifier']: {', '.join(ignored)} has no effect", stacklevel=4)
        for task in tasks:
            check_data(task.name, self.params.task_path, splits="all")

    def _run(self, task: Task) -> dict[str, Any]:
        logger.debug("***** Transfer task : %s *****", task.name)
        loaded = load_task(task, Path(self.params.task_path), splits="all")
        self.params.current_task = task.name
        if self.prepare:
            self.prepare(self.params, [sentence.split() for sentence in loaded.sentences()])
        if task.kind == "sts":
            correlations = self._correlations(loaded)
            return PairResults(correlations) if task.dev_splits else correlations
        if task.kind == "regressor":
            return self._relatedness(loaded)
        result = score_transfer(loaded, self._embed_logged, self._protocol())
        logger.debug("Dev acc : %s Test acc : %s for %s", result["devacc"], result["acc"], task.name)
        return result

    def _relatedness(self, loaded: TaskData) -> dict[str, Any]:
        result = score_regressor(loaded, self._embed_logged, seed=self.params.seed)
        if "reason" in result:
            warnings.warn(f"{loaded.task.name} has undefined correlations ({result['reason']})", stacklevel=4)
        for kind in ("pearson", "spearman"):
            result[kind] = result[kind] or 0.0  # 0 if undefined, as in SentEval
        logger.debug("Dev : Pearson %s", result["devpearson"])
        logger.debug("Test : Pearson %s Spearman %s MSE %s", result["pearson"], result["spearman"], result["mse"])
        return result

    def _correlations(self, loaded: TaskData) -> dict[str, dict[str, Any]]:
        pairs = {}
        for name, split in loaded.splits.items():
            pairs[name] = correlation.pairs_of(split, self._embed(split), self.params.similarity)
            if logger.isEnabledFor(logging.DEBUG):
                score = correlation.correlate(pairs[name])
                both = (math.nan if one is None else one.statistic for one in (score.pearson, score.spearman))
                logger.debug("%s : pearson = %.4f, spearman = %.4f", name, *both)
        result = _with_nan(loaded.task.name, correlation.nested(pairs, with_summary=True))
        for how, words in (("all", "ALL"), ("wmean", "ALL (weighted average)"), ("mean", "ALL (average)")):
            both = (result["all"][kind][how] for kind in ("pearson", "spearman"))
            logger.debug("%s : Pearson = %.4f, Spearman = %.4f", words, *both)
        return result

    def _embed_logged(self, split: Split) -> Vectors:
        logger.info("Computing embeddings of %d rows", len(split))
        vectors = self._embed(split)
        logger.info("Computed embeddings")
        return vectors

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

    def _protocol(self) -> Protocol:
        params = self.params
        settings = classifier_settings(params.classifier, seed=params.seed, usepytorch=params.usepytorch)
        return Protocol(settings=settings, num_folds=params.kfold)


def _with_nan(task: str, result: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    reasons = [f"{name}: {entry['reason']}" for name, entry in result.items() if "reason" in entry]
    if reasons:
        warnings.warn(f"{task} has undefined correlations ({'; '.join(reasons)})", stacklevel=5)
    for name, entry in result.items():
        for kind in ("pearson", "spearman"):
            if name == "all":
                entry[kind] = {how: math.nan if value is None else value for how, value in entry[kind].items()}
            else:
                entry[kind] = entry[kind] or UNDEFINED
    return result
