"""Options made from settings, help under headings, and the options that several commands share.

A command takes settings objects; `with_settings` gives it an option for each of their fields, so that
name, help, default and limits of an option are written once, in the field's `Setting`.
"""

import inspect
import typing
from collections.abc import Callable
from dataclasses import MISSING
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from distilcse_cli.models.options import ModelOptions, StudentOptions, TeacherOptions  # noqa: F401  taken from here
from distilcse_cli.setting import DATA, KEEPING, MODELS, OUTPUT, PANELS, Setting, is_list, with_fields


class Grouped(TyperCommand):
    """A command whose help shows options under the headings of `setting.PANELS`, and examples at the end."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each heading that has options; options without one come last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
                sections.setdefault(getattr(parameter, "rich_help_panel", None) or kind, []).append(record)
        for heading in ("Arguments", *PANELS, "Options"):
            if heading in sections:
                with formatter.section(heading):
                    formatter.write_dl(sections[heading])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  the base class passes it
        """Write the examples as they are, without breaking their lines."""
        if self.epilog:
            with formatter.section("Examples"):
                for line in inspect.cleandoc(self.epilog).splitlines():
                    formatter.write(f"  {line}\n")


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter of a command that is a settings dataclass by an option for each of its fields."""
    return with_fields(command, _option, _make)


def _option(field: str, setting: Setting, annotation: Any, default: Any) -> inspect.Parameter:
    help = setting.help
    if isinstance(default, float):
        help += f"  [default: {default:.4g}]"  # Typer would show all digits of e
    option = typer.Option(
        *([setting.option] if setting.option else []),
        help=help,
        metavar=setting.metavar or "|".join(setting.choices) or None,
        rich_help_panel=setting.panel,
        show_default=not isinstance(default, float),
    )
    return inspect.Parameter(
        field,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is MISSING else default,
        annotation=Annotated[str | None if is_list(annotation) else annotation, option],
    )


def _make(kind: type[Any], given: dict[str, Any]) -> Any:
    """Settings from the values of their options; a list is typed with commas."""
    types = typing.get_type_hints(kind)
    for field, value in given.items():
        if is_list(types[field]) and value is not None:
            given[field] = tuple(part.strip() for part in value.split(","))
    return kind(**given)


Model = Annotated[
    str | None,
    typer.Option(
        metavar="REF",
        rich_help_panel=MODELS,
        help="Model to use: folder, catalogue name, hub id or file of weights."
        " Default: $DISTILCSE_MODEL, else all-minilm-l6 if it is downloaded.",
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="REF",
        rich_help_panel=MODELS,
        help="Model to score: folder, catalogue name, hub id or file of weights. Repeat it for a row each."
        " Default: $DISTILCSE_MODEL, else all-minilm-l6 if it is downloaded.",
    ),
]
Teacher = Annotated[
    str,
    typer.Option(
        metavar="REF",
        rich_help_panel=MODELS,
        help="The teacher: folder, catalogue name, hub id or file of weights.",
    ),
]
Student = Annotated[
    str,
    typer.Option(
        metavar="REF",
        rich_help_panel=MODELS,
        help="The model that the student starts from: folder, catalogue name, hub id or file of weights.",
    ),
]
Corpus = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        rich_help_panel=DATA,
        help="Sentences: text file (one a line), .gz, .jsonl, .csv, .parquet, or a hub data set id. Repeat it for"
        " several. Default: News-5m if it is downloaded, else the sentences of news-articles.",
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", rich_help_panel=KEEPING, help="Continue an interrupted run; without one, start it."),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", rich_help_panel=KEEPING, help="Replace the student in OUT, or start an interrupted run anew."
    ),
]
StudentOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        rich_help_panel=OUTPUT,
        help="Folder for the student; must not exist or be empty."
        " Default: named after the models, in the working folder.",
    ),
]
Json = Annotated[bool, typer.Option("--json", rich_help_panel=OUTPUT, help="Print the result as JSON.")]
