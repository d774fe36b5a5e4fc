"""`distilcse convert`: a file of weights to a model folder."""

from pathlib import Path
from typing import Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import options
from distilcse_cli.config import EncodeSettings


def convert(
    weights: Annotated[
        str, typer.Argument(metavar="FILE", help="State dict, .pth or .safetensors, or a catalogue name of one.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the model; must not exist or be empty.")],
    base: options.Base = None,
    tokenizer: options.Tokenizer = None,
    pooler: options.Pooler = None,
    max_length: options.MaxLength = None,
    revision: options.Revision = None,
    json: options.Json = False,
) -> None:
    """Make a model folder of a file of weights, as the authors published theirs."""
    EncodeSettings(max_length=max_length)  # a bad value exits 2 before torch loads
    options.require_utf8(out)
    options.require_free(out)
    options.require_outside(out, base, tokenizer)

    from distilcse_cli.models.convert import convert as run
    from distilcse_cli.models.reference import ModelRef

    named = ModelRef(ref=weights, pooler=pooler, revision=revision, base=base, tokenizer=tokenizer)
    report = run(named, out, max_length=max_length)
    if json:
        console.result_json(report.as_dict())
    else:
        console.result(
            f"{out}: {report.architecture} of {report.num_layers} layers, {report.embedding_dim} numbers an embedding,"
            f" pooling {report.pooling}, at most {report.max_length} tokens"
        )
