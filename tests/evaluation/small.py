"""Evaluation data of a few rows, in memory and on disk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from distilcse_cli.config import EncodeSettings
from distilcse_cli.evaluation.tasks import EvalData
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.runtime import Runtime
from senteval.loading import Split, TaskData
from senteval.tasks import TASKS

FP32 = Runtime(device="cpu", dtype="float32", reason="test")

PAIRS = [
    ("the cat sleeps", "a cat sleeps on the house", 4.5),
    ("the dog runs", "a man eats", 0.5),
    ("a woman plays", "a child plays in the river", 2.5),
    ("the red market", "the big bank", 1.0),
    ("a man runs", "the man runs to the house", 4.0),
    ("the river is big", "a child eats", 0.0),
]


def pair_split(pairs: list[tuple[str, str, float]] = PAIRS) -> Split:
    first, second, scores = zip(*pairs, strict=True)
    return Split(list(first), list(second), np.array(scores))


def sts(name: str = "STSBenchmark", split: str = "test", pairs: list[tuple[str, str, float]] = PAIRS) -> TaskData:
    return TaskData(TASKS[name], {split: pair_split(pairs)})


def transfer(name: str = "CR", num_rows: int = 60) -> TaskData:
    """A two-class task that can be told by its words: cats against dogs."""
    sentences = [f"the {('dog', 'cat')[row % 2]} number {row} sleeps" for row in range(num_rows)]
    return TaskData(TASKS[name], {"all": Split(sentences, None, np.arange(num_rows) % 2)})


def data_of(*tasks: TaskData, fingerprint: str = "f") -> EvalData:
    return EvalData(Path("/data"), tasks, {task.task.name: f"{fingerprint} {task.task.name}" for task in tasks})


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class SentenceCounter:
    """How many sentences an encoder embeds; rows that only fill up a batch repeat one of it and are not counted."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        self._counts: list[int] = []  # threads append to it
        # every way to embed looks up the embeddings of its tokens here
        encoder.backbone.embeddings.register_forward_hook(self._add, with_kwargs=True)

    def _add(self, _module: object, _inputs: object, named: dict[str, torch.Tensor], _embeddings: object) -> None:
        self._counts.append(len(torch.unique(named["input_ids"], dim=0)))

    def take(self) -> int:
        """The sentences since the last call."""
        count = sum(self._counts)
        self._counts.clear()
        return count


def embed_one_by_one(encoder: SentenceEncoder, sentences: list[str]) -> np.ndarray:
    """Embeddings in the plainest way."""
    from distilcse_cli.models.embed import Embedder

    settings = EncodeSettings(batch_tokens=1, normalize=False)
    embedder = Embedder(encoder, FP32, settings)
    return np.concatenate([embedder.sentences([sentence]) for sentence in sentences])


def write_sts16(folder: Path) -> None:
    """Files of the right names and sizes for STS16, 1,186 pairs, the smallest of the STS tasks."""
    for split in TASKS["STS16"].splits:
        (part,) = split.parts
        pairs = [PAIRS[row % len(PAIRS)] for row in range(part.size)]
        texts = [
            "".join(f"{a} {row}\t{b}\n" for row, (a, b, _) in enumerate(pairs)),
            "".join(f"{s}\n" for *_, s in pairs),
        ]
        for name, text in zip(part.files, texts, strict=True):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


Tiny = Callable[..., Path]
