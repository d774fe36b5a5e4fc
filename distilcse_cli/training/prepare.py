"""What stage 1 trains on: made or found by rank 0, opened by every process."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distilcse_cli import console
from distilcse_cli.config import CorpusSettings, EncodeSettings
from distilcse_cli.data.corpus import Corpus, open_corpus, prepare_corpus
from distilcse_cli.data.evaluation_data import senteval_folder
from distilcse_cli.data.tokens import TokenStore, open_tokens, tokenize_corpus
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.inference import embed_sentences
from distilcse_cli.models.reference import ModelRef
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

    teacher: ModelRef
    student: ModelRef
    """What the student is made from."""
    corpus: tuple[str, ...]
    """Text files or hub data sets."""
    embeddings: Path | None = None
    """Folder that `distilcse extract` wrote for this teacher and corpus; None extracts into the data home."""

    def flat(self) -> dict[str, Any]:
        """The fields as `distilcse.json` has them."""
        teacher, student = self.teacher, self.student
        return {
            "teacher": teacher.ref,
            "student": student.ref,
            "corpus": self.corpus,
            "keep_layers": student.keep_layers,
            "pooler": student.pooler,
            "teacher_pooler": teacher.pooler,
            "revision": student.revision,
            "teacher_revision": teacher.revision,
            "base": student.base,
            "tokenizer": student.tokenizer,
        }


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
    store = places.store.opened(corpus, sources.teacher.load, runtime, ranks)
    student = sources.student.load()
    # the student stands in for its teacher, so it hands out vectors of the same kind
    student.normalize = bool(store.manifest["normalized"])
    teacher: TeacherRows = StoredTeacher(store.embeddings, runtime)
    if places.teacher_tokens:
        teacher = LiveTeacher(sources.teacher.load(), open_tokens(places.teacher_tokens), runtime, ranks)
    return Material(student, corpus, open_tokens(places.tokens), store, places.teacher_facts, teacher)


def _make(
    sources: DistillSources,
    settings: DistillSettings,
    corpus_settings: CorpusSettings,
    runtime: Runtime,
    ranks: Ranks,
) -> _Places:
    student = sources.student.load()
    corpus = prepare_corpus(sources.corpus, corpus_settings)
    # the teacher's weights are freed before training starts
    teacher = sources.teacher.load()
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
