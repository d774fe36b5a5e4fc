"""Align a student to the rows of a store: one linear map behind the student, fitted in closed form.

Its vectors can then be compared with the rows of the store's teacher: they can query the teacher's index.

Shape letters: N sentences, S width of the student, T width of the store's rows.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from distilcse_cli import console
from distilcse_cli.config import EncodeSettings
from distilcse_cli.data.every_line import lines
from distilcse_cli.data.texts import sentences_at
from distilcse_cli.errors import DataError, VerdictError
from distilcse_cli.models.card import Card, model_card, origin
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.folder import save_student, versions
from distilcse_cli.models.pooling import Dense
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.models.ridge import cosine_map, ridge_map
from distilcse_cli.models.surgery import with_dense
from distilcse_cli.runtime import Runtime
from distilcse_cli.serving.settings import AlignSettings
from distilcse_cli.teacher.neighbours import nearest, shared
from distilcse_cli.teacher.space import space_of_store
from distilcse_cli.teacher.store import EmbeddingStore

_NEIGHBOURS = 10
_LEAST_HELD_OUT = 20


@dataclass(frozen=True)
class Fit:
    """How well vectors of a student can be compared with rows of its teacher, on N held-out sentences."""

    mean_cosine: float
    """Between the two vectors of a sentence."""
    neighbor_overlap: float
    """Share x 100 of the ten nearest other rows of the teacher that a student's and the teacher's queries both find."""

    def is_better_than(self, other: "Fit") -> bool:
        """Whether more neighbours are shared, and cosines are no lower."""
        return self.neighbor_overlap > other.neighbor_overlap and self.mean_cosine >= other.mean_cosine

    def __str__(self) -> str:
        return f"mean cosine {self.mean_cosine:.4f}, ten nearest shared {self.neighbor_overlap:.2f} %"


@dataclass(frozen=True, kw_only=True)
class AlignReport:
    """An aligned student."""

    folder: Path
    num_sentences: int
    num_held_out: int
    before: Fit | None
    """Of the student as it was; None where the widths differ, since then there is nothing to compare."""
    after: Fit
    space: dict[str, str]
    """The store's, and now the student's."""

    def __fspath__(self) -> str:
        return str(self.folder)

    def as_dict(self) -> dict[str, Any]:
        """For `--json` and `distilcse.json`."""
        return asdict(self) | {"folder": str(self.folder)}

    def __str__(self) -> str:
        before = "" if self.before is None else f" (before: {self.before})"
        return f"{self.num_held_out:,} held-out sentences: {self.after}{before}"


def align(
    reference: ModelRef, store: EmbeddingStore, out: Path, settings: AlignSettings, runtime: Runtime
) -> AlignReport:
    """Fit a map from a student's vectors to a store's rows, and save the student with it in `out` if it helps.

    Args:
        reference: the student.
        store: rows of the teacher, for sentences of the user's own domain.
        out: must not exist, or be empty.
        settings: how many sentences.
        runtime: device and number format.

    Raises:
        DataError: the store has too few rows, or `out` cannot be written.
        VerdictError: the student is no better with the map. Nothing is written.
    """
    fitted, held_out = _split(store, settings)
    encoder = reference.load()
    console.log(f"fitting on {len(fitted):,} sentences of {store.folder}, {len(held_out):,} others decide")
    chosen = np.sort(np.concatenate([fitted, held_out]))
    # a map comes before the scaling to length 1
    embedder = Embedder(encoder, runtime, EncodeSettings(normalize=False))
    vectors, rows = embedder.sentences(_sentences(store, chosen)), store.embeddings[chosen].astype(np.float32)
    fit, judge = np.searchsorted(chosen, fitted), np.searchsorted(chosen, held_out)
    # rows of length 1 say nothing about the length of the vectors before the scaling
    fitting = cosine_map if store.manifest["normalized"] else ridge_map
    weight, bias = fitting(vectors[fit], rows[fit])
    before = _measure(vectors[judge], rows[judge]) if vectors.shape == rows.shape else None
    after = _measure(vectors[judge] @ weight.T + bias, rows[judge])
    if before is not None and not after.is_better_than(before):
        raise VerdictError(
            f"{reference.ref} is no better aligned to {store.folder}: {after}; as it is: {before}",
            hint="nothing is written; use the student as it is, or try more --sentences",
        )
    report = AlignReport(
        folder=out,
        num_sentences=len(fitted),
        num_held_out=len(held_out),
        before=before,
        after=after,
        space=space_of_store(store.manifest).as_dict(),
    )
    aligned = with_map(encoder, weight, bias, normalize=store.manifest["normalized"])
    facts = _facts(reference, store, settings, report)
    save_student(aligned, out, card=_card(aligned, reference, store, report), settings=facts)
    return report


def with_map(encoder: SentenceEncoder, weight: np.ndarray, bias: np.ndarray, *, normalize: bool) -> SentenceEncoder:
    """An encoder with the weights of `encoder`, whose vectors go through one more linear map.

    Two maps without an activation between them are one: a last dense layer of that kind takes the map in.

    Args:
        encoder: the student.
        weight: (T, S).
        bias: (T,).
        normalize: whether its embeddings are scaled to length 1.
    """
    dense = list(encoder.dense or ())
    weight, bias = weight.astype(np.float64), bias.astype(np.float64)
    if dense and dense[-1].activation_name == "Identity":
        last = dense.pop().linear
        if last.bias is not None:
            bias = bias + weight @ last.bias.detach().cpu().double().numpy()
        weight = weight @ last.weight.detach().cpu().double().numpy()
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight))
        linear.bias.copy_(torch.from_numpy(bias))
    return with_dense(encoder, [*dense, Dense(linear, "Identity")], normalize=normalize)


def _split(store: EmbeddingStore, settings: AlignSettings) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the rows to fit on, and of those that judge."""
    num_held_out = min(settings.held_out, len(store) - settings.sentences)
    if num_held_out < _LEAST_HELD_OUT:
        needed = settings.sentences + _LEAST_HELD_OUT
        raise DataError(
            f"{store.folder} has {len(store):,} rows, but {needed:,} are needed to fit on {settings.sentences:,}"
            f" and judge by {_LEAST_HELD_OUT} others",
            hint="extract more sentences, or lower --sentences",
        )
    order = np.random.default_rng(settings.seed).permutation(len(store))
    return order[: settings.sentences], order[settings.sentences : settings.sentences + num_held_out]


