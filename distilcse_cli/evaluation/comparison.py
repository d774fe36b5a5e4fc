"""Compare students with their teacher on the same unlabelled sentences: size, speed, agreement."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distilcse_cli.config import EncodeSettings
from distilcse_cli.data.tokens import tokenize
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder
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
    """Median over the rounds, without tokenization."""
    agreement: Agreement
    """With the teacher; the teacher's own row agrees with itself."""


def compare(
    models: Mapping[str, SentenceEncoder], sentences: Sequence[str], runtime: Runtime, *, teacher: str
) -> list[Comparison]:
    """Compare models with one of them, the teacher.

    The models take turns, so that other work of the machine slows all of them alike.

    Args:
        models: encoders by name, the teacher among them.
        sentences: N sentences that none of them was trained on, at least 3.
        runtime: device and precision for all of them.
        teacher: its name.
    """
    settings = EncodeSettings(normalize=True)
    rows = {
        name: tokenize(sentences, model.tokenizer, model.max_length, model.prompts.used)
        for name, model in models.items()
    }
    embedders = {name: Embedder(model, runtime, settings) for name, model in models.items()}
    embeddings = {name: embedder.rows(rows[name]) for name, embedder in embedders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(SPEED_ROUNDS):
        for name, embedder in embedders.items():
            started = time.perf_counter()
            embedder.rows(rows[name])
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
