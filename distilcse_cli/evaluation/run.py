"""Several models on the same tasks, one after the other, the teacher first."""

import gc
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from distilcse_cli.evaluation.report import Report
from distilcse_cli.evaluation.scoring import Evaluation, evaluate_encoder
from distilcse_cli.evaluation.settings import EvalSettings
from distilcse_cli.evaluation.tasks import EvalData
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.models.references import resolve_reference
from distilcse_cli.models.weights_file import find_weights
from distilcse_cli.ranks import ALONE, Ranks
from distilcse_cli.runtime import Runtime, choose_runtime


@dataclass(frozen=True, kw_only=True)
class ModelChoice(ModelRef):
    """A model as named on the command line."""

    def locate(self) -> Path:
        """The folder or the file of weights, downloaded if need be."""
        weights = find_weights(self.ref, revision=self.revision)
        return weights or resolve_reference(self.ref, revision=self.revision)


def choose_models(
    refs: Sequence[str], *, pooler: str | None, revision: str | None, base: str | None, tokenizer: str | None
) -> list[ModelChoice]:
    """The models of a command line; base and tokenizer are for those among them that are files of weights."""
    common: dict[str, Any] = {"pooler": pooler, "revision": revision}
    plain = [ModelChoice(ref=ref, **common) for ref in refs]
    if base is None and tokenizer is None:
        return plain
    completed = [ModelChoice(ref=ref, **common, base=base, tokenizer=tokenizer) for ref in refs]
    is_file = [find_weights(ref, revision=revision) is not None for ref in refs]
    # with none of them a file the option is a mistake, which loading the first one says
    return [
        one if chosen or not any(is_file) else other
        for one, other, chosen in zip(completed, plain, is_file, strict=True)
    ]


def evaluate_models(
    models: Sequence[ModelChoice],
    teacher: ModelRef | None,
    data: EvalData,
    settings: EvalSettings,
    runtime: Runtime,
    ranks: Ranks = ALONE,
) -> Report:
    """Score models on tasks. Only one of them is in memory at a time.

    Several processes embed together, and rank 0 scores; all get the report.

    Raises:
        ModelError: a model cannot be found, which is seen before the first one is loaded; or loaded,
            pooled that way; or it gives embeddings that are not finite.
        NetworkError: a download failed.
    """
    models = list(dict.fromkeys(models))
    teacher = ModelChoice(**asdict(teacher)) if teacher else None
    folders = ranks.on_main(lambda: {choice: choice.locate() for choice in (teacher, *models) if choice})
    evaluations = {}
    for choice, folder in folders.items():
        evaluations[choice] = _evaluate(choice, _commit(folder), data, settings, runtime, ranks)
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
    choice: ModelChoice,
    commit: str | None,
    data: EvalData,
    settings: EvalSettings,
    runtime: Runtime,
    ranks: Ranks,
) -> Evaluation:
    encoder = ranks.main_first(
        lambda: load_encoder(
            choice.ref,
            pooler=choice.pooler,
            revision=choice.revision,
            max_length=settings.max_length,
            base=choice.base,
            tokenizer=choice.tokenizer,
        )
    )
    return evaluate_encoder(encoder, data, settings, runtime, revision=commit, ranks=ranks)


def _commit(folder: Path) -> str | None:
    """The commit that a folder of the hub's cache holds, None for any other folder."""
    return folder.name if folder.parent.name == "snapshots" else None
