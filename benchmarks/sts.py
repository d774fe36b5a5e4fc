"""The seven STS tasks: `distilcse eval` against SentEval's own path.

    python -m benchmarks.sts

The other side is SentEval's own path, written again: every sentence of every pair of all splits, train
splits included, in batches of 128 in the order of the files' lengths, padded to the longest of the
batch, in fp32, through plain transformers. This project's `SE` drives it and hands it SentEval's own
batches. Reading the data is counted on both sides, loading the model on neither.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer

from benchmarks import common
from benchmarks.peer import Peer
from distilcse_cli.evaluation.scoring import evaluate_encoder
from distilcse_cli.evaluation.settings import EvalSettings
from distilcse_cli.evaluation.tasks import load_data
from distilcse_cli.models.reference import ModelRef, resolve_reference
from distilcse_cli.runtime import choose_runtime
from senteval import STS_TASKS
from senteval.engine import SE


class SentEvalPath:
    """SimCSE's evaluation loop: `SE`, with a batcher that joins tokens, tokenizes, encodes and averages."""

    def __init__(self, *, model: str, data: str) -> None:
        pooling = ModelRef(ref=model).load().pooling
        if pooling != "avg":
            raise ValueError(f"this path averages, and {model} has the pooling {pooling}")
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.model = AutoModel.from_pretrained(model).eval()
        self.data = data
        self.num_encodings = 0

    @torch.no_grad()
    def _batcher(self, params: Any, batch: list[list[str]]) -> torch.Tensor:  # noqa: ARG002
        self.num_encodings += len(batch)
        inputs = self.tokenizer(
            [" ".join(tokens) for tokens in batch], padding=True, truncation=True, max_length=512, return_tensors="pt"
        )
        hidden = self.model(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1)
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1)

    def run(self) -> dict[str, Any]:
        """Score all seven tasks."""
        self.num_encodings = 0
        results = SE({"task_path": self.data, "kfold": 10}, self._batcher).eval(list(STS_TASKS))
        scores = [
            results[task]["all"]["spearman"]["all"] if task.startswith("STS1") else results[task]["test"]["spearman"][0]
            for task in STS_TASKS
        ]
        return {"num": 1, "num_encodings": self.num_encodings, "average": 100 * sum(scores) / len(scores)}


class Ours:
    """What `distilcse eval --task-set sts --overwrite` does, without loading the model."""

    def __init__(self, *, model: str, data: str) -> None:
        self.encoder, self.data, self.runtime = ModelRef(ref=model).load(), Path(data), choose_runtime()
        self.facts = {"dtype": self.runtime.dtype}

    def run(self) -> dict[str, Any]:
        """Score all seven tasks."""
        settings = EvalSettings(overwrite=True)
        data = load_data(STS_TASKS, self.data, settings)
        results = evaluate_encoder(self.encoder, data, settings, self.runtime).results
        return {"num": 1, "num_encodings": results.num_sentences, "average": results.average(STS_TASKS)}


def main() -> None:
    parser = common.new_parser(__doc__)
    parser.add_argument("--data", type=Path, default=common.SHARED_DATA / "senteval")
    arguments = common.parse(parser)

    other = "SentEval's path"
    settings = {"model": str(resolve_reference(arguments.model)), "data": str(arguments.data)}
    starters = {
        name: partial(Peer, f"benchmarks.sts:{side}", settings, threads=arguments.threads)
        for name, side in ((other, "SentEvalPath"), ("ours", "Ours"))
    }
    sides, _ = common.compare(starters, arguments.rounds, unit="evaluations", against=other)
    told = {
        name: {
            "seconds": common.spread([1 / rate for rate in side["rates"]]),
            **{figure: side["last_round"][figure] for figure in ("num_encodings", "average")},
        }
        for name, side in sides.items()
    }
    facts = {"sides": told, "ratio": sides[other]["ratio"], "dtype": sides["ours"]["facts"]["dtype"]}
    common.save("sts", arguments, facts)


if __name__ == "__main__":
    common.run(main)
