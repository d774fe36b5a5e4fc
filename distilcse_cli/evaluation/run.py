"""Score several models on the same tasks, one after the other, the teacher first."""

import gc
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from distilcse_cli.evaluation.report import Report
from distilcse_cli.evaluation.scoring import evaluate_encoder
from distilcse_cli.evaluation.settings import EvalSettings
from distilcse_cli.evaluation.tasks import EvalData
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.ranks import ALONE, Ranks
from distilcse_cli.runtime import Runtime, choose_runtime


def choose_models(
    refs: Sequence[str], *, base: str | None = None, tokenizer: str | None = None, **options: Any
) -> list[ModelRef]:
    """The models of a command line, with `options` as in `ModelRef`.

    `base` and `tokenizer` are for those of them that are files of weights.

    Raises:
        DistilCSEError: as from `ModelRef.locate`.
    """
    models = [ModelRef(ref=ref, base=base, tokenizer=tokenizer, **options) for ref in refs]
    if base is None and tokenizer is None:
        return models
    is_file = [model.locate().is_file() for model in models]
    # if none of them is a file, the option is a mistake, which is reported when the first one is loaded
    return [
        model if chosen or not any(is_file) else replace(model, base=None, tokenizer=None)
        for model, chosen in zip(models, is_file, strict=True)
    ]


def evaluate_models(
    models: Sequence[ModelRef],
    teacher: ModelRef | None,
    data: EvalData,
    settings: EvalSettings,
    runtime: Runtime,
    ranks: Ranks = ALONE,
) -> Report:
    """Score models on tasks. Only one of them is in memory at a time.

    Several processes embed together, and rank 0 scores; all get the report.

    Raises:
        ModelError: a model cannot be found, which is noticed before the first one is loaded; or it cannot be
            loaded or pooled that way; or it gives embeddings that are not finite.
        NetworkError: a download failed.
    """
    models = list(dict.fromkeys(models))
    wanted = list(dict.fromkeys([teacher, *models] if teacher else models))
    paths = ranks.main_first(lambda: [model.locate() for model in wanted])
    evaluations = {}
    for model, path in zip(wanted, paths, strict=True):
        encoder = ranks.main_first(partial(model.load, max_length=settings.max_length))
        evaluations[model] = evaluate_encoder(encoder, data, settings, runtime, revision=_commit(path), ranks=ranks)
        del encoder
        gc.collect()  # a model is part of reference cycles, and two large ones may be too many
    return Report(
        evaluations=tuple(evaluations[model] for model in models),
        teacher=evaluations[teacher] if teacher else None,
        data=data,
        settings=settings,
    )


def choose_eval_runtime(device: str | None, compute_dtype: str, data: EvalData) -> Runtime:
    """As `choose_runtime`, but `auto` is fp32 if a task trains something.

    Cosines tolerate bf16's rounding of the embeddings. Trained scores do not: a regularization picked in another
    fold, or one more epoch, changes them. With bf16 MRPC has moved by 0.8.
    """
    if compute_dtype != "auto" or all(task.task.kind == "sts" for task in data.tasks):
        return choose_runtime(device, compute_dtype)
    return replace(choose_runtime(device, "float32"), reason="transfer scores depend on the last digits")


def _commit(path: Path) -> str | None:
    """The commit that a folder of the hub's cache holds; None for any other folder."""
    return path.name if path.parent.name == "snapshots" else None
