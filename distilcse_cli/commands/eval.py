"""`distilcse eval`: SentEval's STS and transfer tables of one or more models."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import options
from distilcse_cli.config import COMPUTE_DTYPES, MachineSettings
from distilcse_cli.errors import UsageError
from distilcse_cli.evaluation.settings import (
    AGGREGATIONS,
    MODES,
    OUT_FORMATS,
    STSB_TEXTS,
    TASK_SETS,
    EvalSettings,
    check_out,
)

if TYPE_CHECKING:
    from distilcse_cli.evaluation.report import Report

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="REF",
        help="Folder, catalogue name, hub id or file of weights. May be repeated, a row each."
        " Default: $DISTILCSE_MODEL, else all-minilm-l6 if downloaded.",
    ),
]
Teacher = Annotated[
    str | None, typer.Option(metavar="REF", help="Model to compare with: its row, and each difference to it.")
]
TeacherPooler = Annotated[str | None, typer.Option(help="The teacher's pooling. Default: its folder's own.")]
TeacherRevision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub teacher.")]
TaskSet = Annotated[
    str | None,
    typer.Option(metavar="|".join(TASK_SETS), help="Tasks to run; na: those of --tasks.  [default: sts]"),
]
Tasks = Annotated[list[str] | None, typer.Option(metavar="A,B", help="Tasks to run, by name.")]
Mode = Annotated[
    str, typer.Option(metavar="|".join(MODES), help="Test scores, development scores, or test with quick classifiers.")
]
Aggregation = Annotated[
    str, typer.Option(metavar="|".join(AGGREGATIONS), help="How the subsets of STS12 to STS16 become one number.")
]
StsbText = Annotated[str, typer.Option(metavar="|".join(STSB_TEXTS), help="Text of STSBenchmark.")]
Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder that holds downstream/."
        " Default: $DISTILCSE_DATA/senteval, else datasets/senteval in the data home."
    ),
]
Normalize = Annotated[bool, typer.Option("--normalize", help="Scale embeddings to length 1; else they are as pooled.")]
ComputeDtype = Annotated[
    str,
    typer.Option(
        metavar="|".join(COMPUTE_DTYPES),
        help="Number format of matrix products; auto takes bfloat16 where the hardware has it, but not for transfer.",
    ),
]
ExactSequential = Annotated[
    bool, typer.Option("--exact-sequential", help="Train transfer classifiers one by one, as SentEval does. Slow.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Run again what earlier runs have scored.")]
Out = Annotated[Path | None, typer.Option(help="File to write the results to; with --format mteb a folder.")]
OutFormat = Annotated[str, typer.Option("--format", metavar="|".join(OUT_FORMATS), help="Form of --out.")]
# what the authors' scripts say, so that they go on
AuthorsModel = Annotated[list[str] | None, typer.Option("--model_name_or_path", hidden=True)]
AuthorsTaskSet = Annotated[str | None, typer.Option("--task_set", hidden=True)]
CONTEXT = {"allow_extra_args": True}
"""In those scripts `--tasks A B` has blanks between the names: B is an extra argument."""


def evaluate(
    context: typer.Context,
    model: Models = None,
    teacher: Teacher = None,
    pooler: options.Pooler = None,
    teacher_pooler: TeacherPooler = None,
    base: options.Base = None,
    tokenizer: options.Tokenizer = None,
    revision: options.Revision = None,
    teacher_revision: TeacherRevision = None,
    task_set: TaskSet = None,
    tasks: Tasks = None,
    mode: Mode = EvalSettings.mode,
    aggregation: Aggregation = EvalSettings.aggregation,
    stsb_text: StsbText = EvalSettings.stsb_text,
    data: Data = None,
    normalize: Normalize = EvalSettings.normalize,
    max_length: options.MaxLength = EvalSettings.max_length,
    batch_tokens: options.BatchTokens = EvalSettings.batch_tokens,
    nproc: options.NumProcesses = 1,
    device: options.Device = None,
    compute_dtype: ComputeDtype = "auto",
    exact_sequential: ExactSequential = EvalSettings.exact_sequential,
    overwrite: Overwrite = EvalSettings.overwrite,
    out: Out = None,
    out_format: OutFormat = "senteval",
    json: options.Json = False,
    authors_model: AuthorsModel = None,
    authors_task_set: AuthorsTaskSet = None,
) -> None:
    """Score models on SentEval. Results of earlier runs are re-used where model, data and settings are the same."""
    settings = EvalSettings(
        mode=mode,
        aggregation=aggregation,
        stsb_text=stsb_text,
        normalize=normalize,
        exact_sequential=exact_sequential,
        overwrite=overwrite,
        max_length=max_length,
        batch_tokens=batch_tokens,
    )
    MachineSettings(nproc=nproc, device=device, compute_dtype=compute_dtype)
    check_out(out, out_format, settings)
    if out is not None:
        options.require_outside(out, data)
    refs = [*(model or ()), *(authors_model or ())] or [options.model_or_default(None)]
    if revision is not None and len(set(refs)) > 1:
        raise UsageError("--revision goes with one model", hint="name one --model, or leave --revision out")

    from distilcse_cli.models.reference import ModelRef

    compared = ModelRef(ref=teacher, pooler=teacher_pooler, revision=teacher_revision) if teacher else None

    from distilcse_cli.evaluation.tasks import choose_tasks, data_folder, load_data

    chosen = choose_tasks(authors_task_set if task_set is None else task_set, _names(tasks, context.args))
    loaded = load_data(chosen, data_folder(data), settings)

    from distilcse_cli.launcher import launch

    if launch(nproc, sys.argv[1:], device):
        return

    from distilcse_cli.evaluation.run import choose_eval_runtime, choose_models, evaluate_models
    from distilcse_cli.ranks import joined, own_device

    runtime = choose_eval_runtime(own_device(device), compute_dtype, loaded)
    with joined(runtime) as ranks:
        choices = ranks.main_first(
            lambda: choose_models(refs, pooler=pooler, revision=revision, base=base, tokenizer=tokenizer)
        )
        report = evaluate_models(choices, compared, loaded, settings, runtime, ranks)
        ranks.on_main(lambda: _deliver(report, json, out, out_format))


def _names(tasks: Sequence[str] | None, further: Sequence[str]) -> list[str]:
    """Names of tasks, those behind the option's own value included."""
    if further and not tasks:
        raise UsageError(f"Got unexpected extra argument {further[0]!r}", hint="see distilcse eval --help")
    return [*(tasks or ()), *further]


def _deliver(report: "Report", json: bool, out: Path | None, out_format: str) -> None:
    """Print a report, and write it if that was asked for."""
    from distilcse_cli.evaluation.mteb import write_out

    for remark in report.remarks():
        console.log(remark)
    if json:
        console.result_json(report.as_dict())
    else:
        console.result(report.text())
    if out is not None:
        write_out(report, out, out_format)
