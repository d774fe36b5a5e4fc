"""All sentences of an evaluation through a model: each once, the longest first, with progress."""

from collections.abc import Sequence, Sized
from threading import Lock

import numpy as np

from distilcse_cli import console
from distilcse_cli.config import EncodeSettings
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.inference import embed_stream
from distilcse_cli.ranks import ALONE, Ranks
from distilcse_cli.runtime import Runtime

WINDOW_ROWS = 32_768
"""Sentences tokenized together: all of the seven STS tasks, so that batches waste next to no padding."""


def embed_all(
    encoder: SentenceEncoder,
    sentences: Sequence[str],
    runtime: Runtime,
    settings: EncodeSettings,
    ranks: Ranks = ALONE,
) -> np.ndarray:
    """Embed distinct sentences.

    They are sorted by characters first, and within a window by tokens, so that the whole is sorted
    well enough for full batches and only a window is tokenized at a time. Several processes share
    the batches, and get the rows that one would.

    Returns:
        (N, H) float32, row i of sentence i.

    Raises:
        ModelError: an embedding is not finite; its sentence is named.
    """
    order = np.argsort([-len(sentence) for sentence in sentences], kind="stable")
    embeddings = np.empty((len(sentences), encoder.embedding_dim), dtype=np.float32)
    start = num_truncated = 0
    lock = Lock()
    with console.Progress("encode", len(sentences), "sentences") as progress:

        def count(_module: object, _inputs: object, batch: Sized) -> None:
            with lock:  # some batches are filled up with rows that are not kept
                progress.update(min(len(batch) * ranks.world_size, len(sentences) - progress.done))

        # every way to embed looks up its tokens' embeddings here, in several threads
        hook = encoder.backbone.get_input_embeddings().register_forward_hook(count)
        try:
            longest_first = (sentences[row] for row in order)
            for window in embed_stream(encoder, longest_first, runtime, settings, window_rows=WINDOW_ROWS, ranks=ranks):
                end = start + len(window.sentences)
                embeddings[order[start:end]] = window.embeddings
                num_truncated += window.num_truncated
                start = end
        finally:
            hook.remove()
    if num_truncated:
        max_length = settings.max_length or encoder.max_length
        console.warn(f"{num_truncated:,} sentences were cut to the first {max_length} tokens")
    return embeddings
