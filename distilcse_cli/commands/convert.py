"""`distilcse convert`: a file of weights to a model folder, or a model folder to a smaller one."""

from pathlib import Path
from typing import Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import options
from distilcse_cli.jobs import serve
from distilcse_cli.jobs.serve import ConvertSettings
from distilcse_cli.setting import DATA, OUTPUT

EXAMPLES = """
distilcse convert CKD-Tiny-L6.pth --base nreimers/TinyBERT_L-6_H-768_v2 --out ckd-tiny-l6
distilcse convert all-minilm-l6 --vocab-size 16000 --corpus sentences.txt --save-dtype float16 --out small
"""
Weights = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="State dict, .pth or .safetensors, or a catalogue name of one. To make it smaller, also a model folder.",
    ),
]
Corpus = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE", rich_help_panel=DATA, help="Sentences for --vocab-size, one a line. Repeat it for several."
    ),
]
Out = Annotated[Path, typer.Option(rich_help_panel=OUTPUT, help="Folder for the model; must not exist or be empty.")]


@options.with_settings
def convert(
    *,
    weights: Weights,
    out: Out,
    model_options: options.ModelOptions,
    corpus: Corpus = None,
    settings: ConvertSettings,
    json: options.Json = False,
) -> None:
    """Turn a file of weights into a model folder, or a model folder into a smaller one."""
    report = serve.convert(weights, out=out, corpus=corpus, model_options=model_options, settings=settings)
    if json:
        console.result_json(report.as_dict())
        return
    console.result(
        f"{out}: {report.architecture} of {report.num_layers} layers, {report.embedding_dim} numbers an embedding,"
        f" pooling {report.pooling}, at most {report.max_length} tokens"
    )
