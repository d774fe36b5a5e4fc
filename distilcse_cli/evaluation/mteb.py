"""Write results as MTEB stores them: `MODEL/REVISION/TASK.json`, and `model_meta.json` beside them (MTEB 2.20).

MTEB's `ResultCache` finds such a folder under the name `results` in its own. It tells models apart by name and
revision. So two models whose folders have the same name differ in their revision.
"""

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

from distilcse_cli import console
from distilcse_cli.errors import DataError
from distilcse_cli.evaluation.report import TEACHER, Report, short_name
from distilcse_cli.evaluation.scoring import Evaluation
from distilcse_cli.files import read_json, write_json
from senteval import StsScore, TransferScore
from senteval.results import Score

# all 9,927 pairs of SICK; SICKRelatedness, its test set, is another task and keeps its own name
MTEB_NAMES = {"MTEB-SICK-R": "SICK-R"}
META = "model_meta.json"
OF_THE_MACHINE = ("dtype", "device", "torch_version", "numerics")
"""Facts that do not make another model: newer results of the same model replace older ones."""


def write_out(report: Report, out: Path, out_format: str) -> None:
    """Write the report's results: one file for `senteval`, a folder for `mteb`.

    Raises:
        DataError: `out` cannot be written, or holds results of another model under the same name and revision.
    """
    if out_format == "mteb":
        _write_folder(report, out)
    else:
        write_json(out, report.senteval_dict())


def _write_folder(report: Report, folder: Path) -> None:
    """Write a file for each model and task whose score is defined."""
    metas = {label: _model_meta(_model_name(label, report), one, report) for label, one in report.by_label.items()}
    folders = {
        label: folder / meta["name"].replace("/", "__").replace(" ", "_") / meta["revision"]
        for label, meta in metas.items()
    }
    if not report.settings.overwrite:
        for label, meta in metas.items():
            _require_own(folders[label], meta)
    for label, one in report.by_label.items():
        for task, score in one.results.scores.items():
            scores = _scores(score, is_dev=report.settings.mode == "dev")
            if scores is None:
                console.warn(f"{task}: no MTEB file for {label}, since the score is undefined")
                continue
            result = _task_result(task, scores, one, report)
            write_json(folders[label] / f"{result['task_name']}.json", result)
        write_json(folders[label] / META, metas[label])


def _require_own(folder: Path, meta: dict[str, Any]) -> None:
    """Check that the results in a folder, if there are any, are of the same model.

    Raises:
        DataError: they are of another model, of other settings, or not ours.
    """
    if not any(folder.glob("*.json")):
        return
    try:
        found = read_json(folder / META).get("loader_kwargs")
    except DataError:
        found = None
    if not isinstance(found, dict) or _identity(found) != _identity(meta["loader_kwargs"]):
        raise DataError(
            f"{folder} holds results of another model or of other settings",
            hint="with another --out this run's results are used again; --overwrite replaces those in the folder",
        )


def _identity(facts: dict[str, Any]) -> str:
    """What tells one model, with its pooling and the like, from another."""
    return json.dumps({name: facts[name] for name in facts if name not in OF_THE_MACHINE}, sort_keys=True)


def _model_name(label: str, report: Report) -> str:
    """A name in the form that MTEB requires, `organization/model`."""
    own = short_name(report.by_label[label].model)
    name = own if label == TEACHER and own not in report.by_label else label
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


def _model_meta(name: str, one: Evaluation, report: Report) -> dict[str, Any]:
    """MTEB's `ModelMeta`, as far as it is known here, and how the embeddings and scores were made.

    The revision is the commit of a hub model. Any other model has none: a hash of what it is takes its place.
    """
    facts = {**one.facts, "mode": report.settings.mode, "stsb_text": report.settings.stsb_text}
    return {
        "loader": None,
        "loader_kwargs": facts,
        "name": name,
        "revision": one.revision or hashlib.sha256(_identity(facts).encode()).hexdigest()[:40],
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
