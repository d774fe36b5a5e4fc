"""Students beside their teacher on the same unlabelled sentences: size, speed, agreement."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from distilcse_cli.data.tokens import TokenRows, tokenize
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.inference import embed_rows
from distilcse_cli.runtime import Runtime
from distilcse_cli.teacher.agreement import Agreement, agreement

SPEED_ROUNDS = 3


@dataclass(frozen=True)
class Comparison:
    """One model of a comparison."""

    name: str
    num_layers: int
    num_parameters: int
    sentences_per_second: float
    """Median over the rounds, tokenization not counted."""
    agreement: Agreement
    """With the teacher; the teacher's own row agrees with itself."""


def compare(
    models: Mapping[str, SentenceEncoder], sentences: Sequence[str], runtime: Runtime, *, teacher: str
) -> list[Comparison]:
    """Compare models with one of them, the teacher.

    The models take turns, so that whatever else the machine does slows them all alike.

    Args:
        models: encoders by name, the teacher among them.
        sentences: N sentences that none of them was trained on, at least 3.
        runtime: device and precision for all of them.
        teacher: its name.
    """
    rows = {name: tokenize(sentences, model.tokenizer, model.max_length) for name, model in models.items()}
    embeddings = {name: _embed(model, rows[name], runtime) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(SPEED_ROUNDS):
        for name, model in models.items():
            started = time.perf_counter()
            _embed(model, rows[name], runtime)
            seconds[name].append(time.perf_counter() - started)
    return [
        Comparison(
            name=name,
            num_layers=model.num_layers,
            num_parameters=model.num_parameters,
            sentences_per_second=len(sentences) / statistics.median(seconds[name]),
            agreement=agreement(embeddings[name], embeddings[teacher]),
        )
        for name, model in models.items()
    ]


def _embed(model: SentenceEncoder, rows: TokenRows, runtime: Runtime) -> np.ndarray:
    return embed_rows(model, rows, runtime, normalize=True)
