"""What stage 2 trains on: made or found by rank 0, opened by every process."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distilcse_cli.config import EncodeSettings, TripletSettings
from distilcse_cli.data.tokens import TokenStore, open_tokens, tokenize_corpus
from distilcse_cli.data.triplets import Triplets, open_triplets, prepare_triplets
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.inference import embed_sentences
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.ranks import Ranks
from distilcse_cli.runtime import Runtime
from distilcse_cli.teacher.agreement import Agreement, agreement
from distilcse_cli.teacher.store import EmbeddingStore
from distilcse_cli.training.finetune.model import FinetuneModel
from distilcse_cli.training.settings import FinetuneSettings
from distilcse_cli.training.teacher_rows import StorePlace, place_rows, teacher_facts

PROJECTION_ROWS = 8192
"""Sentences that a projection is fitted to before training."""


@dataclass(frozen=True, kw_only=True)
class FinetuneSources:
    """What stage 2 starts from."""

    student: ModelRef
    triplets: tuple[str, ...]
    """Tables of triples or pairs."""
    teacher: ModelRef | None = None
    """The teacher that the student is kept near; None without one."""

    def flat(self) -> dict[str, Any]:
        """The fields as `distilcse.json` has them."""
        teacher, student = self.teacher, self.student
        return {
            "student": student.ref,
            "triplets": self.triplets,
            "teacher": teacher and teacher.ref,
            "pooler": student.pooler,
            "teacher_pooler": teacher and teacher.pooler,
            "revision": student.revision,
            "teacher_revision": teacher and teacher.revision,
            "base": student.base,
            "tokenizer": student.tokenizer,
        }


@dataclass(frozen=True)
class Material:
    """Student, triplets, tokens and the rows of a teacher if there is one, opened."""

    student: SentenceEncoder
    triplets: Triplets
    tokens: TokenStore
    store: EmbeddingStore | None
    teacher_facts: dict[str, Any] | None

    def new_model(self, settings: FinetuneSettings, runtime: Runtime, ranks: Ranks) -> FinetuneModel:
        """The model as it is before the first step; its projection is fitted on rank 0, of which all get a copy."""
        width = None if self.store is None else self.store.embeddings.shape[1]
        model = FinetuneModel(self.student, settings, width)
        if self.store is not None and model.projection is not None and ranks.is_main:
            rows = np.linspace(0, len(self.store) - 1, min(len(self.store), PROJECTION_ROWS)).astype(np.int64)
            embeddings = embed_sentences(self.student, self.triplets.sentences.take(rows), runtime, _AS_TRAINED)
            teacher = self.store.embeddings[rows].astype(np.float32)
            model.start_projection(torch.from_numpy(embeddings), torch.from_numpy(teacher))
        return model.to(runtime.torch_device())

    def agreement(self, held_out: np.ndarray, runtime: Runtime) -> Agreement | None:
        """Agreement of the student, as it is now, with its teacher over the anchors of these triples."""
        anchors = np.unique(self.triplets.rows[held_out, 0])
        if self.store is None or len(anchors) < 3:
            return None
        embeddings = embed_sentences(self.student, self.triplets.sentences.take(anchors), runtime, EncodeSettings())
        return agreement(embeddings, self.store.embeddings[anchors])


_AS_TRAINED = EncodeSettings(normalize=False)


@dataclass(frozen=True)
class _Places:
    """Where rank 0 has put everything."""

    triplets: Path
    tokens: Path
    store: StorePlace | None
    teacher_facts: dict[str, Any] | None


def prepare(
    sources: FinetuneSources,
    settings: FinetuneSettings,
    triplet_settings: TripletSettings,
    runtime: Runtime,
    ranks: Ranks,
) -> Material:
    """Get everything ready; what was made before by the same inputs is used again.

    Raises:
        DistilCSEError: a model or the triplets are not to be had.
    """
    places = ranks.on_main(lambda: _make(sources, settings, triplet_settings, runtime, ranks))
    triplets, tokens, store = open_triplets(places.triplets), open_tokens(places.tokens), None
    if places.store is not None and sources.teacher is not None:
        store = places.store.opened(triplets.sentences, sources.teacher.load, runtime, ranks)
    return Material(sources.student.load(), triplets, tokens, store, places.teacher_facts)


def _make(
    sources: FinetuneSources,
    settings: FinetuneSettings,
    triplet_settings: TripletSettings,
    runtime: Runtime,
    ranks: Ranks,
) -> _Places:
    triplets = prepare_triplets(sources.triplets, triplet_settings)
    student = sources.student.load()
    tokens = tokenize_corpus(triplets.sentences, student.tokenizer, min(settings.max_length, student.max_length))
    if sources.teacher is None:
        return _Places(triplets.folder, tokens.folder, None, None)
    # the teacher runs once, and its weights are freed before training starts
    teacher = sources.teacher.load()
    store = place_rows(teacher, triplets.sentences, runtime, ranks)
    return _Places(triplets.folder, tokens.folder, store, teacher_facts(teacher))
