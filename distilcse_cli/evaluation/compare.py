"""Compare students with their teacher on sentences without labels, and say whether they are good enough.

Shape letters: N sentences, Q queries, k near pairs of a query.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distilcse_cli import console
from distilcse_cli.bf16 import cpu_model
from distilcse_cli.config import CorpusSettings, EncodeSettings, data_home
from distilcse_cli.errors import UsageError
from distilcse_cli.evaluation.compared import (
    HISTOGRAM_EDGES,
    CompareResult,
    Disagreement,
    ModelResult,
    StudentResult,
)
from distilcse_cli.evaluation.footprint import bytes_on_disk, peak_memory
from distilcse_cli.evaluation.labelled import RetrievalData, ScoredPairs
from distilcse_cli.evaluation.report import short_name
from distilcse_cli.evaluation.retrieval import LabelScores, label_scores
from distilcse_cli.evaluation.scoring import model_facts
from distilcse_cli.evaluation.settings import CompareSettings
from distilcse_cli.evaluation.speed import sentences_per_second
from distilcse_cli.evaluation.teacher_side import TeacherSide, prepare_teacher, sentences_at
from distilcse_cli.evaluation.verdict import GATE
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.runtime import Runtime, choose_runtime
from distilcse_cli.teacher.closeness import (
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


@dataclass(kw_only=True)
class _Model:
    """A model of the comparison while it is measured."""

    name: str
    reference: ModelRef
    encoder: SentenceEncoder | None
    """None: the teacher is a store."""
    rows: np.ndarray
    """(N, width) memory map."""
    looks: Looks
    num_truncated: int
    speed: float | None = None
    memory: int | None = None
    labels: LabelScores = field(default_factory=LabelScores)


def compare(
    teacher: ModelRef | str,
    students: Sequence[ModelRef | str],
    corpus: Sequence[str] = (),
    *,
    settings: CompareSettings | None = None,
    corpus_settings: CorpusSettings | None = None,
    pairs: ScoredPairs | None = None,
    retrieval: RetrievalData | None = None,
    least: Mapping[str, float] = GATE,
) -> CompareResult:
    """Measure how close students come to their teacher, and what they cost. Progress goes to stderr.

    The rows of a model are computed window by window and kept in the data home, so an interrupted comparison goes
    on from there. Those of students are removed at the end.

    Args:
        teacher: a model, or the folder of an embedding store.
        students: one or more models.
        corpus: text files or hub data sets; none takes the sentences of a teacher that is a store.
        settings: what is drawn and measured, and on which device.
        corpus_settings: how lines of the corpus become sentences.
        pairs: scored pairs of the user's own, see `labelled.read_pairs`.
        retrieval: queries and documents of the user's own, see `labelled.read_retrieval`.
        least: least values of metrics, for the verdict.

    Raises:
        DistilCSEError: a model, the corpus, the store or the device cannot be used.
    """
    settings, references = settings or CompareSettings(), [_reference(one) for one in students]
    if not references:
        raise UsageError("no student to compare", hint="name one with --student")
    runtime = choose_runtime(settings.device, settings.compute_dtype)
    with ExitStack() as held:
        side = prepare_teacher(_reference(teacher), corpus, corpus_settings or CorpusSettings(), runtime, held)
        drawn = {"num_queries": settings.num_queries, "num_pairs": settings.num_pairs, "seed": settings.seed}
        sample = draw_sample(side.rows, **drawn)
        first, *others = _names([side.reference, *references])
        looks = look(side.rows, sample, is_teacher=True)
        own = _Model(
            name=first,
            reference=side.reference,
            encoder=side.encoder,
            rows=side.rows,
            looks=looks,
            num_truncated=side.num_truncated,
        )
        learners = [_embedded(*named, side, sample, runtime) for named in zip(others, references, strict=True)]
        _measure([own, *learners], side, settings, runtime, pairs, retrieval)
        result = CompareResult(
            teacher=ModelResult(**_facts(own, settings)),
            students=tuple(_student(side, sample, looks, one, settings) for one in learners),
            least=dict(least),
            num_sentences=len(side.corpus),
            corpus=", ".join(corpus) or str(side.corpus.sentences_path),
            counts=sample.counts(),
            seed=settings.seed,
            machine=_machine(runtime),
        )
    for one in learners:
        shutil.rmtree(_folder(one.encoder, side, runtime), ignore_errors=True)
    return result


def _reference(model: ModelRef | str) -> ModelRef:
    return model if isinstance(model, ModelRef) else ModelRef(ref=model)


def _embedded(name: str, reference: ModelRef, side: TeacherSide, sample: Sample, runtime: Runtime) -> _Model:
    """A student, and its rows of the corpus, which an earlier comparison may have begun."""
    encoder = reference.load()
    console.log(f"comparing {name} on {runtime}")
    store = extract(encoder, side.corpus, _folder(encoder, side, runtime), EncodeSettings(), runtime, wait=True)
    return _Model(
        name=name,
        reference=reference,
        encoder=encoder,
        rows=store.embeddings,
        looks=look(store.embeddings, sample),
        num_truncated=store.manifest["num_truncated"],
    )


def _folder(encoder: SentenceEncoder | None, side: TeacherSide, runtime: Runtime) -> Path:
    assert encoder is not None  # a student has one
    facts = model_facts(Embedder(encoder, runtime)) | {"corpus": side.corpus.fingerprint}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return data_home() / "compare" / digest[:32]


def _measure(
    models: Sequence[_Model],
    side: TeacherSide,
    settings: CompareSettings,
    runtime: Runtime,
    pairs: ScoredPairs | None,
    retrieval: RetrievalData | None,
) -> None:
    """Fill in speed, memory and scores on labels of the models that can embed."""
    draw = np.random.default_rng(settings.seed)
    sentences = sentences_at(side.corpus, draw.permutation(len(side.corpus))[:NUM_TIMED])
    embedders = {one.name: Embedder(one.encoder, runtime) for one in models if one.encoder is not None}
    console.log(f"timing {len(embedders)} models on {len(sentences):,} sentences")
    for embedder in embedders.values():
        embedder.sentences(sentences)
    jobs = {name: partial(embedder.sentences, sentences) for name, embedder in embedders.items()}
    speeds = sentences_per_second(jobs, len(sentences))
    for one in models:
        if one.encoder is None:
            continue
        one.speed = speeds[one.name]
        one.labels = label_scores(embedders[one.name], pairs, retrieval)
        if settings.memory:
            one.memory = peak_memory(one.reference, sentences, runtime)


def _student(
    side: TeacherSide, sample: Sample, theirs: Looks, model: _Model, settings: CompareSettings
) -> StudentResult:
    assert model.encoder is not None
    own = model.looks
    space = space_of_model(model.reference, model.encoder)
    return StudentResult(
        **_facts(model, settings),
        closeness=closeness(model.rows, side.rows, own, theirs, sample),
        rank_ratio=own.spread.effective_rank / min(theirs.spread.effective_rank, model.rows.shape[1]),
        same_space=space.fingerprint == side.space.fingerprint,
        scatter=_scatter(own, theirs),
        worst=_worst(side, sample, theirs, model),
    )


def _facts(model: _Model, settings: CompareSettings) -> dict[str, Any]:
    """The fields that teacher and students have alike."""
    encoder = model.encoder
    return {
        "name": model.name,
        "source": model.reference.ref,
        "pooling": encoder and encoder.pooling,
        "num_layers": encoder and encoder.num_layers,
        "num_parameters": encoder and encoder.num_parameters,
        "embedding_dim": model.rows.shape[1],
        "num_truncated": model.num_truncated,
        "bytes_on_disk": encoder and _bytes(model.reference, encoder),
        "peak_memory_bytes": model.memory,
        "sentences_per_second": model.speed,
        "price_per_hour": settings.price_per_hour,
        "spread": model.looks.spread,
        "random_histogram": np.histogram(model.looks.random_cosines.clip(-1, 1), HISTOGRAM_EDGES)[0],
        "near_histogram": np.histogram(model.looks.near_cosines.clip(-1, 1), HISTOGRAM_EDGES)[0],
        "labels": model.labels,
    }


def _bytes(reference: ModelRef, encoder: SentenceEncoder) -> int:
    """Bytes on the disk; of a model that is cut while it is loaded those of the weights that are left, in fp32."""
    return bytes_on_disk(reference.locate()) if reference.keep_layers is None else 4 * encoder.num_parameters


def _scatter(own: Looks, theirs: Looks) -> np.ndarray:
    """(n, 2) cosines by teacher and student: of the first random pairs, and of near pairs of evenly spread queries."""
    half = NUM_SCATTER // 2
    step = max(1, own.near_cosines.size // half)
    parts = [
        np.concatenate([one.random_cosines[:half], one.near_cosines.ravel()[::step][:half]]) for one in (theirs, own)
    ]
    return np.stack(parts, axis=1)


def _worst(side: TeacherSide, sample: Sample, theirs: Looks, model: _Model) -> tuple[Disagreement, ...]:
    """The sentences with the fewest of the ten nearest shared; of equal ones those with the largest fall."""
    own = model.looks
    counts, falls = shared_of_each(own, theirs), (theirs.near_cosines - own.near_cosines).mean(axis=1)
    chosen = np.lexsort((-falls, counts))[:NUM_WORST]
    rows, nearest, mine = sample.queries[chosen], sample.nearest[chosen, 0], own.nearest[chosen, 0]
    texts = sentences_at(side.corpus, np.concatenate([rows, nearest, mine])) if len(chosen) else []
    with_nearest, with_mine = (np.stack([rows, other], axis=1) for other in (nearest, mine))
    both = [(pair_cosines(side.rows, pairs), pair_cosines(model.rows, pairs)) for pairs in (with_nearest, with_mine)]
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


def _machine(runtime: Runtime) -> str:
    threads = torch.get_num_threads()
    if runtime.device_type == "cuda":
        return f"{torch.cuda.get_device_name(runtime.torch_device())}, {runtime.dtype}"
    return f"{cpu_model()}, {threads} thread{'s' * (threads != 1)}, {runtime.dtype}"
