"""Score one model on SentEval's tasks: encode once, score task by task, keep each result at once."""

from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch

from distilcse_cli import console
from distilcse_cli.data.tokens import tokenizer_fingerprint
from distilcse_cli.errors import ModelError
from distilcse_cli.evaluation import results_cache
from distilcse_cli.evaluation.boundary import senteval_errors
from distilcse_cli.evaluation.results_cache import TaskResult
from distilcse_cli.evaluation.settings import Aggregation, EvalSettings, Mode
from distilcse_cli.evaluation.tasks import EvalData
from distilcse_cli.models.embed import NUMERICS, Embedder
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.ranks import ALONE, Ranks
from distilcse_cli.runtime import Runtime
from senteval import Protocol, Results, evaluate_loaded, protocol_of
from senteval.embedding import Embeddings
from senteval.loading import TaskData


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A model's results, and the facts that they depend on."""

    model: str
    """The reference as typed."""
    revision: str | None
    """Commit of a hub model."""
    pooler: str
    facts: dict[str, Any]
    """Fingerprints of model and tokenizer, pooling, normalization, length limit, number format."""
    num_parameters: int
    embedding_dim: int
    results: Results
    dates: dict[str, str]
    """When each task was scored."""


def evaluate_encoder(
    encoder: SentenceEncoder,
    data: EvalData,
    settings: EvalSettings,
    runtime: Runtime,
    *,
    revision: str | None = None,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Score an encoder on tasks; results of earlier runs that depend on the same facts are used again.

    Several processes embed together, and rank 0 scores; all get the evaluation.

    Raises:
        ModelError: an embedding is not finite; its sentence is named.
    """
    embedder = Embedder(encoder, runtime, settings.encode_settings(), ranks)
    facts = model_facts(embedder)
    protocol = protocol_of(cast(Mode, settings.mode), sequential=settings.exact_sequential)
    task_facts = {task.task.name: facts | _task_facts(task, data, settings, protocol) for task in data.tasks}
    done = ranks.on_main(lambda: {} if settings.overwrite else _earlier(task_facts))
    if done:
        console.log(
            f"{encoder.source}: results of {len(done)} of {len(data.tasks)} tasks re-used (--overwrite runs them again)"
        )
    missing = [task for task in data.tasks if task.task.name not in done]
    sentences = list(dict.fromkeys(sentence for task in missing for sentence in task.sentences()))
    if sentences:
        console.log(f"encoding with {encoder.source}, pooling {encoder.pooling}, on {runtime}{ranks}")
    with ranks.told_once(ModelError):
        embeddings = Embeddings(sentences, embedder.longest_first(sentences))

    def score_missing() -> tuple[dict[str, TaskResult], dict[str, str]]:
        new: dict[str, TaskResult] = {}
        skipped: dict[str, str] = {}
        for number, task in enumerate(missing, start=1):
            name = task.task.name
            one = _score(task, embeddings, settings, protocol, number=f"{number} of {len(missing)}")
            skipped |= one.skipped
            if name in one.scores:
                new[name] = TaskResult(score=one.scores[name], nested=one.tasks[name], date=results_cache.now())
                results_cache.write(task_facts[name], new[name])
        return new, skipped

    with senteval_errors():
        new, skipped = ranks.on_main(score_missing)
    done |= new
    return Evaluation(
        model=encoder.source,
        revision=revision,
        pooler=encoder.pooling,
        facts=facts,
        num_parameters=encoder.num_parameters,
        embedding_dim=encoder.embedding_dim,
        results=_in_order(data, settings, done, skipped, len(embeddings)),
        dates={name: done[name].date for name in data.names if name in done},
    )


def _earlier(task_facts: dict[str, dict[str, Any]]) -> dict[str, TaskResult]:
    found = {name: results_cache.read(facts) for name, facts in task_facts.items()}
    return {name: result for name, result in found.items() if result is not None}


def model_facts(embedder: Embedder) -> dict[str, Any]:
    """Everything that the scores depend on, on the model's side."""
    encoder, runtime = embedder.encoder, embedder.runtime
    return {
        "model_fingerprint": encoder.fingerprint,
        "tokenizer_fingerprint": tokenizer_fingerprint(encoder.tokenizer),
        "pooling": encoder.pooling,
        "normalize": embedder.normalize,
        "max_length": embedder.max_length,
        "dtype": runtime.dtype,
        "device": runtime.device_type,
        "torch_version": torch.__version__,
        "numerics": NUMERICS,
        **({"prompt": encoder.prompts.used} if encoder.prompts.used else {}),
    }


def _task_facts(task: TaskData, data: EvalData, settings: EvalSettings, protocol: Protocol) -> dict[str, Any]:
    """Everything that a score depends on, on the task's side: not the mode itself, but what it changes."""
    facts = {"task": task.task.name, "data": data.fingerprints[task.task.name]}
    match task.task.kind:
        case "sts":
            return facts | {"splits": list(task.splits), "aggregation": settings.aggregation}
        case "regressor":
            return facts | {"seed": protocol.settings.seed}
    return facts | asdict(protocol)


def _score(
    task: TaskData, embeddings: Embeddings, settings: EvalSettings, protocol: Protocol, *, number: str
) -> Results:
    unit = "epochs" if task.task.kind == "regressor" else "classifiers"
    with closing(_TaskProgress(f"{task.task.name}, task {number}", unit)) as progress:
        return evaluate_loaded(
            embeddings,
            [task],
            mode=cast(Mode, settings.mode),
            aggregation=cast(Aggregation, settings.aggregation),
            protocol=protocol,
            # a correlation takes next to no time
            progress=None if task.task.kind == "sts" else progress,
        )


class _TaskProgress:
    """Progress of a task that trains something; the first call tells how many steps there are."""

    def __init__(self, description: str, unit: str) -> None:
        self.description, self.unit = description, unit
        self._bar: console.Progress | None = None

    def __call__(self, task: str, done: int, total: int) -> None:  # noqa: ARG002
        if self._bar is None:
            self._bar = console.Progress(self.description, total, self.unit)
        self._bar.update(done - self._bar.done)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _in_order(
    data: EvalData, settings: EvalSettings, done: dict[str, TaskResult], skipped: dict[str, str], num_sentences: int
) -> Results:
    """All results, in the order in which the tasks were named."""
    return Results(
        mode=cast(Mode, settings.mode),
        aggregation=cast(Aggregation, settings.aggregation),
        tasks={name: done[name].nested for name in data.names if name in done},
        scores={name: done[name].score for name in data.names if name in done},
        skipped=skipped,
        num_sentences=num_sentences,
    )
