"""Compare students with their teacher on the same unlabelled sentences: size, speed, agreement."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from distilcse_cli.config import EncodeSettings
from distilcse_cli.data.tokens import tokenize
from distilcse_cli.evaluation.speed import sentences_per_second
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.runtime import Runtime
from distilcse_cli.teacher.agreement import Agreement, agreement


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
    speed = sentences_per_second(
        {name: partial(embedder.rows, rows[name]) for name, embedder in embedders.items()}, len(sentences)
    )
    return [
        Comparison(
            name=name,
            num_layers=model.num_layers,
            num_parameters=model.num_parameters,
            sentences_per_second=speed[name],
            agreement=agreement(embeddings[name], embeddings[teacher]),
        )
        for name, model in models.items()
    ]
