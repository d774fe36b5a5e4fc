"""Several models on the same tasks, one after the other, the teacher first."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from distilcse_cli.evaluation.report import Report
from distilcse_cli.evaluation.scoring import Evaluation, evaluate_encoder
from distilcse_cli.evaluation.settings import EvalSettings
from distilcse_cli.evaluation.tasks import EvalData
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.models.references import resolve_reference
from distilcse_cli.runtime import Runtime, choose_runtime


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """A model as named on the command line."""

    ref: str
    """Local folder, catalogue name or hub id."""
    pooler: str | None = None
    """None takes the model's own, else `cls`."""
    revision: str | None = None
    """Branch, tag or commit of a hub model."""


def evaluate_models(
    models: Sequence[ModelChoice], teacher: ModelChoice | None, data: EvalData, settings: EvalSettings, runtime: Runtime
) -> Report:
    """Score models on tasks. Only one of them is in memory at a time.

    Raises:
        ModelError: a model cannot be found, which is seen before the first one is loaded; or loaded,
            pooled that way; or it gives embeddings that are not finite.
        NetworkError: a download failed.
    """
    models = list(dict.fromkeys(models))
    folders = {
        choice: resolve_reference(choice.ref, revision=choice.revision) for choice in (teacher, *models) if choice
    }
    evaluations = {}
    for choice, folder in folders.items():
        evaluations[choice] = _evaluate(choice, _commit(folder), data, settings, runtime)
        gc.collect()  # a model is part of reference cycles, and two large ones may be too many
    return Report(
        evaluations=tuple(evaluations[choice] for choice in models),
        teacher=evaluations[teacher] if teacher else None,
        data=data,
        settings=settings,
    )


def choose_eval_runtime(device: str | None, compute_dtype: str, data: EvalData) -> Runtime:
    """As `choose_runtime`, but `auto` is fp32 where a task trains something.

    A cosine does not mind bf16's rounding of the embeddings. But a regularization picked in another
    fold, or one epoch more, does: with bf16 MRPC has moved by 0.8.
    """
    if compute_dtype != "auto" or all(task.task.kind == "sts" for task in data.tasks):
        return choose_runtime(device, compute_dtype)
    return replace(choose_runtime(device, "float32"), reason="transfer scores depend on the last digits")


def _evaluate(
    choice: ModelChoice, commit: str | None, data: EvalData, settings: EvalSettings, runtime: Runtime
) -> Evaluation:
    encoder = load_encoder(choice.ref, pooler=choice.pooler, revision=choice.revision, max_length=settings.max_length)
    return evaluate_encoder(encoder, data, settings, runtime, revision=commit)


def _commit(folder: Path) -> str | None:
    """The commit that a folder of the hub's cache holds, None for any other folder."""
    return folder.name if folder.parent.name == "snapshots" else None
