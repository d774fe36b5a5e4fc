"""Train a student with sentence-transformers, to score it beside ours.

    python -m benchmarks.rivals --recipe tuned --corpus sixty.txt --seed 1 --out FOLDER [--st-python PYTHON]

`shipped` has the settings of its example `model_distillation_layer_reduction.py`: every second layer
from the first, MSE, learning rate 1e-4, batches of 64, dropout as in the teacher. The example asks for
mixed precision; that is bf16 here, where the CPU has it. `tuned` has what we chose on STS-B's
development set. Both start from the teacher's layers with its Normalize, and learn the rows that
`distilcse extract` wrote, so `cpu_seconds` of FOLDER/rival.json, user and system, leave the teacher out.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.peer import Peer
from benchmarks.st_sides import MAX_LENGTH
from distilcse_cli import console
from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.corpus import prepare_corpus
from distilcse_cli.errors import UsageError
from distilcse_cli.files import write_json
from distilcse_cli.models.folder import save_student
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.runtime import choose_runtime
from distilcse_cli.training.teacher_rows import Teacher

SHIPPED: dict[str, Any] = {
    "keep_layers": "0,2,4",
    "loss": "mse",
    "lr": 1e-4,
    "batch_size": 64,
    "max_length": None,
    "eager": False,
    "dropout": True,
}
RECIPES = {
    "shipped": SHIPPED,
    "tuned": SHIPPED | {"keep_layers": "0,4,5", "max_length": MAX_LENGTH, "eager": True, "dropout": False},
}
"""Name -> settings of `STStudent`, and the layers of the teacher that the student keeps."""


def train(recipe: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """Train and save one student; what it cost.

    Args:
        recipe: as in `RECIPES`.
        arguments: of the command line.
    """
    runtime, recipe = choose_runtime("cpu"), dict(recipe)
    layers = tuple(int(number) for number in recipe.pop("keep_layers").split(","))
    corpus, teacher = prepare_corpus([str(arguments.corpus)], CorpusSettings()), ModelRef(ref=arguments.teacher)
    rows = Teacher(teacher).store(corpus, runtime, arguments.embeddings).embeddings
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_student(ModelRef(ref=arguments.teacher, keep_layers=layers).load(), folder / "start", card="", settings={})
        (folder / "columns.json").write_text(json.dumps({"sentence": list(corpus)}), encoding="utf-8")
        np.save(folder / "rows.npy", np.asarray(rows, dtype=np.float32))
        settings = recipe | {
            "model": str(folder / "start"),
            "data": str(folder / "columns.json"),
            "labels": str(folder / "rows.npy"),
            "out": str(arguments.out.absolute()),
            "seed": arguments.seed,
            "bf16": runtime.dtype == "bfloat16",
        }
        side = Peer("benchmarks.st_sides:STStudent", settings, threads=arguments.threads, python=arguments.st_python)
        try:
            return side.facts | {"bf16": settings["bf16"]} | side.run()
        finally:
            side.close()


def new_parser() -> argparse.ArgumentParser:
    """Options; those of a recipe replace its settings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", choices=sorted(RECIPES), required=True)
    parser.add_argument("--corpus", type=Path, required=True, help="sentences, one a line")
    parser.add_argument("--out", type=Path, required=True, help="folder for the student")
    parser.add_argument("--teacher", default="all-minilm-l6", help="folder, catalogue name or hub id")
    parser.add_argument(
        "--embeddings", type=Path, help="of `distilcse extract` (default: found or made as distill does)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=common.whole(), default=1)
    parser.add_argument("--keep-layers", help="numbers of the teacher's layers")
    parser.add_argument("--loss", choices=("mse", "cosine"))
    parser.add_argument("--lr", type=float)
    parser.add_argument("--batch-size", type=common.whole())
    parser.add_argument(
        "--st-python",
        default=os.environ.get("BENCH_ST_PYTHON"),
        help="interpreter that has sentence-transformers[train] (default: $BENCH_ST_PYTHON, else this one)",
    )
    return parser


def chosen(arguments: argparse.Namespace) -> dict[str, Any]:
    """The recipe, with the settings of the command line in place of its own."""
    typed = {name: value for name in SHIPPED if (value := getattr(arguments, name, None)) is not None}
    return RECIPES[arguments.recipe] | typed


def main() -> None:
    arguments = new_parser().parse_args()
    if arguments.out.exists():
        raise UsageError(f"{arguments.out} is there already", hint="name another folder with --out")
    recipe = chosen(arguments)
    measured = train(recipe, arguments)
    command = shlex.join(["python", "-m", "benchmarks.rivals", *sys.argv[1:]])
    report = {"command": command, "seed": arguments.seed, **recipe, "num_sentences": measured.pop("num"), **measured}
    write_json(arguments.out / "rival.json", report)
    console.result_json(report)


if __name__ == "__main__":
    common.run(main)
