"""Write results as MTEB stores them: `MODEL/REVISION/TASK.json`, and `model_meta.json` beside them (MTEB 2.20).

MTEB's `ResultCache` finds such a folder under the name `results` in its own.
"""

from datetime import datetime
from pathlib import Path
from typing import Any

from distilcse_cli import console
from distilcse_cli.evaluation.report import TEACHER, Report, short_name
from distilcse_cli.evaluation.scoring import Evaluation
from distilcse_cli.files import write_json
from senteval import StsScore, TransferScore
from senteval.results import Score

# all 9,927 pairs of SICK; SICKRelatedness, its test set, is another task and keeps its own name
MTEB_NAMES = {"MTEB-SICK-R": "SICK-R"}
NO_REVISION = "no_revision_available"


def write_out(report: Report, out: Path, out_format: str) -> None:
    """Write the report's results: one file for `senteval`, a folder for `mteb`.

    Raises:
        DataError: `out` cannot be written.
    """
    if out_format == "mteb":
        _write_folder(report, out)
    else:
        write_json(out, report.senteval_dict())


def _write_folder(report: Report, folder: Path) -> None:
    """Write a file for each model and task whose score is defined."""
    for label, one in report.by_label.items():
        own = short_name(one.model)
        name = _model_name(own if label == TEACHER and own not in report.by_label else label)
        model_folder = folder / name.replace("/", "__").replace(" ", "_") / (one.revision or NO_REVISION)
        for task, score in one.results.scores.items():
            scores = _scores(score, is_dev=report.settings.mode == "dev")
            if scores is None:
                console.warn(f"{task}: no MTEB file for {label}, since the score is undefined")
                continue
            result = _task_result(task, scores, one, report)
            write_json(model_folder / f"{result['task_name']}.json", result)
        write_json(model_folder / "model_meta.json", _model_meta(name, one))


def _model_name(name: str) -> str:
    """A name in the form that MTEB requires, `organization/model`."""
    is_hub_id = name.count("/") == 1 and all(name.split("/"))
    return name if is_hub_id else f"local/{name.strip('/').replace('/', '-')}"


def _task_result(task: str, scores: dict[str, float], one: Evaluation, report: Report) -> dict[str, Any]:
    """MTEB's `TaskResult`, without MTEB's version and data revision, which only MTEB itself can state."""
    split = "validation" if report.settings.mode == "dev" else "test"
    return {
        "dataset_revision": f"senteval-{report.data.fingerprints[task][:40]}",
        "task_name": MTEB_NAMES.get(task, task),
        "mteb_version": None,
        "scores": {split: [{**scores, "hf_subset": "default", "languages": ["eng-Latn"]}]},
        "evaluation_time": None,
        "kg_co2_emissions": None,
        "date": datetime.fromisoformat(one.dates[task]).timestamp(),
    }


def _scores(score: Score, *, is_dev: bool) -> dict[str, float] | None:
    """Scores between -1 and 1 by MTEB's names; None if they are undefined."""
    if isinstance(score, TransferScore):
        accuracy = (score.devacc if is_dev else score.acc) / 100
        return {"accuracy": accuracy, **({} if score.f1 is None else {"f1": score.f1 / 100}), "main_score": accuracy}
    if score.spearman is None or score.pearson is None:
        return None
    if not isinstance(score, StsScore):
        main = score.dev_spearman if is_dev else score.spearman
        return {"pearson": score.pearson / 100, "spearman": score.spearman / 100, "main_score": main / 100}
    # MTEB's plain names are for the model's own similarity, here the cosine
    spearman, pearson = score.spearman / 100, score.pearson / 100
    cosines = {"cosine_pearson": pearson, "cosine_spearman": spearman}
    return {"pearson": pearson, "spearman": spearman, **cosines, "main_score": spearman}


def _model_meta(name: str, one: Evaluation) -> dict[str, Any]:
    """MTEB's `ModelMeta`, as far as it is known here, and how the embeddings were made."""
    return {
        "loader": None,
        "loader_kwargs": one.facts,
        "name": name,
        "revision": one.revision or NO_REVISION,
        "release_date": None,
        "languages": ["eng-Latn"],
        "n_parameters": one.num_parameters,
        "memory_usage_mb": None,
        "max_tokens": one.facts["max_length"],
        "embed_dim": one.embedding_dim,
        "license": None,
        "open_weights": None,
        "public_training_code": None,
        "public_training_data": None,
        "framework": ["PyTorch"],
        "reference": None,
        "similarity_fn_name": "cosine",
        "use_instructions": False,
        "training_datasets": None,
    }
