"""`--layers N`: the layers of the student chosen by the teacher's rows of some sentences of the corpus, and kept."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from distilcse_cli import console
from distilcse_cli.data.cache import REMAKE, build_once, entry_folder, read_manifest, write_manifest
from distilcse_cli.data.corpus import Corpus
from distilcse_cli.data.tokens import tokenizer_fingerprint
from distilcse_cli.errors import DataError
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.layers import RankedLayers, rank_layers
from distilcse_cli.runtime import Runtime
from distilcse_cli.teacher.store import EmbeddingStore
from distilcse_cli.training.settings import DistillSettings

FORMAT_VERSION = 1
"""Raised when the same input would be ranked otherwise."""
NUM_SENTENCES = 1000
"""Sentences of the corpus that the subsets are compared on, evenly spread over it."""
_SHOWN = 10


def choose_layers(
    student: SentenceEncoder,
    corpus: Corpus,
    store: EmbeddingStore,
    settings: DistillSettings,
    runtime: Runtime,
) -> tuple[int, ...]:
    """Choose the layers of a student, and print the ranking; the same choice is made once, and kept in the data home.

    Args:
        student: whole.
        corpus: the sentences to train on.
        store: the teacher's rows of the corpus.
        settings: `layers`, how many to keep, and `max_length`, most tokens of a sentence.
        runtime: device and number format.

    Raises:
        UsageError: the student has fewer layers.
        ModelError: it cannot be cut.
    """
    num_layers, max_length = settings.layers, settings.max_length
    if num_layers is None:
        raise ValueError("no number of layers to choose")
    made_from = {
        "student": student.fingerprint,
        "tokenizer": tokenizer_fingerprint(student.tokenizer),
        "teacher": store.manifest["teacher_fingerprint"],
        "corpus": corpus.fingerprint,
        "num_layers": num_layers,
        "max_length": max_length,
    }
    folder = entry_folder("layers", FORMAT_VERSION, made_from)

    def build(target: Path) -> None:
        rows = np.linspace(0, len(corpus) - 1, min(len(corpus), NUM_SENTENCES)).astype(np.int64)
        teacher = store.embeddings[rows].astype(np.float32)
        ranking = rank_layers(student, corpus.take(rows), teacher, num_layers, runtime, max_length=max_length)
        facts: dict[str, Any] = {"num_sentences": len(rows), "ranking": [asdict(one) for one in ranking]}
        write_manifest(target, FORMAT_VERSION, {**made_from, **facts})

    existed = build_once(folder, FORMAT_VERSION, build)
    manifest = read_manifest(folder, FORMAT_VERSION)
    try:
        ranking = [RankedLayers(tuple(one["layers"]), one["cosine"]) for one in manifest["ranking"]]
        best, num_sentences = ranking[0].layers, manifest["num_sentences"]
        console.log(_table(ranking))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DataError(f"{folder} is damaged: {error}", hint=REMAKE) from error
    before = f", ranked before [{folder}]" if existed else ""
    console.log(f"layers: {named(best)}, best of {len(ranking):,} on {num_sentences:,} sentences{before}")
    return best


def named(layers: Iterable[int]) -> str:
    """Layers as `--keep-layers` takes them."""
    return ",".join(map(str, layers))


def _table(ranking: list[RankedLayers]) -> str:
    rows = [(named(one.layers), f"{one.cosine:.4f}") for one in ranking[:_SHOWN]]
    return console.table(("layers", "cosine to the teacher"), rows, align="lr")
