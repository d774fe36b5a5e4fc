"""Result files: SentEval's nested results in one, or one a task as MTEB keeps them."""

import importlib.metadata
from pathlib import Path
from typing import Any, cast

from distilcse_cli.evaluation import mteb
from distilcse_cli.evaluation.report import Report
from distilcse_cli.evaluation.scoring import Evaluation
from distilcse_cli.evaluation.settings import Mode
from distilcse_cli.files import write_json
from senteval import protocol_of

PACKAGES = ("distilcse", "torch", "transformers", "tokenizers", "numpy", "scipy")


def write_out(report: Report, out: Path, out_format: str) -> None:
    """Write the report's results.

    Args:
        report: what to write.
        out: a file for `senteval`, a folder for `mteb`.
        out_format: one of `OUT_FORMATS`.

    Raises:
        DataError: `out` cannot be written.
    """
    if out_format == "mteb":
        mteb.write(report, out)
    else:
        write_json(out, senteval_dict(report))


def senteval_dict(report: Report) -> dict[str, Any]:
    """SentEval's results dict by task, and `settings`; of several models under `results` and `teacher`."""
    if report.is_single:
        return _senteval_entry(report, report.evaluations[0])
    results = {"results": [_senteval_entry(report, one) for one in report.evaluations]}
    return {"teacher": _senteval_entry(report, report.teacher), **results} if report.teacher else results


def _senteval_entry(report: Report, one: Evaluation) -> dict[str, Any]:
    settings = {
        "model": one.model,
        "revision": one.revision,
        "pooler": one.pooler,
        "mode": report.settings.mode,
        "aggregation": report.settings.aggregation,
        "stsb_text": report.settings.stsb_text,
        "exact_sequential": report.settings.exact_sequential,
        "seed": protocol_of(cast(Mode, report.settings.mode)).settings.seed,
        **one.facts,
        "data": str(report.data.folder),
        "data_fingerprints": report.data.fingerprints,
        "dates": one.dates,
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
    }
    return {**one.results.tasks, "settings": settings}
