"""`distilcse convert`: a file of weights to a model folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import options
from distilcse_cli.commands.outputs import require_free, require_outside, require_utf8
from distilcse_cli.config import EncodeSettings
from distilcse_cli.setting import OUTPUT, check, settings_of

EXAMPLES = """
distilcse convert CKD-Tiny-L6.pth --base nreimers/TinyBERT_L-6_H-768_v2 --out ckd-tiny-l6
"""
Weights = Annotated[
    str, typer.Argument(metavar="FILE", help="State dict, .pth or .safetensors, or a catalogue name of one.")
]
Out = Annotated[Path, typer.Option(rich_help_panel=OUTPUT, help="Folder for the model; must not exist or be empty.")]


@dataclass(frozen=True, kw_only=True)
class ConvertSettings:
    """What the folder says besides the weights."""

    max_length: Annotated[int | None, settings_of(EncodeSettings)["max_length"]] = None

    def __post_init__(self) -> None:
        check(self)


@options.with_settings
def convert(
    *,
    weights: Weights,
    out: Out,
    model_options: options.ModelOptions,
    settings: ConvertSettings,
    json: options.Json = False,
) -> None:
    """Turn a file of weights into a model folder."""
    require_utf8(out)
    require_free(out)
    require_outside(out, weights, model_options.base, model_options.tokenizer)

    from distilcse_cli.models.convert import convert as run

    report = run(model_options.of(weights), out, max_length=settings.max_length)
    if json:
        console.result_json(report.as_dict())
        return
    console.result(
        f"{out}: {report.architecture} of {report.num_layers} layers, {report.embedding_dim} numbers an embedding,"
        f" pooling {report.pooling}, at most {report.max_length} tokens"
    )
