"""Which student is kept: the one with the best development score, and when to give up on a better one.

Scores come from STS-B's development set when its file is there, else from agreement with the
teacher on sentences held out of the corpus. Test sets are never looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from distilcse_cli.data.tokens import tokenize
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.inference import embed_rows
from distilcse_cli.ranks import ALONE, Ranks
from distilcse_cli.runtime import Runtime
from distilcse_cli.teacher.agreement import agreement

STS_DEV_TASK = "STSBenchmark"


@dataclass
class Selection:
    """The best development score so far."""

    best_score: float | None = None
    best_step: int = 0
    ended: bool = False
    """Whether patience ran out."""

    def take(self, step: int, score: float, patience_steps: float | None) -> bool:
        """Take in a score; True if it is the best so far.

        Args:
            step: steps taken.
            score: larger is better.
            patience_steps: steps without a better score after which the run has `ended`; None for no end.
        """
        if self.best_score is None or score > self.best_score:
            self.best_score, self.best_step = score, step
            return True
        self.ended = patience_steps is not None and step - self.best_step >= patience_steps
        return False


class DevSet(Protocol):
    """Sentences that are embedded at each evaluation, and what they are scored by."""

    name: str
    measure: str
    """What its score is, in a few words."""

    def evaluate(self, encoder: SentenceEncoder) -> tuple[float, np.ndarray]:
        """Score x 100 and the embeddings (N, H) it rests on; every process has to call this at the same time."""
        ...


class SharedEmbedder:
    """Embeds the same sentences again and again: tokenized once, each process its share.

    Args:
        sentences: the N sentences.
        encoder: gives tokenizer and longest input.
        runtime: device and precision.
        ranks: the processes.
    """

    def __init__(
        self, sentences: Sequence[str], encoder: SentenceEncoder, runtime: Runtime, ranks: Ranks = ALONE
    ) -> None:
        self._num_sentences = len(sentences)
        self._tokens = tokenize(ranks.share(list(sentences)), encoder.tokenizer, encoder.max_length)
        self._runtime = runtime
        self._ranks = ranks

    def __call__(self, encoder: SentenceEncoder) -> np.ndarray:
        """(N, H) float32 embeddings, the same on all processes."""
        embeddings = np.zeros((self._num_sentences, encoder.embedding_dim), dtype=np.float32)
        mine = embed_rows(encoder, self._tokens, self._runtime, normalize=False)
        self._ranks.share(embeddings)[:] = mine
        self._ranks.sum_(torch.from_numpy(embeddings))
        return embeddings


class StsDev:
    """Spearman correlation on STS-B's development pairs.

    Args:
        folder: SentEval's, with `downstream/`.
        encoder, runtime, ranks: as for `SharedEmbedder`.
    """

    name = "STS-B dev"
    measure = "Spearman × 100"

    def __init__(self, folder: Path, encoder: SentenceEncoder, runtime: Runtime, ranks: Ranks = ALONE) -> None:
        import senteval

        self._loaded = senteval.load_tasks(STS_DEV_TASK, folder, mode="dev")
        self._sentences = list(dict.fromkeys(sentence for data in self._loaded for sentence in data.sentences()))
        self._embed = SharedEmbedder(self._sentences, encoder, runtime, ranks)

    def evaluate(self, encoder: SentenceEncoder) -> tuple[float, np.ndarray]:
        """As `DevSet.evaluate`; the score of a student whose embeddings are all the same is 0."""
        import senteval

        embeddings = self._embed(encoder)
        number = {sentence: row for row, sentence in enumerate(self._sentences)}
        results = senteval.evaluate_loaded(
            lambda sentences: embeddings[[number[sentence] for sentence in sentences]], self._loaded, mode="dev"
        )
        score = results.scores[STS_DEV_TASK]
        return getattr(score, "spearman", None) or 0.0, embeddings


class HeldOutDev:
    """Agreement with the teacher: the Spearman correlation of pairwise cosines over held-out sentences.

    Args:
        sentences: the N sentences.
        teacher: (N, D) teacher rows.
        encoder, runtime, ranks: as for `SharedEmbedder`.
    """

    name = "agreement with the teacher"
    measure = "Spearman of pairwise cosines × 100"

    def __init__(
        self,
        sentences: Sequence[str],
        teacher: np.ndarray,
        encoder: SentenceEncoder,
        runtime: Runtime,
        ranks: Ranks = ALONE,
    ) -> None:
        self._teacher = teacher
        self._embed = SharedEmbedder(sentences, encoder, runtime, ranks)

    def evaluate(self, encoder: SentenceEncoder) -> tuple[float, np.ndarray]:
        """As `DevSet.evaluate`."""
        embeddings = self._embed(encoder)
        score = agreement(embeddings, self._teacher).pair_spearman
        return score if np.isfinite(score) else 0.0, embeddings
