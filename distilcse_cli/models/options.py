"""What a user says of a model besides its name: options of the commands, keywords of the Python functions."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from distilcse_cli.config import POOLINGS
from distilcse_cli.errors import UsageError
from distilcse_cli.setting import MODELS, Setting, check

if TYPE_CHECKING:
    from distilcse_cli.models.reference import ModelRef

Ref = str | os.PathLike[str]
"""A path, or what stands in its place: a name of the catalogue, a hub id."""


def many(names: Ref | Sequence[Ref]) -> Sequence[Ref]:
    """One name or several, as a list."""
    return [names] if isinstance(names, (str, os.PathLike)) else names


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

    def of(self, ref: Ref) -> "ModelRef":
        """The model that `ref` names, read this way."""
        from distilcse_cli.models.reference import ModelRef

        return ModelRef(ref=os.fspath(ref), **dataclasses.asdict(self))


@dataclass(frozen=True, kw_only=True)
class StudentOptions(ModelOptions):
    """How the model that a student is made from is read, and which of its layers are kept."""

    keep_layers: Annotated[
        tuple[int | str, ...] | None,
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
            text = ",".join(map(str, self.keep_layers or ()))
            raise UsageError(f"--keep-layers is {text!r}, but must be layer numbers such as 0,3,5") from error

    def of(self, ref: Ref) -> "ModelRef":
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

    def of(self, ref: Ref) -> "ModelRef":
        """The teacher that `ref` names, read this way."""
        from distilcse_cli.models.reference import ModelRef

        given = {name.removeprefix("teacher_"): value for name, value in dataclasses.asdict(self).items()}
        return ModelRef(ref=os.fspath(ref), **given)
