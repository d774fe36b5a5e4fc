"""The seven STS tasks: `distilcse eval` against SentEval's own path.

    python -m benchmarks.sts

The other side is SentEval's path re-stated: every sentence of every pair of all splits, train
splits included, in batches of 128 in the order of the files' lengths, padded to the longest of
the batch, in fp32, through plain transformers. It is driven by this project's `SE`, which hands a
batcher SentEval's own batches. Reading the data is counted on both sides, loading the model on none.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer

from benchmarks.common import SHARED_DATA, add_options, pinned_machine, ratios, run, save, spread, take_turns
from distilcse_cli import console
from distilcse_cli.evaluation.scoring import evaluate_encoder
from distilcse_cli.evaluation.settings import EvalSettings
from distilcse_cli.evaluation.tasks import load_data
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.models.reference import resolve_reference
from distilcse_cli.runtime import choose_runtime
from senteval import STS_TASKS
from senteval.engine import SE


class SentEvalPath:
    """SimCSE's evaluation loop: `SE` with a batcher that joins tokens, tokenizes, encodes and averages."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder).eval()
        self.data = data
        self.num_encodings = 0
        self.average = 0.0

    @torch.no_grad()
    def _batcher(self, params: Any, batch: list[list[str]]) -> torch.Tensor:  # noqa: ARG002
        self.num_encodings += len(batch)
        inputs = self.tokenizer(
            [" ".join(tokens) for tokens in batch], padding=True, truncation=True, max_length=512, return_tensors="pt"
        )
        hidden = self.model(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1)
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1)

    def run(self) -> None:
        """Score all seven tasks."""
        self.num_encodings = 0
        results = SE({"task_path": str(self.data), "kfold": 10}, self._batcher).eval(list(STS_TASKS))
        scores = [
            results[task]["all"]["spearman"]["all"] if task.startswith("STS1") else results[task]["test"]["spearman"][0]
            for task in STS_TASKS
        ]
        self.average = 100 * sum(scores) / len(scores)


class Ours:
    """What `distilcse eval --task-set sts --overwrite` does, model loading aside."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.encoder = load_encoder(str(folder))
        self.data = data
        self.runtime = choose_runtime()
        self.settings = EvalSettings(overwrite=True)
        self.num_encodings = 0
        self.average = 0.0

    def run(self) -> None:
        """Score all seven tasks."""
        data = load_data(STS_TASKS, self.data, self.settings)
        results = evaluate_encoder(self.encoder, data, self.settings, self.runtime).results
        self.num_encodings = results.num_sentences
        average = results.average(STS_TASKS)
        assert average is not None
        self.average = average


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--model", default="all-minilm-l6", help="folder, catalogue name or hub id")
    parser.add_argument("--data", type=Path, default=SHARED_DATA / "senteval")
    arguments = parser.parse_args()

    before = pinned_machine(arguments.threads)
    torch.set_num_threads(arguments.threads)
    folder = resolve_reference(arguments.model)
    slow, fast = SentEvalPath(folder, arguments.data), Ours(folder, arguments.data)
    if fast.encoder.pooling != "avg":
        parser.error(f"SentEval's path here averages; {arguments.model} is pooled by {fast.encoder.pooling}")
    seconds = take_turns({"SentEval's path": slow.run, "ours": fast.run}, arguments.rounds)
    ratio = spread(ratios(seconds["SentEval's path"], seconds["ours"]))
    sides = {
        name: {"seconds": spread(seconds[name]), "num_encodings": side.num_encodings, "average": side.average}
        for name, side in (("SentEval's path", slow), ("ours", fast))
    }
    rows = [
        [name, f"{side['num_encodings']:,}", f"{side['seconds']['median']:.1f}", f"{side['average']:.2f}"]
        for name, side in sides.items()
    ]
    console.result(console.table(("", "encodings", "seconds", "average"), rows, align="lrrr"))
    console.result(f"ratio {ratio['median']:.1f} ({ratio['min']:.1f} to {ratio['max']:.1f} over the rounds)")
    facts = {"rounds": arguments.rounds, "sides": sides, "ratio": ratio, "dtype": fast.runtime.dtype}
    save("sts", facts, before, arguments.out)


if __name__ == "__main__":
    run(main)
