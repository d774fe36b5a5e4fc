"""Encoding: ours at its defaults against sentence-transformers.

    python -m benchmarks.encode

Each side embeds the same sentences, half news and half captions, in its own process. Ours calls the
`Embedder` that `encode` and `eval` call. Loading the model is counted on no side. The first pass of
ours is reported apart.
"""

import json
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import common
from benchmarks.peer import Peer
from distilcse_cli.models.reference import resolve_reference
from distilcse_cli.runtime import choose_runtime

REFERENCE = "sentence-transformers fp32"
"""The library at its defaults; the other sides' cosines are to its rows."""
ST_SIDES = {REFERENCE: ("float32", 32), "sentence-transformers bf16 weights": ("bfloat16", None)}
"""Name -> dtype of the weights, batch size; None: the faster one of two."""


def min_cosine(rows: np.ndarray, reference: np.ndarray) -> float:
    """The least cosine between an embedding and the same sentence's in fp32."""
    rows, reference = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (rows, reference))
    return float((rows * reference).sum(axis=1).min())


def main() -> None:
    parser = common.new_parser(__doc__)
    parser.add_argument("--sentences", type=common.whole(), default=20_000)
    arguments = common.parse(parser)

    left_out = common.without_bf16(ST_SIDES, choose_runtime("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "sentences.json"
        lines.write_text(json.dumps(common.mixed_lines(arguments.sentences)), encoding="utf-8")
        model = {"model": str(resolve_reference(arguments.model)), "sentences": str(lines), "rows": folder}

        def side(name: str, **settings: object) -> Peer:
            return Peer(f"benchmarks.{name}", model | settings, threads=arguments.threads)

        starters: common.Starters = {"ours": partial(side, "sides:Encode")} | {
            name: partial(side, "st_sides:STEncode", dtype=dtype, batch_size=batch_size)
            for name, (dtype, batch_size) in ST_SIDES.items()
            if name not in left_out
        }
        sides, failed = common.compare(starters, arguments.rounds, unit="sentences", against=REFERENCE)
        failed |= left_out
        reference = np.load(sides[REFERENCE]["facts"]["rows"], allow_pickle=False)
        for result in sides.values():
            result["min_cosine"] = min_cosine(np.load(result["facts"].pop("rows"), allow_pickle=False), reference)
    facts = {"num_sentences": arguments.sentences, "sides": sides, "failed": failed}
    common.save("encode", arguments, facts)


if __name__ == "__main__":
    common.run(main)
