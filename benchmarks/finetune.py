"""Stage-2 training: ours against sentence-transformers' MultipleNegativesRankingLoss with hard negatives.

    python -m benchmarks.finetune [--st-python PYTHON]

Both train the same student on the same triples, in slices that alternate; see `benchmarks.training`.
"""

import argparse
import json
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.peer import Peer
from benchmarks.training import OUR_STEPS, compare_trainers, of_slice, training_parser, write_student
from distilcse_cli.config import TripletSettings
from distilcse_cli.data.tokens import tokenize_corpus
from distilcse_cli.data.triplets import prepare_triplets
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.training.settings import FinetuneSettings


def write_triples(arguments: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Tokens, numbers and texts of the first triples."""
    table = folder / "triples.csv"
    with common.shared_file("nli/nli_triplets.csv").open(encoding="utf-8", newline="") as file:
        table.write_text("".join(islice(file, arguments.triples + 1)), encoding="utf-8")
    triplets = prepare_triplets([str(table)], TripletSettings(on_bad_line="skip"))
    tokenizer = ModelRef(ref=arguments.model).load().tokenizer
    tokens = tokenize_corpus(triplets.sentences, tokenizer, FinetuneSettings().max_length)
    np.save(folder / "triples.npy", triplets.rows)
    names = ("anchor", "positive", "negative")
    columns = {name: triplets.sentences.take(triplets.rows[:, column]) for column, name in enumerate(names)}
    (folder / "columns.json").write_text(json.dumps(columns), encoding="utf-8")
    return {"tokens": str(tokens.folder), "triples": str(folder / "triples.npy"), "data": str(folder / "columns.json")}


def main() -> None:
    parser = training_parser(__doc__)
    parser.add_argument("--triples", type=common.whole(), default=20_000)
    arguments = common.parse(parser)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        student, made = write_student(arguments, folder), write_triples(arguments, folder)
        ours: dict[str, Any] = {"student": student, "tokens": made["tokens"], "triples": made["triples"]}
        ours |= of_slice(arguments, OUR_STEPS)
        compare_trainers(
            "finetune",
            arguments,
            {"ours": lambda: Peer("benchmarks.sides:Finetune", ours, threads=arguments.threads)},
            unit="triples",
            of_st={"model": student, "data": made["data"]},
            facts={},
        )


if __name__ == "__main__":
    common.run(main)
