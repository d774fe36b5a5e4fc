"""`extract` of a corpus against our raw encoding rate on the same sentences.

    python -m benchmarks.extract [--sentences 600000]

The two alternate, each in its own process, over pieces of the corpus: a round is a piece. Raw encoding
embeds the same windows and throws the rows away.
"""

import tempfile
from functools import partial
from pathlib import Path

from benchmarks import common
from benchmarks.peer import Peer
from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.corpus import prepare_corpus


def main() -> None:
    parser = common.new_parser(__doc__)
    parser.add_argument("--sentences", type=common.whole(), default=600_000)
    arguments = common.parse(parser)

    lines = common.read_lines("news")[: arguments.sentences]
    corpora = []
    with tempfile.TemporaryDirectory() as folder:
        for piece in range(arguments.rounds):
            text = Path(folder) / f"piece-{piece}.txt"
            text.write_text("\n".join(lines[piece :: arguments.rounds]) + "\n", encoding="utf-8")
            corpora.append(prepare_corpus([str(text)], CorpusSettings()))
        settings = {"model": arguments.model, "corpora": [str(corpus.folder) for corpus in corpora]}
        starters = {
            name: partial(Peer, f"benchmarks.sides:{side}", settings, threads=arguments.threads)
            for name, side in (("extract", "Extract"), ("encode", "EncodeCorpus"))
        }
        sides, _ = common.compare(starters, arguments.rounds, unit="sentences", ours="extract", against="encode")
    facts = {
        "num_sentences": sum(len(corpus) for corpus in corpora),
        "rates": {name: side["rate"] for name, side in sides.items()},
        "ratio": sides["encode"]["ratio"],
        "resident_bytes": {name: side["resident_bytes"] for name, side in sides.items()},
    }
    common.save("extract", arguments, facts)


if __name__ == "__main__":
    common.run(main)
