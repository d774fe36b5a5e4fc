"""What stage 2 compares its students by: STS-B's development set, else triples held out of the file."""

import numpy as np

from distilcse_cli import console
from distilcse_cli.config import senteval_folder
from distilcse_cli.data.triplets import Triplets
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.ranks import ALONE, Ranks
from distilcse_cli.runtime import Runtime
from distilcse_cli.training.selection import STS_DEV_TASK, DevSet, SharedEmbedder, StsDev
from distilcse_cli.training.settings import FinetuneSettings

LEAST_HELD_OUT = 2
"""A single triple without a hard negative would have nothing to choose from."""


class HeldOutTriples:
    """How often an anchor is nearer to its own positive than to all other positives and hard negatives.

    Args:
        triplets: all of them.
        held_out: (N,) numbers of those that are scored.
        encoder, runtime, ranks: as for `SharedEmbedder`.
    """

    name = "held-out triples"
    measure = "% of anchors that pick their positive"

    def __init__(
        self, triplets: Triplets, held_out: np.ndarray, encoder: SentenceEncoder, runtime: Runtime, ranks: Ranks = ALONE
    ) -> None:
        distinct, places = np.unique(triplets.rows[held_out], return_inverse=True)
        self._rows = places.reshape(len(held_out), -1)
        self._embed = SharedEmbedder(triplets.sentences.take(distinct), encoder, runtime, ranks)

    def evaluate(self, encoder: SentenceEncoder) -> tuple[float, np.ndarray]:
        """As `DevSet.evaluate`; the score is the share of right choices x 100."""
        embeddings = self._embed(encoder)
        return 100 * accuracy(embeddings, self._rows), embeddings


def accuracy(embeddings: np.ndarray, rows: np.ndarray) -> float:
    """Share of anchors whose own positive has a larger cosine than every other key.

    Keys with the text of the anchor or of its positive do not count.

    Args:
        embeddings: (S, H) of any length.
        rows: (N, 2 or 3) numbers of anchors, positives and hard negatives.
    """
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    keys = rows[:, 1:].T.reshape(-1)
    cosines = unit[rows[:, 0]] @ unit[keys].T
    own = cosines[np.arange(len(rows)), np.arange(len(rows))]
    cosines[(keys == rows[:, :1]) | (keys == rows[:, 1:2])] = -np.inf
    return float((own > cosines.max(axis=1)).mean())


def hold_out(num_triples: int, settings: FinetuneSettings) -> tuple[np.ndarray, np.ndarray]:
    """Split the numbers of triples into those trained on and those kept to score, both ascending."""
    num_held_out = min(settings.num_held_out, num_triples // 20)
    chosen = np.random.default_rng(settings.seed).permutation(num_triples)
    return np.sort(chosen[num_held_out:]), np.sort(chosen[:num_held_out])


def choose_dev(
    triplets: Triplets, held_out: np.ndarray, encoder: SentenceEncoder, runtime: Runtime, ranks: Ranks
) -> DevSet | None:
    """STS-B's development set if its file is there, else the held-out triples, else nothing."""
    import senteval

    folder = ranks.decided(senteval_folder())
    try:
        senteval.check_data(STS_DEV_TASK, folder, mode="dev")
    except senteval.DataError:
        if len(held_out) < LEAST_HELD_OUT:
            console.log("no development scores: no STS-B, and too few triples to hold any out")
            return None
        console.log(f"development scores: {len(held_out):,} held-out triples")
        return HeldOutTriples(triplets, held_out, encoder, runtime, ranks)
    console.log(f"development scores: STS-B dev in {folder}")
    return StsDev(folder, encoder, runtime, ranks)
