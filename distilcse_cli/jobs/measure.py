"""Scores of models: SentEval's tasks, and students beside their teacher without labels."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from distilcse_cli.config import CorpusSettings, MachineSettings
from distilcse_cli.errors import UsageError
from distilcse_cli.evaluation.settings import CompareSettings, EvalSettings
from distilcse_cli.evaluation.verdict import GATE, require_known
from distilcse_cli.models.options import ModelOptions, Ref, StudentOptions, TeacherOptions, many
from distilcse_cli.outputs import require_file, require_outside, require_writable

if TYPE_CHECKING:
    from distilcse_cli.evaluation.compared import CompareResult
    from distilcse_cli.evaluation.report import Report as EvalReport


def evaluate(
    model: Ref | Sequence[Ref],
    *,
    teacher: Ref | None = None,
    tasks: str | Sequence[str] = "sts",
    data: Ref | None = None,
    model_options: ModelOptions,
    teacher_options: TeacherOptions,
    settings: EvalSettings,
    machine: MachineSettings,
    task_set: str | None = None,
    on_checked: Callable[[], None] = lambda: None,
    deliver: Callable[["EvalReport"], None] = lambda _: None,
) -> "EvalReport":
    """Score models on SentEval. Results of earlier runs are used again where model, data and settings are the same.

    Transfer tasks compute in float32 unless `compute_dtype` says otherwise: their scores depend on the last digits.

    Args:
        model: Model to score, or a list of them: folder, catalogue name, hub id or file of weights.
        teacher: Model to compare with: its row, and each difference to it.
        tasks: `sts`, `transfer` or `full`, or names of tasks such as `["STS12", "MR"]`.
        data: Folder that holds `downstream/`. Default: `$DISTILCSE_DATA/senteval`, else `datasets/senteval` in the data
            home.

    Returns:
        Scores x 100 of each model on each task, and tables of them.

    Raises:
        UsageError: There is no such task, or a setting is out of range.
        DataError: A task's files are missing or malformed.
        ModelError: A model cannot be found or loaded, or gives numbers that are not finite.
    """
    refs = [os.fspath(one) for one in many(model)]
    _require_one(refs, model_options, "--model")

    from distilcse_cli.evaluation.tasks import choose_tasks, data_folder, load_data

    chosen = choose_tasks(task_set, [tasks] if isinstance(tasks, str) else tasks)
    loaded = load_data(chosen, data_folder(None if data is None else Path(data)), settings)
    on_checked()

    from distilcse_cli.evaluation.run import choose_eval_runtime, choose_models, evaluate_models
    from distilcse_cli.ranks import joined, own_device

    runtime = choose_eval_runtime(own_device(machine.device), machine.compute_dtype, loaded)
    with joined(runtime, machine.rendezvous_timeout) as ranks:
        choices = ranks.main_first(lambda: choose_models(refs, **asdict(model_options)))
        compared = teacher_options.of(teacher) if teacher else None
        report = evaluate_models(choices, compared, loaded, settings, runtime, ranks)
        ranks.on_main(lambda: deliver(report))
        return report


def compare(
    *,
    teacher: Ref,
    student: Ref | Sequence[Ref],
    corpus: Sequence[str] | None = None,
    student_options: StudentOptions,
    teacher_options: TeacherOptions,
    corpus_settings: CorpusSettings,
    settings: CompareSettings,
    labels: Ref | None = None,
    queries: Ref | None = None,
    documents: Ref | None = None,
    qrels: Ref | None = None,
    least: Mapping[str, float] = GATE,
    report: Ref | None = None,
) -> "CompareResult":
    """Compare students with their teacher without labels: closeness, speed, size; and a verdict.

    Args:
        teacher: A model, or the folder of its embeddings.
        student: Model to judge, or a list of them.
        corpus: Sentences to compare on. Default: those of a teacher that is a store.
        labels: Table of your own: sentence1, sentence2, score.
        queries: Queries of your own: _id, text.
        documents: Documents for `queries`: _id, text, perhaps title.
        qrels: Which answer which: query-id, corpus-id, score.
        least: Least values of metrics, by which the verdict is made.
        report: File to write as a page of HTML with pictures.

    Returns:
        The figures of teacher and students, and the verdict; its `require()` raises it where a student is no good.

    Raises:
        DistilCSEError: A model, the corpus, a table or a setting cannot be used.
    """
    require_known(least)
    students = [os.fspath(one) for one in many(student)]
    _require_one(students, student_options, "--student")
    page, *own = (file if file is None else Path(file) for file in (report, labels, queries, documents, qrels))
    _check_files(page, own, teacher, *students, *(corpus or ()))

    from distilcse_cli.evaluation.compare import compare as compare_models
    from distilcse_cli.evaluation.html_report import write_report
    from distilcse_cli.evaluation.labelled import read_pairs, read_retrieval

    result = compare_models(
        teacher_options.of(teacher),
        [student_options.of(ref) for ref in students],
        corpus or (),
        settings=settings,
        corpus_settings=corpus_settings,
        pairs=read_pairs(own[0]) if own[0] else None,
        retrieval=read_retrieval(own[1], own[2], own[3]) if own[1] and own[2] and own[3] else None,
        least=least,
    )
    if page is not None:
        write_report(result, page)
    return result


def _require_one(refs: Sequence[str], options: ModelOptions, option: str) -> None:
    """Check that a revision is not given for several models."""
    if options.revision is not None and len(set(refs)) > 1:
        raise UsageError("--revision goes with one model", hint=f"name one {option}, or leave --revision out")


def _check_files(report: Path | None, own: Sequence[Path | None], *read: Ref) -> None:
    """Check the labels' files and the page to write before anything slow starts."""
    if any(own[1:]) and not all(own[1:]):
        raise UsageError("--queries, --documents and --qrels go together", hint="name all three")
    for file in own:
        if file is not None:
            require_file(file)
    if report is not None:
        require_outside(report, *read, *own)
        require_writable(report)
