"""Options made from settings, help under headings, and the options that several commands share.

A command takes settings objects; `with_settings` gives it an option for each of their fields, so that
name, help, default and limits of an option are written once, in the field's `Setting`.
"""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from distilcse_cli.config import POOLINGS
from distilcse_cli.errors import UsageError
from distilcse_cli.setting import DATA, KEEPING, MODELS, OUTPUT, PANELS, Setting, check, settings_of

if TYPE_CHECKING:
    from distilcse_cli.models.reference import ModelRef


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
    """Replace each parameter that is a settings dataclass by an option for each of its fields.

    The command is called with the settings made from the options, and so checked.

    Raises:
        ValueError: two settings have a field of the same name.
    """
    kinds: dict[str, type[Any]] = {}
    fields: dict[str, list[str]] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if dataclasses.is_dataclass(parameter.annotation):
            kinds[name] = parameter.annotation  # type: ignore[assignment]
            of_fields = _options_of(kinds[name])
            fields[name] = [option.name for option in of_fields]
            parameters += of_fields
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        made = {name: _make(kind, {field: given.pop(field) for field in fields[name]}) for name, kind in kinds.items()}
        command(**given, **made)

    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_options


def _options_of(kind: type[Any]) -> list[inspect.Parameter]:
    """A command's parameters for the fields of a settings dataclass, without the internal ones; inherited ones last."""
    types = typing.get_type_hints(kind)
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    return [
        _option(field, setting, types[field], defaults[field])
        for field, setting in sorted(settings_of(kind).items(), key=lambda named: named[0] not in kind.__annotations__)
        if not setting.internal
    ]


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
        annotation=Annotated[str | None if _is_list(annotation) else annotation, option],
    )


def _make(kind: type[Any], given: dict[str, Any]) -> Any:
    """Settings from the values of their options; a list is typed with commas."""
    types = typing.get_type_hints(kind)
    for field, value in given.items():
        if _is_list(types[field]) and value is not None:
            given[field] = tuple(part.strip() for part in value.split(","))
    return kind(**given)


def _is_list(annotation: Any) -> bool:
    return any(typing.get_origin(one) is tuple for one in (annotation, *typing.get_args(annotation)))


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How the model that a command works on is read."""

    pooler: Annotated[
        str | None,
        Setting(
            f"How token vectors become the vector of a sentence: {', '.join(POOLINGS)}."
            " Default: what the model's folder says, else cls.",
            panel=MODELS,
            choices=POOLINGS,
            metavar="POOLING",
        ),
    ] = None
    revision: Annotated[str | None, Setting("Branch, tag or commit of a hub model.", panel=MODELS)] = None
    base: Annotated[
        str | None,
        Setting(
            "For a file of weights (.pth): the model it was trained from. Default: read from its tensors.",
            panel=MODELS,
            metavar="REF",
        ),
    ] = None
    tokenizer: Annotated[
        str | None,
        Setting(
            "For a file of weights: the model whose tokenizer it has. Default: the base's, else one of that size.",
            panel=MODELS,
            metavar="REF",
        ),
    ] = None

    prompt: Annotated[
        str | None,
        Setting("Text before every sentence. Default: the folder's default prompt; '' for none.", panel=MODELS),
    ] = None
    prompt_name: Annotated[
        str | None, Setting("A prompt of the model's folder, by its name.", panel=MODELS, metavar="NAME")
    ] = None

    def __post_init__(self) -> None:
        check(self)

    def of(self, ref: str) -> "ModelRef":
        """The model that `ref` names, read this way."""
        from distilcse_cli.models.reference import ModelRef

        return ModelRef(ref=ref, **dataclasses.asdict(self))


@dataclass(frozen=True, kw_only=True)
class StudentOptions(ModelOptions):
    """How the model that a student is made from is read, and which of its layers are kept."""

    keep_layers: Annotated[
        tuple[str, ...] | None,
        Setting("Cut the student: numbers of the layers to keep, such as 0,3,5.", panel=MODELS, metavar="N,N,..."),
    ] = None

    @property
    def layers(self) -> tuple[int, ...] | None:
        """The numbers of the layers.

        Raises:
            UsageError: they are not numbers.
        """
        try:
            return None if self.keep_layers is None else tuple(int(part) for part in self.keep_layers)
        except ValueError as error:
            text = ",".join(self.keep_layers or ())
            raise UsageError(f"--keep-layers is {text!r}, but must be layer numbers such as 0,3,5") from error

    def of(self, ref: str) -> "ModelRef":
        """The model that `ref` names, read this way and cut."""
        return dataclasses.replace(ModelOptions.of(self, ref), keep_layers=self.layers)


@dataclass(frozen=True, kw_only=True)
class TeacherOptions:
    """How the teacher is read."""

    teacher_pooler: Annotated[
        str | None,
        Setting(
            "The teacher's pooling, as for --pooler. Default: what its folder says, else cls.",
            panel=MODELS,
            choices=POOLINGS,
            metavar="POOLING",
        ),
    ] = None
    teacher_revision: Annotated[str | None, Setting("Branch, tag or commit of a hub teacher.", panel=MODELS)] = None

    teacher_prompt: Annotated[
        str | None, Setting("As --prompt, before the sentences that the teacher gets.", panel=MODELS)
    ] = None
    teacher_prompt_name: Annotated[
        str | None, Setting("As --prompt-name, of the teacher's folder.", panel=MODELS, metavar="NAME")
    ] = None

    def __post_init__(self) -> None:
        check(self)

    def of(self, ref: str) -> "ModelRef":
        """The teacher that `ref` names, read this way."""
        from distilcse_cli.models.reference import ModelRef

        given = {name.removeprefix("teacher_"): value for name, value in dataclasses.asdict(self).items()}
        return ModelRef(ref=ref, **given)


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
