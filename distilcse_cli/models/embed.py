"""One way to embed: an encoder with its length limit, normalization and batch size decided.

Shape letters: N sentences, H width of an embedding.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from distilcse_cli.config import EncodeSettings
from distilcse_cli.data.tokens import TokenRows
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.inference import embed_rows, embed_sentences, tokens_of_a_batch
from distilcse_cli.ranks import ALONE, Ranks
from distilcse_cli.runtime import Runtime


class Embedder:
    """Embeds sentences or token rows with a frozen encoder.

    Args:
        encoder: moved to the runtime's device on first use, and stays there.
        runtime: device and number format of the matrix products.
        settings: length limit, normalization, batch size, and the dtype of the rows.
        ranks: processes that share the batches.
    """

    def __init__(
        self,
        encoder: SentenceEncoder,
        runtime: Runtime,
        settings: EncodeSettings | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        settings = settings or EncodeSettings()
        self.encoder, self.runtime, self.ranks = encoder, runtime, ranks
        self.max_length = settings.max_length or encoder.max_length
        self.normalize = encoder.normalize if settings.normalize is None else settings.normalize
        self.batch_tokens = tokens_of_a_batch(settings.batch_tokens, runtime)
        self.dtype = settings.dtype
        self._settings = replace(
            settings, max_length=self.max_length, normalize=self.normalize, batch_tokens=self.batch_tokens
        )

    def sentences(self, sentences: Sequence[str]) -> np.ndarray:
        """(N, H) float32 embeddings of sentences held in memory, row i of sentence i.

        Raises:
            ModelError: an embedding is not finite; its sentence is named.
        """
        return embed_sentences(self.encoder, sentences, self.runtime, self._settings)

    def rows(self, rows: TokenRows) -> np.ndarray:
        """(N, H) float32 embeddings of token rows, all in one plan of batches; whatever cut them, nothing is cut here.

        Raises:
            ModelError: an embedding is not finite; its row is named.
        """
        return embed_rows(self.encoder, rows, self.runtime, batch_tokens=self.batch_tokens, normalize=self.normalize)
