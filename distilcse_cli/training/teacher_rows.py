"""Where the teacher rows of a step come from: the embedding store, or a teacher that runs in the loop.

Shape letters: G sentences of a global batch, N of the corpus, D teacher width.
"""

from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from distilcse_cli.config import EncodeSettings, data_home
from distilcse_cli.data.corpus import Corpus
from distilcse_cli.data.tokens import TokenRows
from distilcse_cli.errors import UsageError
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.ranks import ALONE, Ranks
from distilcse_cli.runtime import Runtime
from distilcse_cli.teacher.extract import extract
from distilcse_cli.teacher.store import EmbeddingStore, is_complete, open_store


class Teacher:
    """The teacher as named. A process loads it at most once, and only if it needs it. Rank 0 always does.

    Args:
        ref: the model.
        ranks: the processes; all of them call each method at the same time.
    """

    def __init__(self, ref: ModelRef, ranks: Ranks = ALONE) -> None:
        self._ref, self._ranks = ref, ranks

    @cached_property
    def _encoder(self) -> SentenceEncoder:
        return self._ref.load()

    def encoder(self) -> SentenceEncoder:
        """The encoder, on every process."""
        return self._ranks.main_first(lambda: self._encoder)

    def store(self, corpus: Corpus, runtime: Runtime, given: Path | None = None) -> EmbeddingStore:
        """The teacher's rows of a corpus.

        Args:
            corpus: its sentences become the rows.
            runtime: device and precision.
            given: folder written by `distilcse extract`; None finds the rows in the data home, or makes
                them there, shared among the processes.

        Raises:
            DataError: `given` is not a complete store of this teacher and corpus.
        """

        def find() -> tuple[Path, bool]:
            if given is not None:
                open_store(given, corpus=corpus, teacher=self._encoder).check_rows()
                return given, True
            name = f"{self._encoder.fingerprint[:16]}-{corpus.fingerprint[:16]}-{runtime.dtype}"
            folder = data_home() / "embeddings" / name
            if is_complete(folder):
                extract(self._encoder, corpus, folder, EncodeSettings(), runtime)  # verifies it
            return folder, is_complete(folder)

        folder, is_made = self._ranks.on_main(find)
        if not is_made:
            extract(self.encoder(), corpus, folder, EncodeSettings(), runtime, ranks=self._ranks, wait=True)
        return open_store(folder)

    def facts(self) -> dict[str, Any]:
        """The teacher's entry in `distilcse.json` and the model card."""

        def on_main() -> dict[str, Any]:
            encoder = self._encoder
            return {
                "source": encoder.source,
                "num_parameters": encoder.num_parameters,
                "num_layers": encoder.num_layers,
                "embedding_dim": encoder.embedding_dim,
                "pooling": encoder.pooling,
            }

        return self._ranks.on_main(on_main)


class RowsOnly(Teacher):
    """A teacher that is known by a store alone: of its model there is only what the manifest says.

    Args:
        folder: a store; it need not have a model of ours.
        ranks: as for `Teacher`.
    """

    def __init__(self, folder: Path, ranks: Ranks = ALONE) -> None:
        self._folder, self._ranks = folder, ranks

    def encoder(self) -> SentenceEncoder:
        """Raise UsageError: there is none."""
        raise UsageError(
            f"--teacher-dropout runs the teacher, but {self._folder} has only its rows",
            hint="name the model with --teacher, or leave --teacher-dropout out",
        )

    def store(self, corpus: Corpus, runtime: Runtime, given: Path | None = None) -> EmbeddingStore:  # noqa: ARG002
        """The store, if it has the rows of this corpus.

        Raises:
            DataError: it is not complete, or of another corpus.
        """
        self._ranks.on_main(lambda: open_store(self._folder, corpus=corpus).check_rows())
        return open_store(self._folder)

    def facts(self) -> dict[str, Any]:
        """As `Teacher.facts`, without what only a model has; and the terms of use, if there are any."""
        manifest = open_store(self._folder).manifest
        return {
            "source": manifest.get("teacher"),
            "num_parameters": None,
            "num_layers": None,
            "embedding_dim": manifest["width"],
            "pooling": manifest.get("pooling"),
            "terms": manifest.get("terms"),
        }


def teacher_of(ref: ModelRef | None, embeddings: Path | None, ranks: Ranks = ALONE) -> Teacher:
    """The teacher as a model, or by its store alone.

    Raises:
        UsageError: neither is named.
    """
    if ref is not None:
        return Teacher(ref, ranks)
    if embeddings is None:
        hint = "name a model with --teacher, or a store of rows with --embeddings"
        raise UsageError("no teacher is given", hint=hint)
    return RowsOnly(embeddings, ranks)


class TeacherRows(Protocol):
    """Returns the teacher's embeddings of sentences by their numbers in the corpus."""

    width: int

    def rows(self, sentences: np.ndarray) -> Tensor:
        """(G, D) fp32 on the runtime's device. All processes ask for the same sentences at the same time."""
        ...


class StoredTeacher:
    """Reads the rows of an embedding store. Every process reads all rows of the batch, so none are sent around.

    Args:
        embeddings: (N, D), usually a memory map.
        runtime: its device gets the rows.
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

    It costs a forward pass of the teacher in each step. Each process embeds its share of the batch.

    Args:
        encoder: the teacher. It is moved to the runtime's device.
        tokens: the teacher's token rows of the corpus.
        runtime: device and precision.
        ranks: the processes that share a batch.
    """

    def __init__(self, encoder: SentenceEncoder, tokens: TokenRows, runtime: Runtime, ranks: Ranks = ALONE) -> None:
        encoder.require_trainable()
        self.width = encoder.embedding_dim
        self._encoder = encoder.to(runtime.torch_device()).train()
        self._tokens = tokens
        self._runtime = runtime
        self._ranks = ranks

    @torch.no_grad()
    def rows(self, sentences: np.ndarray) -> Tensor:
        """As `TeacherRows.rows`. Each call draws new dropout."""
        device = self._runtime.torch_device()
        rows = torch.zeros(len(sentences), self.width, device=device)
        mine = self._ranks.share(np.arange(len(sentences)))
        if len(mine):
            ids, mask = self._tokens.pad(sentences[mine], self._encoder.pad_id)
            with self._runtime.autocast():
                rows[torch.from_numpy(mine)] = self._encoder(ids.to(device), mask.to(device)).float()
        self._ranks.sum_(rows)
        return rows
