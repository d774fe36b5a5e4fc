"""Stage-2 training: ours against sentence-transformers' MultipleNegativesRankingLoss with hard negatives.

    python -m benchmarks.finetune [--st-python PYTHON]

Both train the same student on the same triples, in slices that take turns; the first steps of a
slice are not counted.
"""

import argparse
import json
import tempfile
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.common import (
    add_options,
    compare,
    pinned_machine,
    run,
    save,
    shared_file,
    show,
    whole,
    without_bf16,
)
from benchmarks.distill import (
    OUR_STEPS,
    ST_SIDES,
    add_slices,
    add_st_python,
    slice_settings,
    st_sides,
    worth_trying,
    write_student,
)
from benchmarks.peer import Peer
from distilcse_cli.config import TripletSettings
from distilcse_cli.data.tokens import tokenize_corpus
from distilcse_cli.data.triplets import prepare_triplets
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.runtime import choose_runtime
from distilcse_cli.training.settings import FinetuneSettings


def write_triples(arguments: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Tokens, numbers and texts of the first triples."""
    table = folder / "triples.csv"
    with shared_file("nli/nli_triplets.csv").open(encoding="utf-8", newline="") as file:
        table.write_text("".join(islice(file, arguments.triples + 1)), encoding="utf-8")
    triplets = prepare_triplets([str(table)], TripletSettings(on_bad_line="skip"))
    tokenizer = load_encoder(arguments.model).tokenizer
    tokens = tokenize_corpus(triplets.sentences, tokenizer, FinetuneSettings().max_length)
    np.save(folder / "triples.npy", triplets.rows)
    names = ("anchor", "positive", "negative")
    columns = {name: triplets.sentences.take(triplets.rows[:, place]) for place, name in enumerate(names)}
    (folder / "columns.json").write_text(json.dumps(columns), encoding="utf-8")
    return {"tokens": str(tokens.folder), "triples": str(folder / "triples.npy"), "data": str(folder / "columns.json")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    add_slices(parser)
    add_st_python(parser)
    parser.add_argument("--triples", type=whole(), default=20_000)
    arguments = parser.parse_args()

    runtime = choose_runtime("cpu")
    before = pinned_machine(arguments.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        student, made = write_student(arguments, folder), write_triples(arguments, folder)
        slices = slice_settings(arguments)
        ours = slice_settings(arguments, OUR_STEPS)
        ours |= {"student": student, "tokens": made["tokens"], "triples": made["triples"]}
        of_st = slices | {"model": student, "data": made["data"]}
        sides, failed = compare(
            {"ours": lambda: Peer("benchmarks.training_sides:OursFinetune", ours, threads=arguments.threads)}
            | st_sides(of_st, worth_trying(runtime), arguments),
            arguments.rounds,
            unit="triples",
        )
        failed |= without_bf16(ST_SIDES, runtime)
    show(sides, failed)
    facts = {
        "rounds": arguments.rounds,
        **slices,
        "our_steps": ours["num_steps"],
        "layers": arguments.layers,
        "sides": sides,
        "failed": failed,
    }
    save("finetune", facts, before, arguments.out)


if __name__ == "__main__":
    run(main)
