"""Old names of `models.embed`. REMOVE THIS FILE once training/ uses `Embedder`."""

from collections.abc import Sequence

import numpy as np

from distilcse_cli.config import EncodeSettings
from distilcse_cli.data.tokens import TokenRows
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.runtime import Runtime


def embed_rows(
    encoder: SentenceEncoder, rows: TokenRows, runtime: Runtime, *, batch_tokens: int | None = None, normalize: bool
) -> np.ndarray:
    """`Embedder.rows`."""
    return Embedder(encoder, runtime, EncodeSettings(batch_tokens=batch_tokens, normalize=normalize)).rows(rows)


def embed_sentences(
    encoder: SentenceEncoder, sentences: Sequence[str], runtime: Runtime, settings: EncodeSettings
) -> np.ndarray:
    """`Embedder.sentences`."""
    return Embedder(encoder, runtime, settings).sentences(sentences)
