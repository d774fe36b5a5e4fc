"""How near encoding and training come to what the machine can multiply, and where the rest of the time goes.

    python -m benchmarks.peak

The peak is the fastest large matrix product measured here, in fp32 and, where the CPU has instructions
for it, in bf16, of which a run then makes use. The share is the multiply-adds actually needed, no
padding counted, over what the peak would do in the same time.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.common import add_options, mixed_lines, pinned_machine, run, save, spread, whole
from benchmarks.distill import OUR_STEPS, add_slices, slice_settings, write_corpus, write_student
from benchmarks.encode import Ours
from benchmarks.training_sides import OursDistill
from benchmarks.work import encode_multiply_adds, train_multiply_adds
from distilcse_cli import console
from distilcse_cli.data.tokens import tokenize
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.models.reference import resolve_reference
from distilcse_cli.runtime import choose_runtime

SHAPES = ((8192, 384, 1536), (8192, 1536, 384), (4096, 1024, 4096))
"""Rows, inner and columns of the products tried: two of the model's own, and a larger one."""
NUM_OPS = 12


def matmul_peak(dtype: torch.dtype, repeats: int = 30) -> float:
    """Multiply-adds a second of the fastest product among `SHAPES`, its best repeat."""
    best = 0.0
    for rows, inner, columns in SHAPES:
        left, right = torch.randn(rows, inner).to(dtype), torch.randn(inner, columns).to(dtype)
        for _ in range(repeats):
            started = time.perf_counter()
            left @ right
            best = max(best, rows * inner * columns / (time.perf_counter() - started))
    return best


def top_ops(run: Any) -> dict[str, float]:
    """Share of the time, in per cent, that each of the slowest operators takes itself."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        run()
    averages = sorted(profiled.key_averages(), key=lambda op: -op.self_cpu_time_total)
    total = sum(op.self_cpu_time_total for op in averages)
    return {op.key: 100 * op.self_cpu_time_total / total for op in averages[:NUM_OPS]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    add_slices(parser)
    parser.add_argument("--sentences", type=whole(), default=70_000, help="lines of news to train on")
    parser.add_argument("--lines", type=whole(), default=20_000, help="lines to encode")
    parser.add_argument("--bank-size", type=int, default=65_536)
    arguments = parser.parse_args()

    before = pinned_machine(arguments.threads)
    torch.set_num_threads(arguments.threads)
    dtype = choose_runtime("cpu").dtype
    with tempfile.TemporaryDirectory() as name:
        encode, encode_work = _encode_side(arguments, Path(name))
        train, train_work = _train_side(arguments, Path(name))
        peaks: dict[str, list[float]] = {dtype: [] for dtype in sorted({dtype, "float32"})}
        rates: dict[str, list[float]] = {"encode": [], "train": []}
        for number in range(arguments.rounds):
            for kind, seen in peaks.items():
                seen.append(matmul_peak(getattr(torch, kind)))
            started = time.perf_counter()
            num = encode.run()["num"]
            rates["encode"].append(num / (time.perf_counter() - started))
            told = train.run()
            rates["train"].append(told["num"] / told["seconds"])
            console.log(f"round {number + 1}: peak {peaks[dtype][-1]:.3g} multiply-adds/s in {dtype}")
        ops = {"train": top_ops(train.run)}
        torch.set_num_threads(1)  # several encode in threads of their own, which the profiler does not see
        ops["encode"] = top_ops(encode.run)
    jobs = {}
    for job, work in (("encode", encode_work), ("train", train_work)):
        shares = [rate * work / peak for rate, peak in zip(rates[job], peaks[dtype], strict=True)]
        jobs[job] = {
            "multiply_adds_a_sentence": work,
            "rate": spread(rates[job]),
            "share_of_peak": spread(shares),
            "top_ops_percent": ops[job],
        }
        console.result(f"{job}: {jobs[job]['share_of_peak']['median']:.1%} of the peak")
        console.result(console.table(("operator", "%"), [[op, f"{part:.1f}"] for op, part in ops[job].items()]))
    facts = {
        "rounds": arguments.rounds,
        "peak_dtype": dtype,
        "multiply_adds_a_second": {name: spread(p) for name, p in peaks.items()},
    }
    save("peak", facts | {"jobs": jobs}, before, arguments.out)


def _encode_side(arguments: argparse.Namespace, folder: Path) -> tuple[Ours, float]:
    """The side, and the multiply-adds that a sentence needs."""
    lines = mixed_lines(arguments.lines)
    (folder / "lines.json").write_text(json.dumps(lines), encoding="utf-8")
    side = Ours(model=str(resolve_reference(arguments.model)), sentences=str(folder / "lines.json"), rows=str(folder))
    rows = tokenize(lines, side.encoder.tokenizer, side.encoder.max_length)
    return side, encode_multiply_adds(rows.lengths, side.encoder.backbone.config) / len(rows)


def _train_side(arguments: argparse.Namespace, folder: Path) -> tuple[OursDistill, float]:
    """The same of stage-1 training."""
    made, student = write_corpus(arguments, folder), write_student(arguments, folder)
    side = OursDistill(
        student=student,
        tokens=made["tokens"],
        rows=made["rows"],
        bank_size=arguments.bank_size,
        **slice_settings(arguments, OUR_STEPS),
    )
    work = train_multiply_adds(
        np.asarray(side.tokens.lengths),
        load_encoder(student).backbone.config,
        batch_size=arguments.batch_size,
        bank_size=arguments.bank_size,
        teacher_dim=side.rows.shape[1],
    )
    return side, work / len(side.tokens)


if __name__ == "__main__":
    run(main)
