"""`--preset`, and the argument names of the authors' own scripts, for both training commands."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import typer
from typer.core import TyperCommand

from distilcse_cli import console
from distilcse_cli.errors import UsageError
from distilcse_cli.ranks import in_a_group

PRESETS = ("paper",)

PAPER_DISTILL = {
    "loss": "ckd",
    "epochs": 20,
    "batch_size": 512,
    "bank_size": 65_536,
    "mask_same_text": False,
    "lr": 2e-4,
    "warmup_epochs": 0.1,
    "logit_scale": math.e,
    "learn_logit_scale": True,
    "max_length": 64,
    "grad_clip": 1.0,
    "dropout": True,
    "eval_every": 125,
    "patience": 3.0,
    "seed": 1111,
}
"""What was published for stage 1, with eight processes; pooling `cls` goes with it."""

PAPER_FINETUNE = {
    "epochs": 5,
    "batch_size": 128,
    "lr": 5e-5,
    "warmup_epochs": 0.1,
    "logit_scale": 20.0,
    "learn_logit_scale": True,
    "exponential_scale": False,
    "mask_same_text": False,
    "max_length": 64,
    "grad_clip": 1.0,
    "num_held_out": 0,
    "dropout": True,
    "eval_every": 125,
    "patience": 3.0,
    "seed": 1111,
}
"""What was published for stage 2, with four processes; pooling `cls` goes with it."""

Rename = Mapping[str, tuple[str, Callable[[str], str] | None]]


def exponential(value: str) -> str:
    """The authors' `--temp` is the exponent of the scale at the start."""
    try:
        return repr(math.exp(float(value)))
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--temp is {value!r}, but must be the exponent that the logit scale starts from") from error


AUTHORS_NAMES: Rename = {
    "--data_path": ("--corpus", None),
    "--start_model": ("--student", None),
    "--teacher_model": ("--teacher", None),
    "--output_path": ("--out", None),
    "--save_path": ("--out", None),
    "--temp": ("--logit-scale", exponential),
    "--pooler_type": ("--pooler", None),
    "--queue_len": ("--bank-size", None),
    "--batch_size": ("--batch-size", None),
    "--max_len": ("--max-length", None),
    "--max_length": ("--max-length", None),
    "--learning_rate": ("--lr", None),
    "--eval_step": ("--eval-every", None),
}


class AuthorsNamesCommand(TyperCommand):
    """A command that also takes the names of the authors' scripts; its help does not show them."""

    renamed: Rename = AUTHORS_NAMES

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put today's names in place of the authors', then parse."""
        return super().parse_args(ctx, translate(args, self.renamed))


def translate(arguments: list[str], renamed: Rename) -> list[str]:
    """Replace option names, and the values that mean something else today.

    Both `--name value` and `--name=value` are understood.
    """
    translated: list[str] = []
    convert: Callable[[str], str] | None = None
    for argument in arguments:
        if convert is not None:
            argument, convert = convert(argument), None
        name, equals, value = argument.partition("=")
        if name in renamed:
            today, meaning = renamed[name]
            argument = f"{today}={meaning(value) if meaning else value}" if equals else today
            convert = None if equals else meaning
        translated.append(argument)
    return translated


def with_preset(context: typer.Context, given: dict[str, Any], preset: dict[str, Any]) -> dict[str, Any]:
    """The values of a preset wherever the command line said nothing, as a table on stderr too.

    Args:
        context: knows which options were typed.
        given: name of an option's variable to its value.
        preset: name to published value.
    """
    typed = {name for name in preset if context.get_parameter_source(name).name == "COMMANDLINE"}  # type: ignore[union-attr]
    values = {name: given[name] if name in typed else value for name, value in preset.items()}
    rows = [
        (name.removeprefix("num_").replace("_", "-"), str(values[name]), "as typed" if name in typed else "published")
        for name in preset
    ]
    if in_a_group() or context.params.get("nproc") == 1:  # else the workers will show it
        console.log(console.table(("setting", "value", "from"), rows, align="l"))
    return given | values


def check_preset(name: str | None) -> None:
    """Check a `--preset`.

    Raises:
        UsageError: there is none of that name.
    """
    if name is not None and name not in PRESETS:
        raise UsageError(f"--preset is {name!r}, but must be {' or '.join(PRESETS)}")
