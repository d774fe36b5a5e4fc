"""`distilcse compare`: are students good enough to replace their teacher? No labels needed."""

from pathlib import Path
from typing import Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import options
from distilcse_cli.commands.settings_file import Config
from distilcse_cli.config import CorpusSettings
from distilcse_cli.evaluation.settings import CompareSettings
from distilcse_cli.evaluation.verdict import GATE, parse_limits
from distilcse_cli.jobs import measure
from distilcse_cli.setting import DATA, MODELS, OBJECTIVE, OUTPUT

EXAMPLES = """
distilcse compare --teacher all-minilm-l6 --student student --corpus sentences.txt --report report.html
distilcse compare --teacher embeddings --student small --student smaller --fail-under shared10=0.6
"""
Teacher = Annotated[
    str, typer.Option(metavar="REF|STORE", rich_help_panel=MODELS, help="The teacher: a model, or its embeddings.")
]
Students = Annotated[
    list[str],
    typer.Option(
        "--student", metavar="REF", rich_help_panel=MODELS, help="Model to judge. Repeat it for a column each."
    ),
]
Corpus = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        rich_help_panel=DATA,
        help="Sentences: text file (one a line), .gz, .jsonl, .csv, .parquet, or a hub data set id. Repeat it for"
        " several. Default: the sentences of a teacher that is a store.",
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(metavar="FILE", rich_help_panel=DATA, help="Table of your own: sentence1, sentence2, score."),
]
Queries = Annotated[
    Path | None, typer.Option(metavar="FILE", rich_help_panel=DATA, help="Queries of your own: _id, text.")
]
Documents = Annotated[
    Path | None,
    typer.Option(metavar="FILE", rich_help_panel=DATA, help="Documents for --queries: _id, text, perhaps title."),
]
Qrels = Annotated[
    Path | None,
    typer.Option(metavar="FILE", rich_help_panel=DATA, help="Which answer which: query-id, corpus-id, score."),
]
FailUnder = Annotated[
    list[str] | None,
    typer.Option(
        metavar="METRIC=VALUE",
        rich_help_panel=OBJECTIVE,
        help="End with exit code 7 if a student's metric is below that. Repeat it for several.",
    ),
]
Gate = Annotated[
    bool,
    typer.Option(
        "--gate",
        rich_help_panel=OBJECTIVE,
        help=f"The same with {', '.join(f'{name}={value:g}' for name, value in GATE.items())}.",
    ),
]
Report = Annotated[
    Path | None, typer.Option(metavar="FILE", rich_help_panel=OUTPUT, help="Write a page of HTML with pictures.")
]


@options.with_settings
def compare(
    *,
    teacher: Teacher,
    student: Students,
    student_options: options.StudentOptions,
    teacher_options: options.TeacherOptions,
    corpus: Corpus = None,
    corpus_settings: CorpusSettings,
    settings: CompareSettings,
    labels: Labels = None,
    queries: Queries = None,
    documents: Documents = None,
    qrels: Qrels = None,
    fail_under: FailUnder = None,
    gate: Gate = False,
    report: Report = None,
    config: Config = None,  # noqa: ARG001  its callback does the work
    json: options.Json = False,
) -> None:
    """Compare students with their teacher without labels: closeness, speed, size; and a verdict.

    The verdict is by --fail-under, else by the values of --gate.
    """
    limits = parse_limits(fail_under or ())
    result = measure.compare(
        teacher=teacher,
        student=student,
        corpus=corpus,
        student_options=student_options,
        teacher_options=teacher_options,
        corpus_settings=corpus_settings,
        settings=settings,
        labels=labels,
        queries=queries,
        documents=documents,
        qrels=qrels,
        least={**GATE, **limits} if gate or not limits else limits,
        report=report,
    )
    if json:
        console.result_json(result.as_dict())
    else:
        console.result(result.table())
    if gate or limits:
        result.require()
