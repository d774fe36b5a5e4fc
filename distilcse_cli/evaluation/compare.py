"""Compare students with their teacher on sentences without labels, and say whether they are good enough."""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from distilcse_cli import console
from distilcse_cli.config import CorpusSettings
from distilcse_cli.errors import UsageError
from distilcse_cli.evaluation.compared import HISTOGRAM_EDGES, CompareResult, ModelResult, StudentResult
from distilcse_cli.evaluation.footprint import bytes_on_disk, peak_memory
from distilcse_cli.evaluation.labelled import RetrievalData, ScoredPairs
from distilcse_cli.evaluation.retrieval import LabelScores, label_scores
from distilcse_cli.evaluation.seen import Seen, SeenModel, see
from distilcse_cli.evaluation.settings import CompareSettings
from distilcse_cli.evaluation.speed import sentences_per_second
from distilcse_cli.evaluation.verdict import GATE
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.runtime import Runtime, choose_runtime


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
    for reference in references:
        reference.locate()  # a mistyped name is said before the teacher has run
    runtime = choose_runtime(settings.device, settings.compute_dtype)
    seen = see(_reference(teacher), references, corpus, settings, corpus_settings or CorpusSettings(), runtime)
    facts = _measure(seen, settings, runtime, pairs, retrieval)
    result = CompareResult(
        teacher=ModelResult(**_facts(seen.teacher, settings, facts)),
        students=tuple(
            StudentResult(
                **_facts(one, settings, facts),
                **{name: getattr(one, name) for name in ("closeness", "rank_ratio", "same_space", "scatter", "worst")},
            )
            for one in seen.students
        ),
        least=dict(least),
        num_sentences=seen.num_sentences,
        corpus=", ".join(corpus) or str(seen.sentences_path),
        counts=seen.counts,
        seed=settings.seed,
        machine=runtime.machine,
    )
    for one in seen.students:
        shutil.rmtree(one.folder, ignore_errors=True)
    return result


def _reference(model: ModelRef | str) -> ModelRef:
    return model if isinstance(model, ModelRef) else ModelRef(ref=model)


def _measure(
    seen: Seen,
    settings: CompareSettings,
    runtime: Runtime,
    pairs: ScoredPairs | None,
    retrieval: RetrievalData | None,
) -> dict[str, dict[str, Any]]:
    """Sizes, speed, memory and scores on labels of the models that can embed, by name. All are loaded for it."""
    embedders = {one.name: Embedder(one.reference.load(), runtime) for one in seen.models}
    console.log(f"timing {len(embedders)} models on {len(seen.timed):,} sentences")
    for embedder in embedders.values():
        embedder.sentences(seen.timed)
    jobs = {name: partial(embedder.sentences, seen.timed) for name, embedder in embedders.items()}
    speeds = sentences_per_second(jobs, len(seen.timed))
    facts: dict[str, dict[str, Any]] = {}
    for one in seen.models:
        encoder, reference = embedders[one.name].encoder, one.reference
        facts[one.name] = {
            "pooling": encoder.pooling,
            "num_layers": encoder.num_layers,
            "num_parameters": encoder.num_parameters,
            "bytes_on_disk": _bytes(reference, encoder),
            "peak_memory_bytes": peak_memory(reference, seen.timed, runtime) if settings.memory else None,
            "sentences_per_second": speeds[one.name],
            "labels": label_scores(embedders[one.name], pairs, retrieval),
        }
    return facts


def _facts(model: SeenModel, settings: CompareSettings, measured: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The fields that teacher and students have alike."""
    unknown = ("pooling", "num_layers", "num_parameters", "bytes_on_disk", "peak_memory_bytes", "sentences_per_second")
    return {
        "name": model.name,
        "source": model.reference.ref,
        "embedding_dim": model.width,
        "num_truncated": model.num_truncated,
        "price_per_hour": settings.price_per_hour,
        "spread": model.looks.spread,
        "random_histogram": np.histogram(model.looks.random_cosines.clip(-1, 1), HISTOGRAM_EDGES)[0],
        "near_histogram": np.histogram(model.looks.near_cosines.clip(-1, 1), HISTOGRAM_EDGES)[0],
        **measured.get(model.name, dict.fromkeys(unknown) | {"labels": LabelScores()}),
    }


def _bytes(reference: ModelRef, encoder: SentenceEncoder) -> int:
    """Bytes on the disk; of a model that is cut while it is loaded those of the weights that are left, in fp32."""
    return bytes_on_disk(reference.locate()) if reference.keep_layers is None else 4 * encoder.num_parameters
