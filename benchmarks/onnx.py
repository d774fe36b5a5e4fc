"""ONNX graphs of a student against torch: size, STS average, and CPU time of onnxruntime and of our encoder.

    distilcse export STUDENT --to onnx --int8
    python -m benchmarks.onnx --model STUDENT

The STS average is SentEval's over seven tasks, in fp32. For the time the sides alternate over the same 2,000
sentences, tokenized beforehand, in batches of 1,536 tokens of about equal length.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from distilcse_cli import console
from distilcse_cli.config import EncodeSettings
from distilcse_cli.data.tokens import TokenRows, tokenize
from distilcse_cli.files import write_json
from distilcse_cli.models.batching import token_budget_batches
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.runtime import choose_runtime
from distilcse_cli.serving.onnx_export import FLOAT, INT8
from distilcse_cli.serving.onnx_graph import runner
from distilcse_cli.teacher.neighbours import unit_rows
from senteval import STS_TASKS, evaluate

BATCH_TOKENS = 1536
SIDES = ("ours-float32", "ours-bfloat16", "onnxruntime-float32", "onnxruntime-int8")
Embed = Callable[[TokenRows], np.ndarray]


def by_graph(file: Path, encoder: SentenceEncoder, threads: int) -> Embed:
    """Embed token rows by onnxruntime."""
    run = runner(file, threads)

    def embed(rows: TokenRows) -> np.ndarray:
        embedded = np.empty((len(rows), encoder.embedding_dim), dtype=np.float32)
        for batch in token_budget_batches(rows.lengths, BATCH_TOKENS):
            ids, mask = rows.pad(batch, encoder.pad_id)
            embedded[batch] = run(ids.numpy(), mask.numpy())
        return embedded

    return embed


def main() -> None:
    parser = common.new_parser(__doc__)
    parser.add_argument("--data", type=Path, default=common.SHARED_DATA / "senteval")
    parser.add_argument("--sentences", type=common.whole(), default=2000)
    parser.add_argument("--side", action="append", choices=SIDES, help="measure it; repeat it (default: all)")
    parser.add_argument("--no-sts", action="store_true", help="leave the STS average out")
    arguments = common.parse(parser)

    student = ModelRef(ref=arguments.model)
    encoder, folder = student.load(), student.locate()
    wanted = dict.fromkeys([SIDES[0], *(arguments.side or SIDES)])  # the first is what the others are compared with
    sides: dict[str, Embed] = {}
    for name in wanted:
        program, _, numbers = name.partition("-")
        if program == "ours":
            sides[name] = Embedder(encoder, choose_runtime("cpu", numbers), EncodeSettings()).rows
        else:
            file = folder / (INT8 if numbers == "int8" else FLOAT)
            sides[name] = by_graph(file, encoder, arguments.threads)

    def tokenized(sentences: list[str]) -> TokenRows:
        return tokenize(sentences, encoder.tokenizer, encoder.max_length, encoder.prompts.used)

    rows = tokenized(common.mixed_lines(arguments.sentences))
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    embedded: dict[str, np.ndarray] = {}
    for number in range(arguments.rounds + 1):  # the first warms up
        for name in list(sides) if number % 2 == 0 else reversed(sides):
            started = time.process_time()
            embedded[name] = unit_rows(sides[name](rows))
            seconds[name].append(time.process_time() - started)
    reference = embedded[SIDES[0]]
    result: dict[str, Any] = {}
    for name, embed in sides.items():
        cosines = (embedded[name] * reference).sum(axis=1)
        result[name] = {
            "cpu_seconds": common.spread(seconds[name][1:]),
            "max_difference": float(np.abs(embedded[name] - reference).max()),
            "least_cosine": float(cosines.min()),
            "mean_cosine": float(cosines.mean()),
        }
        if not arguments.no_sts and name in (arguments.side or SIDES):
            found = evaluate(lambda texts, embed=embed: embed(tokenized(texts)), "sts", data=arguments.data)
            result[name]["sts"] = found.average(STS_TASKS)
        console.log(f"{name}: {result[name]}")
    console.result_json({"model": arguments.model, "sides": result, "machine": arguments.machine})
    if arguments.out:
        write_json(arguments.out, {"model": arguments.model, "sides": result, "machine": arguments.machine})


if __name__ == "__main__":
    common.run(main)
