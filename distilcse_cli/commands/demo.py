"""`distilcse demo`: the main job end to end, and what to type next."""

from pathlib import Path
from typing import Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import options


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the student.")] = Path("demo"),
    sentences: Annotated[
        int | None, typer.Option(min=100, help="Use the first so many of the 85,000 sentences, for a quicker look.")
    ] = None,
    device: options.Device = None,
    compute_dtype: options.ComputeDtype = "auto",
) -> None:
    """Distil the packaged six-layer teacher to three layers on real news, and show what was kept."""
    from distilcse_cli.evaluation.demo import run_demo

    report = run_demo(out, num_sentences=sentences, device=device, compute_dtype=compute_dtype)
    console.result(
        f"\n{report.num_sentences:,} news sentences, {report.num_held_out:,} of them held out for the columns of"
        f" agreement; computed on {report.runtime}\n"
    )
    console.result(report.table())
    console.result(
        f"""
Next, with your own text and models:
  distilcse encode sentences.txt --model {report.student} --out embeddings.npy
  distilcse distill --teacher REF --student REF --corpus sentences.txt --out student
  distilcse eval --model {report.student} --task-set sts --data path/to/SentEval/data"""
    )
