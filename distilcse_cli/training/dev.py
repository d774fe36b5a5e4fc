"""Development scores: what students are compared by, and which one is kept.

Scores come from STS-B's development set if its file is there, else from sentences or triples held
out of training. Test sets are never used.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from distilcse_cli import console
from distilcse_cli.config import EncodeSettings, senteval_folder
from distilcse_cli.data.tokens import tokenize
from distilcse_cli.data.triplets import Triplets
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.ranks import ALONE, Ranks
from distilcse_cli.runtime import Runtime
from distilcse_cli.teacher.agreement import agreement
from distilcse_cli.training.settings import TrainSettings

STS_DEV_TASK = "STSBenchmark"


def hold_out(num_rows: int, settings: TrainSettings) -> tuple[np.ndarray, np.ndarray]:
    """Split row numbers into those to train on and those to score on, at most a twentieth. Both are in order."""
    num_held_out = min(settings.num_held_out, num_rows // 20)
    chosen = np.random.default_rng(settings.seed).permutation(num_rows)
    return np.sort(chosen[num_held_out:]), np.sort(chosen[:num_held_out])


@dataclass
class Selection:
    """The best development score so far."""

    best_score: float | None = None
    best_step: int = 0
    ended: bool = False
    """Whether patience ran out."""

    def take(self, step: int, score: float, patience_steps: float | None) -> bool:
        """Note a score. Returns whether it is the best so far.

        Args:
            step: number of steps taken.
            score: larger is better.
            patience_steps: the run has `ended` after that many steps without a better score; None for no end.
        """
        if self.best_score is None or score > self.best_score:
            self.best_score, self.best_step = score, step
            return True
        self.ended = patience_steps is not None and step - self.best_step >= patience_steps
        return False


class DevSet(Protocol):
    """Sentences to embed at each evaluation, and a score. `str` gives a line for the log."""

    name: str
    measure: str
    """What the score is, in a few words."""

    def evaluate(self, encoder: SentenceEncoder) -> tuple[float, np.ndarray]:
        """Score x 100, and the (N, H) embeddings that were scored. Every process calls this at the same time."""
        ...


def choose_dev(
    encoder: SentenceEncoder, runtime: Runtime, ranks: Ranks, *, fallback: Callable[[], DevSet | None], unit: str
) -> DevSet | None:
    """STS-B's development set if its file is there, else the fallback; None without either.

    Args:
        encoder: the student.
        runtime: device and precision.
        ranks: the processes.
        fallback: makes a set of rows held out of training; None if they are too few.
        unit: what a row is, in the plural.
    """
    import senteval

    folder = ranks.decided(senteval_folder())
    try:
        senteval.check_data(STS_DEV_TASK, folder, mode="dev")
    except senteval.DataError:
        dev = fallback()
    else:
        dev = StsDev(folder, encoder, runtime, ranks)
    if dev is None:
        console.log(f"no development scores: no STS-B, and too few {unit} to hold any out")
    else:
        console.log(f"development scores: {dev}")
    return dev


class SharedEmbedder:
    """Embeds the same sentences at each evaluation: tokenized once, shared among the processes.

    Args:
        sentences: the N sentences.
        encoder: its tokenizer and length limit are used.
        runtime: device and precision.
        ranks: the processes.
    """

    def __init__(
        self, sentences: Sequence[str], encoder: SentenceEncoder, runtime: Runtime, ranks: Ranks = ALONE
    ) -> None:
        self._num_sentences = len(sentences)
        mine = ranks.share(list(sentences))
        self._tokens = tokenize(mine, encoder.tokenizer, encoder.max_length, encoder.prompts.used)
        self._runtime = runtime
        self._ranks = ranks

    def __call__(self, encoder: SentenceEncoder) -> np.ndarray:
        """(N, H) float32 embeddings, the same on all processes."""
        embeddings = np.zeros((self._num_sentences, encoder.embedding_dim), dtype=np.float32)
        embedder = Embedder(encoder, self._runtime, EncodeSettings(normalize=False))
        self._ranks.share(embeddings)[:] = embedder.rows(self._tokens)
        self._ranks.sum_(torch.from_numpy(embeddings))
        return embeddings


class StsDev:
    """Spearman correlation on STS-B's development pairs.

    Args:
        folder: SentEval's data, with `downstream/`.
        encoder, runtime, ranks: as for `SharedEmbedder`.
    """

    name = "STS-B dev"
    measure = "Spearman × 100"

    def __init__(self, folder: Path, encoder: SentenceEncoder, runtime: Runtime, ranks: Ranks = ALONE) -> None:
        import senteval

        self._folder = folder
        self._loaded = senteval.load_tasks(STS_DEV_TASK, folder, mode="dev")
        self._sentences = list(dict.fromkeys(sentence for data in self._loaded for sentence in data.sentences()))
        self._embed = SharedEmbedder(self._sentences, encoder, runtime, ranks)

    def __str__(self) -> str:
        return f"{self.name} in {self._folder}"

    def evaluate(self, encoder: SentenceEncoder) -> tuple[float, np.ndarray]:
        """As `DevSet.evaluate`. A student whose embeddings are all the same scores 0."""
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

    def __str__(self) -> str:
        return f"{self.name} on {len(self._teacher):,} held-out sentences"

    def evaluate(self, encoder: SentenceEncoder) -> tuple[float, np.ndarray]:
        """As `DevSet.evaluate`."""
        embeddings = self._embed(encoder)
        score = agreement(embeddings, self._teacher).pair_spearman
        return score if np.isfinite(score) else 0.0, embeddings


LEAST_TRIPLES = 2
"""A single triple without a hard negative would have nothing to choose from."""


class HeldOutTriples:
    """How often an anchor is nearer to its own positive than to all other positives and hard negatives.

    Args:
        triplets: all triples.
        held_out: (N,) numbers of the triples to score.
        encoder, runtime, ranks: as for `SharedEmbedder`.
    """

    name = "held-out triples"
    measure = "% of anchors that pick their positive"

    def __init__(
        self, triplets: Triplets, held_out: np.ndarray, encoder: SentenceEncoder, runtime: Runtime, ranks: Ranks = ALONE
    ) -> None:
        distinct, numbers = np.unique(triplets.rows[held_out], return_inverse=True)
        self._rows = numbers.reshape(len(held_out), -1)
        self._embed = SharedEmbedder(triplets.sentences.take(distinct), encoder, runtime, ranks)

    def __str__(self) -> str:
        return f"{len(self._rows):,} {self.name}"

    def evaluate(self, encoder: SentenceEncoder) -> tuple[float, np.ndarray]:
        """As `DevSet.evaluate`. The score is the share of right choices x 100."""
        embeddings = self._embed(encoder)
        return 100 * accuracy(embeddings, self._rows), embeddings


def accuracy(embeddings: np.ndarray, rows: np.ndarray) -> float:
    """Share of anchors whose own positive has a larger cosine than every other key.

    Keys with the text of the anchor or of its positive do not count.

    Args:
        embeddings: (S, H) of any length.
        rows: (N, 2 or more) numbers of anchors, positives and hard negatives.
    """
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    keys = rows[:, 1:].T.reshape(-1)
    cosines = unit[rows[:, 0]] @ unit[keys].T
    own = cosines[np.arange(len(rows)), np.arange(len(rows))]
    cosines[(keys == rows[:, :1]) | (keys == rows[:, 1:2])] = -np.inf
    return float((own > cosines.max(axis=1)).mean())
