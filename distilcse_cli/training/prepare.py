"""What stage 1 trains on: made or found by rank 0, opened by every process."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distilcse_cli import console
from distilcse_cli.config import CorpusSettings, EncodeSettings, senteval_folder
from distilcse_cli.data.corpus import Corpus, open_corpus, prepare_corpus
from distilcse_cli.data.tokens import TokenStore, open_tokens, tokenize_corpus
from distilcse_cli.models.encoder import SentenceEncoder, load_encoder
from distilcse_cli.models.inference import embed_sentences
from distilcse_cli.ranks import Ranks
from distilcse_cli.runtime import Runtime
from distilcse_cli.teacher.agreement import Agreement, agreement
from distilcse_cli.teacher.store import EmbeddingStore, open_store
from distilcse_cli.training.selection import STS_DEV_TASK, DevSet, HeldOutDev, StsDev
from distilcse_cli.training.settings import DistillSettings
from distilcse_cli.training.teacher_rows import (
    LiveTeacher,
    StoredTeacher,
    StorePlace,
    TeacherRows,
    place_rows,
    teacher_facts,
)


@dataclass(frozen=True, kw_only=True)
class DistillSources:
    """What stage 1 starts from."""

    teacher: str
    """Model reference of the teacher."""
    student: str
    """Model reference the student starts from."""
    corpus: tuple[str, ...]
    """Text files or hub data sets."""
    embeddings: Path | None = None
    """Folder that `distilcse extract` wrote for this teacher and corpus; None extracts into the data home."""
    keep_layers: tuple[int, ...] | None = None
    """Layers of the student reference to keep; None keeps all."""
    pooler: str | None = None
    """The student's pooling; None takes its folder's own."""
    teacher_pooler: str | None = None
    """The teacher's pooling; None takes its folder's own."""
    revision: str | None = None
    """Revision of the student reference on the hub."""
    teacher_revision: str | None = None
    """Revision of the teacher reference on the hub."""
    base: str | None = None
    """For a student that is a file of weights, the model it was trained from."""
    tokenizer: str | None = None
    """For a student that is a file of weights, the model whose tokenizer it has."""

    def load_student(self) -> SentenceEncoder:
        """The student as it is before training."""
        return load_encoder(
            self.student,
            pooler=self.pooler,
            revision=self.revision,
            keep_layers=self.keep_layers,
            base=self.base,
            tokenizer=self.tokenizer,
        )

    def load_teacher(self) -> SentenceEncoder:
        """The teacher."""
        return load_encoder(self.teacher, pooler=self.teacher_pooler, revision=self.teacher_revision)


@dataclass(frozen=True)
class Material:
    """Student, corpus, tokens and teacher rows, opened."""

    student: SentenceEncoder
    corpus: Corpus
    tokens: TokenStore
    store: EmbeddingStore
    teacher_facts: dict[str, Any]
    teacher: TeacherRows

    def agreement(self, rows: np.ndarray, runtime: Runtime) -> Agreement | None:
        """Agreement of the student, as it is now, with the teacher's stored rows; None for fewer than three."""
        if len(rows) < 3:
            return None
        embeddings = embed_sentences(self.student, self.corpus.take(rows), runtime, EncodeSettings())
        return agreement(embeddings, self.store.embeddings[rows])


@dataclass(frozen=True)
class _Places:
    """Where rank 0 has put everything."""

    corpus: Path
    tokens: Path
    store: StorePlace
    teacher_tokens: Path | None
    teacher_facts: dict[str, Any]


def prepare(
    sources: DistillSources,
    settings: DistillSettings,
    corpus_settings: CorpusSettings,
    runtime: Runtime,
    ranks: Ranks,
) -> Material:
    """Get everything ready; what was made before by the same inputs is used again.

    Raises:
        DistilCSEError: a model, the corpus or the store is not to be had, or they do not fit.
    """
    places = ranks.on_main(lambda: _make(sources, settings, corpus_settings, runtime, ranks))
    corpus = open_corpus(places.corpus)
    store = places.store.opened(corpus, sources.load_teacher, runtime, ranks)
    student = sources.load_student()
    # the student stands in for its teacher, so it hands out vectors of the same kind
    student.normalize = bool(store.manifest["normalized"])
    teacher: TeacherRows = StoredTeacher(store.embeddings, runtime)
    if places.teacher_tokens:
        teacher = LiveTeacher(sources.load_teacher(), open_tokens(places.teacher_tokens), runtime, ranks)
    return Material(student, corpus, open_tokens(places.tokens), store, places.teacher_facts, teacher)


def _make(
    sources: DistillSources,
    settings: DistillSettings,
    corpus_settings: CorpusSettings,
    runtime: Runtime,
    ranks: Ranks,
) -> _Places:
    student = sources.load_student()
    corpus = prepare_corpus(sources.corpus, corpus_settings)
    # the teacher's weights are freed before training starts
    teacher = sources.load_teacher()
    if sources.embeddings is not None:
        given = open_store(sources.embeddings, corpus=corpus, teacher=teacher)
        given.check_rows()
        store = StorePlace(given.folder)
    else:
        store = place_rows(teacher, corpus, runtime, ranks)
    teacher_tokens = None
    if settings.teacher_dropout:
        teacher_tokens = tokenize_corpus(corpus, teacher.tokenizer, min(settings.max_length, teacher.max_length)).folder
    tokens = tokenize_corpus(corpus, student.tokenizer, min(settings.max_length, student.max_length))
    return _Places(corpus.folder, tokens.folder, store, teacher_tokens, teacher_facts(teacher))


def hold_out(num_sentences: int, settings: DistillSettings) -> tuple[np.ndarray, np.ndarray]:
    """Split row numbers into those trained on and those kept to score agreement, both ascending."""
    num_held_out = min(settings.num_held_out, num_sentences // 20)
    chosen = np.random.default_rng(settings.seed).permutation(num_sentences)
    return np.sort(chosen[num_held_out:]), np.sort(chosen[:num_held_out])


def choose_dev(material: Material, held_out: np.ndarray, runtime: Runtime, ranks: Ranks) -> DevSet | None:
    """STS-B's development set if its file is there, else the held-out sentences, else nothing."""
    import senteval

    folder = ranks.decided(senteval_folder())
    try:
        senteval.check_data(STS_DEV_TASK, folder, mode="dev")
    except senteval.DataError:
        if len(held_out) < 3:
            console.log("no development scores: no STS-B, and too few sentences to hold any out")
            return None
        console.log(f"development scores: agreement with the teacher on {len(held_out):,} held-out sentences")
        sentences, rows = material.corpus.take(held_out), material.store.embeddings[held_out]
        return HeldOutDev(sentences, rows, material.student, runtime, ranks)
    console.log(f"development scores: STS-B dev in {folder}")
    return StsDev(folder, material.student, runtime, ranks)
