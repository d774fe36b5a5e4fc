"""`extract` of a corpus against our own raw encode rate on the same sentences.

    python -m benchmarks.extract [--sentences 600000]

The two take turns, each in its own process, over pieces of the corpus (`--pieces`): a round is a
piece. Raw encoding embeds the same windows and throws the rows away.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.common import add_options, compare, pinned_machine, ratios, read_lines, run, save, spread, whole
from benchmarks.peer import Peer
from distilcse_cli import console
from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.corpus import prepare_corpus


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.set_defaults(rounds=1)
    parser.add_argument("--model", default="all-minilm-l6", help="folder, catalogue name or hub id")
    parser.add_argument("--sentences", type=whole(), default=600_000)
    parser.add_argument("--pieces", type=whole(), default=7)
    arguments = parser.parse_args()

    before = pinned_machine(arguments.threads)
    lines = read_lines("news")[: arguments.sentences]
    rates: dict[str, list[float]] = {"extract": [], "encode": []}
    memory = dict.fromkeys(rates, 0)
    num_sentences = 0
    with tempfile.TemporaryDirectory() as folder:
        for piece in range(arguments.pieces):
            text = Path(folder) / f"piece-{piece}.txt"
            text.write_text("\n".join(lines[piece :: arguments.pieces]) + "\n", encoding="utf-8")
            corpus = prepare_corpus([str(text)], CorpusSettings())
            num_sentences += len(corpus)
            settings = {"model": arguments.model, "corpus": str(corpus.folder)}
            sides = {"extract": "Extract", "encode": "Encode"}
            starters = {
                name: partial(Peer, f"benchmarks.scaling_sides:{side}", settings, threads=arguments.threads)
                for name, side in sides.items()
            }
            console.log(f"piece {piece + 1} of {arguments.pieces}")
            told, _ = compare(starters, arguments.rounds, unit="sentences", ours="extract", against="encode")
            for name, side in told.items():
                rates[name] += side["rates"]
                memory[name] = max(memory[name], side["resident_bytes"])
    ratio = spread(ratios(rates["extract"], rates["encode"]))
    console.result(f"extract runs at {ratio['median']:.3f} of the raw encode rate")
    facts = {
        "num_sentences": num_sentences,
        "rounds": arguments.rounds * arguments.pieces,
        "rates": {name: spread(rate) for name, rate in rates.items()},
        "ratio": ratio,
        "resident_bytes": memory,
    }
    save("extract", facts, before, arguments.out)


if __name__ == "__main__":
    run(main)
