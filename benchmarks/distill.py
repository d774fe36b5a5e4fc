"""Stage-1 training: ours against the published loop and sentence-transformers' own trainer.

    python -m benchmarks.distill [--st-python PYTHON]

All train the same student, some layers of the teacher, on the same lines of news, in slices that
take turns; the first steps of a slice are not counted. Our batches are each of one length, so
our slices have more steps, for all lengths to be in each. Ours and the published loop start with
the bank full; sentence-transformers has none, and learns from the teacher's stored rows by MSE.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import (
    add_options,
    compare,
    pinned_machine,
    read_lines,
    run,
    save,
    show,
    whole,
    without_bf16,
)
from benchmarks.peer import Peer
from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.corpus import prepare_corpus
from distilcse_cli.data.tokens import tokenize_corpus
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.models.folder import save_student
from distilcse_cli.models.reference import resolve_reference
from distilcse_cli.ranks import ALONE
from distilcse_cli.runtime import Runtime, choose_runtime
from distilcse_cli.training.settings import DistillSettings
from distilcse_cli.training.teacher_rows import place_rows

ST_SIDES = {
    "sentence-transformers fp32": (False, False),
    "sentence-transformers fp32, eager attention, no dropout": (False, True),
    "sentence-transformers bf16": (True, False),
    "sentence-transformers bf16, eager attention, no dropout": (True, True),
}
"""Name -> bf16, tuned."""


OUR_STEPS = 5
"""Our steps to one of theirs: with 12 batches of one length each, our rate was 335/s in one round, 532/s in another."""


def add_slices(parser: argparse.ArgumentParser) -> None:
    """Options of both stages."""
    parser.add_argument("--model", default="all-minilm-l6", help="teacher: folder, catalogue name or hub id")
    parser.add_argument("--layers", default="0,2,5", help="layers of it that the student keeps")
    parser.add_argument("--batch-size", type=whole(), default=128)
    parser.add_argument(
        "--steps", type=whole(), default=12, help=f"counted steps of a slice; ours has {OUR_STEPS} times as many"
    )
    parser.add_argument("--warmup-steps", type=whole(), default=3, help="steps before them")


def add_st_python(parser: argparse.ArgumentParser) -> None:
    """`--st-python`, for where a side is sentence-transformers' trainer."""
    parser.add_argument(
        "--st-python",
        default=os.environ.get("BENCH_ST_PYTHON"),
        help="interpreter that has sentence-transformers[train]",
    )


def write_student(arguments: argparse.Namespace, folder: Path, *, pooler: str | None = None) -> str:
    """Save the student that all sides start from, with its teacher's pooling if no other is asked for."""
    layers = [int(number) for number in arguments.layers.split(",")]
    save_student(
        load_encoder(arguments.model, keep_layers=layers, pooler=pooler), folder / "student", card="", settings={}
    )
    return str(folder / "student")


def write_corpus(arguments: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Tokens and teacher rows of the news lines, made in the data home or found there."""
    text = folder / "news.txt"
    text.write_text("\n".join(read_lines("news")[: arguments.sentences]) + "\n", encoding="utf-8")
    corpus = prepare_corpus([str(text)], CorpusSettings())
    teacher, runtime = load_encoder(arguments.model), choose_runtime()
    store = place_rows(teacher, corpus, runtime, ALONE).opened(corpus, lambda: teacher, runtime, ALONE)
    np.save(folder / "rows.npy", store.embeddings)
    (folder / "columns.json").write_text(json.dumps({"sentence": list(corpus)}), encoding="utf-8")
    tokens = tokenize_corpus(corpus, teacher.tokenizer, DistillSettings().max_length)
    return {"tokens": str(tokens.folder), "rows": str(folder / "rows.npy"), "data": str(folder / "columns.json")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    add_slices(parser)
    add_st_python(parser)
    parser.add_argument("--sentences", type=whole(), default=70_000, help="lines of news")
    parser.add_argument("--bank-size", type=int, default=65_536)
    arguments = parser.parse_args()

    runtime = choose_runtime("cpu")
    before = pinned_machine(arguments.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        student, made = write_student(arguments, folder), write_corpus(arguments, folder)
        slices, ours = slice_settings(arguments), slice_settings(arguments, OUR_STEPS)
        of_both = {"student": student, "tokens": made["tokens"], "rows": made["rows"]}
        of_both["bank_size"] = arguments.bank_size
        teacher = str(resolve_reference(arguments.model))
        of_st = slices | {"model": student, "data": made["data"], "labels": made["rows"]}
        threads = arguments.threads
        sides, failed = compare(
            {
                "ours": lambda: Peer("benchmarks.training_sides:OursDistill", of_both | ours, threads=threads),
                "published loop": lambda: Peer(
                    "benchmarks.training_sides:PublishedDistill",
                    of_both | slices | {"teacher": teacher},
                    threads=threads,
                ),
            }
            | st_sides(of_st, worth_trying(runtime), arguments),
            arguments.rounds,
            unit="sentences",
        )
        failed |= without_bf16(ST_SIDES, runtime)
    show(sides, failed)
    facts = {
        "rounds": arguments.rounds,
        **slices,
        "our_steps": ours["num_steps"],
        "bank_size": arguments.bank_size,
        "layers": arguments.layers,
    }
    save("distill", facts | {"sides": sides, "failed": failed}, before, arguments.out)


def worth_trying(runtime: Runtime) -> dict[str, tuple[bool, bool]]:
    """The trainer's defaults, and what else may be its best setting with this runtime."""
    bf16 = runtime.dtype == "bfloat16"
    return {name: how for name, how in ST_SIDES.items() if how == (False, False) or how[0] == bf16}


def slice_settings(arguments: argparse.Namespace, times: int = 1) -> dict[str, Any]:
    """Of a side whose slices have so many times the steps asked for."""
    return {
        "batch_size": arguments.batch_size,
        "num_warmup": arguments.warmup_steps,
        "num_steps": times * arguments.steps,
    }


def st_sides(
    settings: dict[str, Any], sides: dict[str, tuple[bool, bool]], arguments: argparse.Namespace
) -> dict[str, Any]:
    """The trainer's sides, by name, to be started."""

    def starter(bf16: bool, tuned: bool) -> Any:
        how = settings | {"bf16": bf16, "tuned": tuned}
        side = "benchmarks.st_training:STTrainer"
        return lambda: Peer(side, how, threads=arguments.threads, python=arguments.st_python)

    return {name: starter(*how) for name, how in sides.items()}


if __name__ == "__main__":
    run(main)
