"""`distilcse push`: a student's folder to the Hugging Face hub."""

from typing import Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import options
from distilcse_cli.jobs import export as jobs
from distilcse_cli.setting import OUTPUT

EXAMPLES = """
distilcse push student --to-repo your-name/student --private
"""
Student = Annotated[str, typer.Argument(metavar="STUDENT", help="Folder of the student.")]
ToRepo = Annotated[
    str, typer.Option(metavar="NAME/REPO", rich_help_panel=OUTPUT, help="Repository on the hub, made if need be.")
]
Private = Annotated[
    bool, typer.Option("--private", rich_help_panel=OUTPUT, help="For you alone: a new repository is private.")
]
Revision = Annotated[
    str | None,
    typer.Option(metavar="BRANCH", rich_help_panel=OUTPUT, help="Branch to commit to, made if need be. Default: main."),
]


def push(
    student: Student,
    *,
    to_repo: ToRepo,
    private: Private = False,
    revision: Revision = None,
    json: options.Json = False,
) -> None:
    """Upload a student to the Hugging Face hub: model, card and graphs, without the files of the training."""
    report = jobs.push(student, to_repo=to_repo, private=private, revision=revision)
    if json:
        return console.result_json(report)
    console.result(f"{report['url']}: {len(report['files'])} files, {report['num_bytes'] / 1e6:,.1f} MB")
    return None
