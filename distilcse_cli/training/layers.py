"""`--layers N`: the layers of the student chosen by the teacher's rows of some sentences of the corpus, and kept.

Nothing is trained, and no labels are used. A subset of the layers is worth as much as it agrees with the teacher on
which sentences are near each other, both as it is and after a linear map to the teacher's rows. The first alone says
too little about what training can reach. The second alone prefers layers that are far from the teacher's and that
training does not bring near: layer 0 of all-MiniLM-L6 to its last one.

Shape letters: N sentences, H width of the student, D of the teacher.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distilcse_cli import console
from distilcse_cli.data.cache import REMAKE, build_once, entry_folder, read_manifest, write_manifest
from distilcse_cli.data.corpus import Corpus, evenly_spread
from distilcse_cli.data.tokens import tokenizer_fingerprint
from distilcse_cli.errors import DataError
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.layers import rank_subsets
from distilcse_cli.models.ridge import cosine_map
from distilcse_cli.runtime import Runtime
from distilcse_cli.teacher.neighbours import nearest, shared
from distilcse_cli.teacher.store import EmbeddingStore
from distilcse_cli.training.settings import DistillSettings

FORMAT_VERSION = 1
"""Raised when the same input would be ranked otherwise."""
NUM_SENTENCES = 1000
"""Sentences of the corpus that the subsets are compared on, evenly spread over it."""
_SHOWN = 10
_NUM_NEIGHBOURS = 10
_PARTS = 4
"""Each part of the sentences is mapped as the others say. So no row is mapped by a map that has seen it."""
_PENALTY = 1.0
"""Of the map. It is what `ridge_map` chooses itself for the layers of all-MiniLM-L6 on a thousand sentences."""


@dataclass(frozen=True)
class RankedLayers:
    """Some of a model's layers, and how far their rows agree with the teacher's before training."""

    layers: tuple[int, ...]
    """Their numbers, from 0, in increasing order."""
    shared: float
    """Share x 100 of each sentence's ten nearest others that are the teacher's, too."""
    shared_mapped: float
    """The same after a linear map to the teacher's rows."""


def rank_layers(
    student: SentenceEncoder,
    sentences: Sequence[str],
    teacher: np.ndarray,
    num_layers: int,
    runtime: Runtime,
    *,
    max_length: int | None = None,
) -> list[RankedLayers]:
    """Rank the subsets of a student's layers by the mean of both shares, the best one first.

    Args:
        student: whole; its layers are all there again at the end.
        sentences: N of them; a thousand tell subsets apart.
        teacher: (N, D) the teacher's rows of these sentences, of any length.
        num_layers, runtime, max_length: as for `rank_subsets`, which says what is tried, and what it raises.
    """
    if num_neighbours := min(_NUM_NEIGHBOURS, len(sentences) - 1):
        near = nearest(teacher, teacher, num_neighbours, leave_out=np.arange(len(teacher)))

    def share(rows: np.ndarray) -> float:
        if not num_neighbours:
            return 0.0
        return 100 * shared(nearest(rows, rows, num_neighbours, leave_out=np.arange(len(rows))), near)

    def worth(rows: np.ndarray) -> tuple[float, float, float]:
        as_it_is, mapped = share(rows), share(_mapped(rows, teacher))
        return as_it_is + mapped, as_it_is, mapped

    ranking = rank_subsets(student, sentences, worth, num_layers, runtime, max_length=max_length)
    return [RankedLayers(layers, as_it_is, mapped) for layers, (_, as_it_is, mapped) in ranking]


def _mapped(student: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    """(N, D) rows of the student, each mapped by what the rows of the other parts say."""
    part = np.arange(len(student)) % _PARTS
    mapped = np.empty_like(teacher)
    for number in np.unique(part):
        others = part != number if (part != number).any() else part == number
        weight, bias = cosine_map(student[others], teacher[others], _PENALTY)
        mapped[part == number] = student[part == number] @ weight.T + bias
    return mapped


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
        rows = evenly_spread(len(corpus), NUM_SENTENCES)
        teacher = store.embeddings[rows].astype(np.float32)
        ranking = rank_layers(student, corpus.take(rows), teacher, num_layers, runtime, max_length=max_length)
        facts: dict[str, Any] = {"num_sentences": len(rows), "ranking": [asdict(one) for one in ranking]}
        write_manifest(target, FORMAT_VERSION, {**made_from, **facts})

    existed = build_once(folder, FORMAT_VERSION, build)
    manifest = read_manifest(folder, FORMAT_VERSION)
    try:
        ranking = [RankedLayers(**{**one, "layers": tuple(one["layers"])}) for one in manifest["ranking"]]
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
    rows = [(named(one.layers), f"{one.shared:.2f} %", f"{one.shared_mapped:.2f} %") for one in ranking[:_SHOWN]]
    return console.table(("layers", "ten nearest shared", "after a linear map"), rows, align="lrr")
