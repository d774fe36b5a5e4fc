"""Where a step's teacher rows come from: the embedding store, which is made here, or a teacher running along.

Shape letters: G sentences of a global batch, D teacher width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from distilcse_cli.config import EncodeSettings, data_home
from distilcse_cli.data.corpus import Corpus
from distilcse_cli.data.tokens import TokenRows
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.ranks import ALONE, Ranks
from distilcse_cli.runtime import Runtime
from distilcse_cli.teacher.extract import extract
from distilcse_cli.teacher.store import EmbeddingStore, is_complete, open_store


@dataclass(frozen=True)
class StorePlace:
    """Where a teacher's rows of a corpus lie, as rank 0 tells all processes."""

    folder: Path
    to_extract: bool = False
    """Whether they are yet to be made, by all processes together."""

    def opened(
        self, corpus: Corpus, load_teacher: Callable[[], SentenceEncoder], runtime: Runtime, ranks: Ranks
    ) -> EmbeddingStore:
        """The store with all of its rows; every process has to call this at the same time."""
        if self.to_extract:
            extract(ranks.main_first(load_teacher), corpus, self.folder, EncodeSettings(), runtime, ranks=ranks)
        return open_store(self.folder)


def place_rows(teacher: SentenceEncoder, corpus: Corpus, runtime: Runtime, ranks: Ranks) -> StorePlace:
    """Find a teacher's rows in the data home, or their place in it; on rank 0. A process that is alone makes them.

    Args:
        teacher: loaded, so that one process need not load it again.
        corpus: its sentences become the rows.
        runtime: device and precision.
        ranks: the processes that `StorePlace.opened` is called on.
    """
    name = f"{teacher.fingerprint[:16]}-{corpus.fingerprint[:16]}-{runtime.dtype}"
    folder = data_home() / "embeddings" / name
    if ranks.world_size > 1 and not is_complete(folder):
        return StorePlace(folder, to_extract=True)
    extract(teacher, corpus, folder, EncodeSettings(), runtime)
    return StorePlace(folder)


def teacher_facts(teacher: SentenceEncoder) -> dict[str, Any]:
    """What `distilcse.json` and the card say of a teacher."""
    return {
        "source": teacher.source,
        "num_parameters": teacher.num_parameters,
        "num_layers": teacher.num_layers,
        "embedding_dim": teacher.embedding_dim,
        "pooling": teacher.pooling,
    }


class TeacherRows(Protocol):
    """Gives the teacher's embeddings of sentences by their numbers in the corpus."""

    width: int

    def rows(self, sentences: np.ndarray) -> Tensor:
        """(G, D) fp32 on the runtime's device; all processes ask for the same sentences at the same time."""
        ...


class StoredTeacher:
    """Reads what the teacher said once. Every process reads all rows of the batch, so none are sent around.

    Args:
        embeddings: (N, D), usually a memory map.
        runtime: gives the device.
    """

    def __init__(self, embeddings: np.ndarray, runtime: Runtime) -> None:
        self.width = embeddings.shape[1]
        self._embeddings = embeddings
        self._device = runtime.torch_device()

    def rows(self, sentences: np.ndarray) -> Tensor:
        """As `TeacherRows.rows`."""
        return torch.from_numpy(self._embeddings[sentences].astype(np.float32)).to(self._device)


class LiveTeacher:
    """Runs the teacher on every batch with its dropout on, as the published code did.

    Costs a teacher forward a step. Each process embeds its share of the batch.

    Args:
        encoder: the teacher, moved to the runtime's device.
        tokens: the teacher's token rows of the corpus.
        runtime: device and precision.
        ranks: the processes among which a batch is shared out.
    """

    def __init__(self, encoder: SentenceEncoder, tokens: TokenRows, runtime: Runtime, ranks: Ranks = ALONE) -> None:
        self.width = encoder.embedding_dim
        self._encoder = encoder.to(runtime.torch_device()).train()
        self._tokens = tokens
        self._runtime = runtime
        self._ranks = ranks

    @torch.no_grad()
    def rows(self, sentences: np.ndarray) -> Tensor:
        """As `TeacherRows.rows`, another draw of the dropout each time."""
        device = self._runtime.torch_device()
        rows = torch.zeros(len(sentences), self.width, device=device)
        mine = self._ranks.share(np.arange(len(sentences)))
        if len(mine):
            ids, mask = self._tokens.pad(sentences[mine], self._encoder.pad_id)
            with self._runtime.autocast():
                rows[torch.from_numpy(mine)] = self._encoder(ids.to(device), mask.to(device)).float()
        self._ranks.sum_(rows)
        return rows
