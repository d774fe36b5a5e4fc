"""Students and their teacher on the same sentences: what their rows say, one model in memory at a time.

Shape letters: N sentences, Q queries, k near pairs of a query.
"""

import gc
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from distilcse_cli import console
from distilcse_cli.config import CorpusSettings, EncodeSettings, data_home
from distilcse_cli.data.texts import sentences_at
from distilcse_cli.evaluation.compared import Disagreement
from distilcse_cli.evaluation.report import short_name
from distilcse_cli.evaluation.scoring import model_facts
from distilcse_cli.evaluation.settings import CompareSettings
from distilcse_cli.evaluation.teacher_side import TeacherSide, prepare_teacher
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.runtime import Runtime
from distilcse_cli.teacher.closeness import (
    Closeness,
    Looks,
    Sample,
    closeness,
    draw_sample,
    look,
    pair_cosines,
    shared_of_each,
)
from distilcse_cli.teacher.extract import extract
from distilcse_cli.teacher.space import space_of_model

NUM_TIMED = 500
"""Sentences, drawn by the seed, by which speed and memory are measured."""
NUM_WORST = 50
NUM_SCATTER = 600
"""Pairs of the report's scatter plot, half of them random, half near."""


@dataclass(frozen=True, kw_only=True)
class SeenModel:
    """What the rows of a model say. The rows themselves are no longer open."""

    name: str
    reference: ModelRef
    looks: Looks
    width: int
    num_truncated: int


@dataclass(frozen=True, kw_only=True)
class SeenStudent(SeenModel):
    """What the rows of a student say beside its teacher's."""

    closeness: Closeness
    rank_ratio: float
    same_space: bool
    scatter: np.ndarray
    worst: tuple[Disagreement, ...]
    folder: Path
    """The store of its rows, to be removed when all is done."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """All models of a comparison, and the sentences on which they are timed."""

    teacher: SeenModel
    teacher_is_store: bool
    students: tuple[SeenStudent, ...]
    counts: dict[str, int]
    num_sentences: int
    sentences_path: Path
    timed: list[str]

    @cached_property
    def models(self) -> list[SeenModel]:
        """Those that can embed."""
        return [*([] if self.teacher_is_store else [self.teacher]), *self.students]


def see(
    teacher: ModelRef,
    students: Sequence[ModelRef],
    corpus: Sequence[str],
    settings: CompareSettings,
    corpus_settings: CorpusSettings,
    runtime: Runtime,
) -> Seen:
    """Embed the corpus with each model and compare the rows; raises as `compare` does."""
    with ExitStack() as held:
        side = prepare_teacher(teacher, corpus, corpus_settings, runtime, held)
        drawn = {"num_queries": settings.num_queries, "num_pairs": settings.num_pairs, "seed": settings.seed}
        sample = draw_sample(side.rows, **drawn)
        first, *others = _names([teacher, *students])
        seen = SeenModel(
            name=first,
            reference=teacher,
            looks=look(side.rows, sample, is_teacher=True),
            width=side.rows.shape[1],
            num_truncated=side.num_truncated,
        )
        drawing = np.random.default_rng(settings.seed)
        return Seen(
            teacher=seen,
            teacher_is_store=side.is_store,
            students=tuple(
                _student(name, one, side, sample, seen.looks, runtime)
                for name, one in zip(others, students, strict=True)
            ),
            counts=sample.counts(),
            num_sentences=len(side.corpus),
            sentences_path=side.corpus.sentences_path,
            timed=sentences_at(side.corpus, drawing.permutation(len(side.corpus))[:NUM_TIMED]),
        )


def _student(
    name: str, reference: ModelRef, side: TeacherSide, sample: Sample, theirs: Looks, runtime: Runtime
) -> SeenStudent:
    """A student's rows of the corpus, which an earlier comparison may have begun, beside the teacher's."""
    encoder = reference.load()
    console.log(f"comparing {name} on {runtime}")
    facts = model_facts(Embedder(encoder, runtime)) | {"corpus": side.corpus.fingerprint}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    folder = data_home() / "compare" / digest[:32]
    store = extract(encoder, side.corpus, folder, EncodeSettings(), runtime, wait=True)
    space = space_of_model(reference, encoder)
    del encoder
    gc.collect()  # a model is part of reference cycles
    own = look(store.embeddings, sample)
    return SeenStudent(
        name=name,
        reference=reference,
        looks=own,
        width=store.embeddings.shape[1],
        num_truncated=store.manifest["num_truncated"],
        closeness=closeness(store.embeddings, side.rows, own, theirs, sample),
        rank_ratio=own.spread.effective_rank / min(theirs.spread.effective_rank, store.embeddings.shape[1]),
        same_space=space.fingerprint == side.space.fingerprint,
        scatter=_scatter(own, theirs),
        worst=_worst(side, sample, theirs, own, store.embeddings),
        folder=folder,
    )


def _scatter(own: Looks, theirs: Looks) -> np.ndarray:
    """(n, 2) cosines by teacher and student: of the first random pairs, and of near pairs of evenly spread queries."""
    half = NUM_SCATTER // 2
    step = max(1, own.near_cosines.size // half)
    parts = [
        np.concatenate([one.random_cosines[:half], one.near_cosines.ravel()[::step][:half]]) for one in (theirs, own)
    ]
    return np.stack(parts, axis=1)


def _worst(
    side: TeacherSide, sample: Sample, theirs: Looks, own: Looks, student: np.ndarray
) -> tuple[Disagreement, ...]:
    """The sentences with the fewest of the ten nearest shared; of equal ones those with the largest fall."""
    counts, falls = shared_of_each(own, theirs), (theirs.near_cosines - own.near_cosines).mean(axis=1)
    chosen = np.lexsort((-falls, counts))[:NUM_WORST]
    rows, nearest, mine = sample.queries[chosen], sample.nearest[chosen, 0], own.nearest[chosen, 0]
    texts = sentences_at(side.corpus, np.concatenate([rows, nearest, mine])) if len(chosen) else []
    with_nearest, with_mine = (np.stack([rows, other], axis=1) for other in (nearest, mine))
    both = [(pair_cosines(side.rows, pairs), pair_cosines(student, pairs)) for pairs in (with_nearest, with_mine)]
    size = len(chosen)
    return tuple(
        Disagreement(
            sentence=texts[i],
            shared10=int(counts[chosen[i]]),
            fall=float(falls[chosen[i]]),
            teacher_nearest=texts[size + i],
            teacher_nearest_cosines=(float(both[0][0][i]), float(both[0][1][i])),
            student_nearest=texts[2 * size + i],
            student_nearest_cosines=(float(both[1][0][i]), float(both[1][1][i])),
        )
        for i in range(size)
    )


def _names(references: Sequence[ModelRef]) -> list[str]:
    """A short name for each model; where two would be the same, the whole reference, then a number after it."""
    short = [_name(short_name(one.ref), one) for one in references]
    names = [
        _name(one.ref, one) if short.count(name) > 1 else name for one, name in zip(references, short, strict=True)
    ]
    seen: Counter[str] = Counter()
    for i, name in enumerate(names):
        seen[name] += 1
        names[i] = f"{name} ({seen[name]})" if seen[name] > 1 else name
    return names


def _name(name: str, reference: ModelRef) -> str:
    """The name, and which layers were kept or which pooling was asked for."""
    layers = "" if reference.keep_layers is None else f", layers {','.join(map(str, reference.keep_layers))}"
    return name + layers + ("" if reference.pooler is None else f", {reference.pooler}")