def _sentences(store: EmbeddingStore, rows: np.ndarray) -> list[str]:
    """The sentences of these rows."""
    try:
        return sentences_at(lines(store.sentences_path), rows)
    except IndexError as error:
        message = f"{store.sentences_path} has fewer lines than its store rows"
        raise DataError(message, hint="extract it again") from error


def _measure(vectors: np.ndarray, rows: np.ndarray) -> Fit:
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(rows, axis=1)
    own = np.arange(len(rows))
    found, right = (nearest(queries, rows, _NEIGHBOURS, leave_out=own) for queries in (vectors, rows))
    cosines = (vectors * rows).sum(axis=1) / np.maximum(lengths, 1e-12)
    return Fit(mean_cosine=float(cosines.mean()), neighbor_overlap=100 * shared(found, right))


def _facts(reference: ModelRef, store: EmbeddingStore, settings: AlignSettings, report: AlignReport) -> dict[str, Any]:
    return {
        "stage": "align",
        "versions": versions(),
        "student": {"reference": reference.ref},
        "store": {"folder": str(store.folder), "corpus_fingerprint": store.manifest.get("corpus_fingerprint")},
        "settings": asdict(settings),
        "result": report.as_dict(),
    }


def _card(encoder: SentenceEncoder, reference: ModelRef, store: EmbeddingStore, report: AlignReport) -> str:
    base = origin(reference)
    rows = [
        ("student", f"{encoder.num_layers} layers, {encoder.num_parameters:,} parameters"),
        ("pooling", f"{encoder.pooling}{', normalized' if encoder.normalize else ''}"),
        ("embedding width", str(encoder.embedding_dim)),
        ("space of the vectors", f"that of {report.space['name']}"),
        ("fitted on", f"{report.num_sentences:,} sentences"),
        *([("before", str(report.before))] if report.before else []),
        (f"after, on {report.num_held_out:,} held-out sentences", str(report.after)),
        ("fingerprint of the data", str(store.manifest.get("corpus_fingerprint"))),
    ]
    card = Card(
        title=f"{Path(reference.ref).name}, aligned to {report.space['name']}",
        made="by `distilcse align`, which put one linear map behind\n"
        "a student. Now its vectors can be compared with its teacher's.",
        base=base,
        rows=rows,
        datasets=base.datasets,
        is_distilled=True,
    )
    return model_card(encoder, card, report.folder)
