"""Score any function from sentences to embeddings on any of the tasks."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from senteval import correlation
from senteval.correlation import AGGREGATIONS, Aggregation
from senteval.embedding import Embeddings, Encode, encode_distinct
from senteval.errors import UsageError
from senteval.loading import Mode, Splits, TaskData, load_tasks
from senteval.regressor import score_regressor
from senteval.results import RegressorScore, Results, Score, StsScore, TransferScore
from senteval.transfer import Progress, Protocol, no_progress, protocol_of, score_transfer

TaskProgress = Callable[[str, int, int], None]
"""Called with a task's name, steps done and total steps."""


def evaluate(
    encode: Encode,
    tasks: str | Iterable[str],
    *,
    data: Path | str,
    mode: Mode = "test",
    aggregation: Aggregation = "all",
    splits: Splits = "needed",
    protocol: Protocol | None = None,
    progress: TaskProgress | None = None,
) -> Results:
    """Score sentence embeddings on SentEval's tasks.

    All data is read and checked before the first sentence is encoded. `encode` is called once, with
    every distinct sentence of all tasks. Its embeddings are used unchanged.

    Args:
        encode: takes a list of N sentences and returns their (N, D) embeddings as an array or a tensor. It
            gets all sentences at once, the empty one among them, and does its own sorting and batching.
        tasks: names of tasks or of task sets: `sts`, `transfer`, `full`.
        data: the folder that holds `downstream/`.
        mode: `test`; `dev`: development scores, for tasks that have them, with quick classifiers;
            `fasttest`: test scores with quick classifiers.
        aggregation: how the subsets of STS12 to STS16 become one number: `all`, `mean` or `wmean`.
        splits: `all` also encodes and scores the STS splits that the mode does not report.
        protocol: how classifiers are trained; None takes the mode's (`protocol_of`).
        progress: called with a task's name, steps done and total steps: at the start, on the way and at the end.

    Raises:
        UsageError: there is no such task, mode, aggregation or choice of splits.
        DataError: a file is missing, malformed or of an unexpected size.
        EncodingError: an embedding is not finite.
        ValueError: `encode` returned a wrong shape.
    """
    loaded = load_tasks(tasks, data, mode=mode, splits=splits)
    return evaluate_loaded(encode, loaded, mode=mode, aggregation=aggregation, protocol=protocol, progress=progress)


def evaluate_loaded(
    encode: Encode | Embeddings,
    loaded: Sequence[TaskData],
    *,
    mode: Mode = "test",
    aggregation: Aggregation = "all",
    protocol: Protocol | None = None,
    progress: TaskProgress | None = None,
) -> Results:
    """Score on tasks that `load_tasks` has read in the same mode; arguments as for `evaluate`.

    Several encoders can then share data that was read once. `encode` may also be `Embeddings` of all
    the tasks' sentences, so that several calls share one encoding.
    """
    if aggregation not in AGGREGATIONS:
        raise UsageError(f"there is no aggregation {aggregation!r}", hint=f"one of {', '.join(AGGREGATIONS)}")
    embeddings = (
        encode
        if isinstance(encode, Embeddings)
        else encode_distinct(encode, (sentence for data in loaded for sentence in data.sentences()))
    )
    results = Results(mode=mode, aggregation=aggregation, num_sentences=len(embeddings))
    for data in loaded:
        name = data.task.name
        steps = partial(progress, name) if progress else no_progress
        if data.task.kind == "sts":
            if mode == "dev" and not data.task.dev_splits:
                results.skipped[name] = "has no development set"
                continue
            steps(0, 1)
            results.tasks[name], results.scores[name] = _score_sts(data, embeddings, mode, aggregation)
            steps(1, 1)
        else:
            training = protocol or protocol_of(mode)
            results.tasks[name], results.scores[name] = _score_trained(data, embeddings, training, steps)
    return results


def _score_trained(
    data: TaskData, embeddings: Embeddings, protocol: Protocol, progress: Progress
) -> tuple[dict[str, Any], Score]:
    if data.task.kind != "regressor":
        result = score_transfer(data, embeddings.of_split, protocol, progress)
        return result, TransferScore(
            devacc=result["devacc"],
            acc=result["acc"],
            num_dev=result["ndev"],
            num_test=result["ntest"],
            f1=result.get("f1"),
        )
    result = score_regressor(data, embeddings.of_split, seed=protocol.settings.seed, progress=progress)
    del result["yhat"], result["devpearson"]
    return result, RegressorScore(
        dev_spearman=100 * result["devspearman"],
        spearman=_percent(result["spearman"]),
        pearson=_percent(result["pearson"]),
        mse=result["mse"],
        num_pairs=result["ntest"],
        reason=result.get("reason"),
    )


def _score_sts(
    data: TaskData, embeddings: Embeddings, mode: Mode, aggregation: Aggregation
) -> tuple[dict[str, Any], StsScore]:
    task = data.task
    pairs = {name: correlation.pairs_of(split, embeddings.of_split(split)) for name, split in data.splits.items()}
    # a summary over only some splits would differ from SentEval's number of that name
    result = correlation.nested(pairs, with_summary=len(pairs) == len(task.splits))
    for name in pairs:
        result[name] |= {kind: correlation.statistic(result[name][kind]) for kind in ("pearson", "spearman")}
    reported = task.dev_splits if mode == "dev" else task.test_splits
    if absent := [name for name in reported if name not in pairs]:
        raise ValueError(f"{task.name} was loaded without {', '.join(absent)}, which mode {mode!r} reports")
    score = correlation.aggregate({name: pairs[name] for name in reported}, aggregation)
    return result, StsScore(
        spearman=_percent(correlation.statistic(score.spearman)),
        pearson=_percent(correlation.statistic(score.pearson)),
        num_pairs=score.num_pairs,
        reason=score.reason,
    )


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value
