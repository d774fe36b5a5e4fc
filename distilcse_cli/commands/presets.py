"""`--preset`, and the argument names of the authors' own scripts, for both training commands."""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from distilcse_cli import console
from distilcse_cli.commands.options import Grouped
from distilcse_cli.commands.settings_file import in_the_file
from distilcse_cli.errors import UsageError
from distilcse_cli.jobs.defaults import say
from distilcse_cli.setting import SCHEDULE

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
    "pooler": "cls",
}
"""The published settings of stage 1, for eight processes."""

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
    "pooler": "cls",
}
"""The published settings of stage 2, for four processes."""
BEST_DISTILL = {"epochs": 3}
"""Stage 1 in three times the time of the defaults; docs/results.md has what it gains."""
OF_COMMAND: dict[str | None, dict[str, dict[str, Any]]] = {
    "distill": {"paper": PAPER_DISTILL, "best": BEST_DISTILL},
    "finetune": {"paper": PAPER_FINETUNE},
}
"""The presets of each command."""

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


FINETUNE_NAMES: Rename = {
    **{name: today for name, today in AUTHORS_NAMES.items() if name != "--queue_len"},
    "--data_path": ("--triplets", None),
    "--temp": ("--logit-scale", None),
}
"""The same names as stage 2 means them: its scale is no exponent, and it has no queue."""


def _use_preset(context: typer.Context, name: str | None) -> str | None:
    """Make the preset's values the defaults of the options, except where a settings file has others."""
    if name is not None and not context.resilient_parsing:
        presets = OF_COMMAND[context.command.name]
        if name not in presets:
            raise UsageError(f"--preset is {name!r}, but must be {' or '.join(presets)}")
        context.default_map = presets[name] | dict(context.default_map or {})
    return name


Preset = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(OF_COMMAND["distill"]),
        is_eager=True,
        callback=_use_preset,
        rich_help_panel=SCHEDULE,
        help="paper: the published settings. best (stage 1): better, in three times the time. Options on the command"
        " line or in --config win.",
    ),
]


class TrainingCommand(Grouped):
    """A command with a preset that also takes the names of the authors' scripts; its help does not show those."""

    renamed: Rename = AUTHORS_NAMES

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Translate the authors' names, parse, and show where each value of a preset comes from."""
        rest = super().parse_args(ctx, translate(args, self.renamed))
        if ctx.params.get("preset") is not None and not ctx.resilient_parsing:
            say(_preset_table(ctx, OF_COMMAND[self.name][ctx.params["preset"]]))
        return rest


class FinetuneCommand(TrainingCommand):
    """The same with the names as stage 2 means them."""

    renamed = FINETUNE_NAMES


def _is_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _preset_table(context: typer.Context, preset: dict[str, Any]) -> str:
    """A row for each value of a preset: its option, its value now, and who said so."""
    rows = []
    for name in preset:
        origin = "as typed" if _is_typed(context, name) else "--config" if name in in_the_file(context) else "preset"
        rows.append((name.removeprefix("num_").replace("_", "-"), str(context.params[name]), origin))
    return console.table(("setting", "value", "from"), rows, align="l")


def translate(arguments: list[str], renamed: Rename) -> list[str]:
    """Replace option names, and values whose meaning has changed.

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
