"""Encoding: ours at its defaults against sentence-transformers and its backends.

    python -m benchmarks.encode [--onnx-python PYTHON] [--openvino-python PYTHON]

Every side embeds the same lines, news and captions half and half, in its own process. Ours calls
`Embedder.sentences`, which `eval` calls as well and which takes windows as `encode` does; loading
the model is counted on no side, and the first pass of ours is told apart.
The backends that need packages which do not go with this project's run with a Python of their own,
or not at all where none is given.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import (
    add_options,
    compare,
    mixed_lines,
    pinned_machine,
    run,
    save,
    show,
    whole,
    without_bf16,
)
from benchmarks.peer import Peer
from distilcse_cli import console
from distilcse_cli.config import EncodeSettings
from distilcse_cli.models.reference import resolve_reference
from distilcse_cli.runtime import choose_runtime

REFERENCE = "sentence-transformers fp32"
"""The side that the others' cosines are taken to: the library's defaults."""
ST_SIDES = {
    REFERENCE: ("torch", "float32", 32),
    "sentence-transformers bf16 weights": ("torch", "bfloat16", None),
    "sentence-transformers ONNX fp32": ("onnx", "float32", None),
    "sentence-transformers ONNX int8": ("onnx", "int8", None),
    "sentence-transformers OpenVINO fp32": ("openvino", "float32", None),
    "sentence-transformers OpenVINO int8": ("openvino", "int8", None),
}
"""Name -> backend, number format, batch size; no batch size: the faster one of two."""


class Ours:
    """`Embedder.sentences` at its defaults.

    Args:
        model: folder.
        sentences: JSON file of a list of sentences.
        rows: folder that the embeddings are written to.
        dtype: number format of the matrix products.
    """

    def __init__(self, *, model: str, sentences: str, rows: str, dtype: str = "auto") -> None:
        from distilcse_cli.models.encoder import load_encoder

        self.sentences = json.loads(Path(sentences).read_text(encoding="utf-8"))
        self.encoder = load_encoder(model)
        self.runtime = choose_runtime(dtype=dtype)
        self.rows = Path(rows) / f"ours-{dtype}.npy"
        started = time.perf_counter()
        self._embed()
        self.facts = {
            "first_call_seconds": time.perf_counter() - started,
            "dtype": str(self.runtime),
            "rows": str(self.rows),
        }

    def run(self) -> dict[str, Any]:
        """Embed all sentences."""
        np.save(self.rows, self._embed())
        return {"num": len(self.sentences)}

    def _embed(self) -> np.ndarray:
        from distilcse_cli.models.embed import Embedder

        return Embedder(self.encoder, self.runtime, EncodeSettings()).sentences(self.sentences)


def min_cosine(rows: np.ndarray, reference: np.ndarray) -> float:
    """The least cosine between an embedding and the same sentence's in fp32."""
    rows, reference = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (rows, reference))
    return float((rows * reference).sum(axis=1).min())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--model", default="all-minilm-l6", help="folder, catalogue name or hub id")
    parser.add_argument("--sentences", type=whole(), default=20_000)
    parser.add_argument(
        "--onnx-python",
        default=os.environ.get("BENCH_ONNX_PYTHON"),
        help="interpreter that has sentence-transformers[onnx]",
    )
    parser.add_argument(
        "--openvino-python",
        default=os.environ.get("BENCH_OPENVINO_PYTHON"),
        help="interpreter that has sentence-transformers[openvino]",
    )
    arguments = parser.parse_args()

    before = pinned_machine(arguments.threads)
    pythons = {"onnx": arguments.onnx_python, "openvino": arguments.openvino_python}
    left_out = without_bf16(ST_SIDES, choose_runtime("cpu"))
    left_out |= {name: f"no --{side[0]}-python" for name, side in ST_SIDES.items() if pythons.get(side[0], "") is None}
    asked = {name: side for name, side in ST_SIDES.items() if name not in left_out}
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "sentences.json"
        lines.write_text(json.dumps(mixed_lines(arguments.sentences)), encoding="utf-8")
        common = {"model": str(resolve_reference(arguments.model)), "sentences": str(lines), "rows": folder}
        sides, failed = compare(
            {"ours": lambda: Peer("benchmarks.encode:Ours", common, threads=arguments.threads)}
            | {name: _starter(common, side, pythons, arguments.threads) for name, side in asked.items()},
            arguments.rounds,
            unit="sentences",
            against=REFERENCE,
        )
        failed |= left_out
        reference = np.load(sides[REFERENCE]["facts"]["rows"], allow_pickle=False)
        for side in sides.values():
            side["min_cosine"] = min_cosine(np.load(side["facts"].pop("rows"), allow_pickle=False), reference)
    show(sides, failed)
    console.result(
        "least cosine to fp32: " + ", ".join(f"{name} {side['min_cosine']:.4f}" for name, side in sides.items())
    )
    facts = {"rounds": arguments.rounds, "num_sentences": arguments.sentences, "sides": sides, "failed": failed}
    save("encode", facts, before, arguments.out)


def _starter(
    common: dict[str, str], side: tuple[str, str, int | None], pythons: dict[str, str | None], threads: int
) -> Any:
    backend, dtype, batch_size = side
    settings = common | {"backend": backend, "dtype": dtype, "batch_size": batch_size}
    return lambda: Peer("benchmarks.st_sides:STEncode", settings, threads=threads, python=pythons.get(backend))


if __name__ == "__main__":
    run(main)
