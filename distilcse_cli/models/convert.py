"""Make a file of weights into a model folder that every program loads, or a model folder into a smaller one."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.corpus import open_corpus, prepare_corpus
from distilcse_cli.errors import UsageError
from distilcse_cli.files import sha256_file
from distilcse_cli.models.backbone import num_embeddings
from distilcse_cli.models.card import Card, model_card, origin
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.folder import save_student, versions
from distilcse_cli.models.reference import ModelRef, find_weights
from distilcse_cli.models.vocabulary import SmallVocabulary, cut_to_corpus


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What was made of a file of weights or a folder."""

    folder: Path
    source: str
    """The reference as typed."""
    sha256: str | None
    """Of the file; None for a folder."""
    architecture: str
    num_layers: int
    embedding_dim: int
    num_parameters: int
    pooling: str
    max_length: int
    vocab_size: int
    save_dtype: str

    def __fspath__(self) -> str:
        return str(self.folder)

    def as_dict(self) -> dict[str, Any]:
        """For `--json` and `distilcse.json`."""
        return dataclasses.asdict(self) | {"folder": str(self.folder)}


def convert(
    model: ModelRef,
    out: Path,
    *,
    max_length: int | None = None,
    corpus: Sequence[str] = (),
    vocab_size: int | None = None,
    save_dtype: str = "float32",
) -> Conversion:
    """Write the model folder of a file of weights, or of a folder a smaller one.

    Args:
        model: the file, and what it lacks; or a model folder, if `vocab_size` or `save_dtype` makes it smaller.
        out: must not exist, or be empty.
        max_length: most tokens of a sentence; None takes the model's own limit.
        corpus: text files or hub data sets that choose the vocabulary.
        vocab_size: entries of the vocabulary to keep, as for `vocabulary.choose_entries`; None keeps all.
        save_dtype: number format of the weights on disk, as for `save_student`.

    Raises:
        UsageError: `model` is no file of weights and would stay as it is; an impossible `vocab_size`.
        DataError: `out` has something in it, or cannot be written; the corpus cannot be read.
        ModelError: the file, the base or the tokenizer is unfit.
    """
    file = find_weights(model.ref, model.revision)
    if file is None and vocab_size is None and save_dtype == "float32":
        raise UsageError(f"{model.ref} is no file of weights", hint="a model folder or hub model needs no conversion")
    encoder = replace(model, path=file).load(max_length=max_length)
    cut = None
    if vocab_size is not None:
        sentences = open_corpus(prepare_corpus(tuple(corpus), CorpusSettings()).folder)
        cut = cut_to_corpus(encoder, sentences, vocab_size, max_length=encoder.max_length)
    report = Conversion(
        folder=out,
        source=model.ref,
        sha256=sha256_file(file) if file else None,
        architecture=encoder.backbone.config.model_type,
        num_layers=encoder.num_layers,
        embedding_dim=encoder.embedding_dim,
        num_parameters=encoder.num_parameters,
        pooling=encoder.pooling,
        max_length=encoder.max_length,
        vocab_size=num_embeddings(encoder.backbone),
        save_dtype=save_dtype,
    )
    card = _card(encoder, report, model, cut, name=file.name if file else Path(model.ref).name)
    settings = _settings(report, model) | ({"vocabulary": cut.as_dict()} if cut else {})
    save_student(encoder, out, card=card, settings=settings, dtype=save_dtype)
    return report


def _settings(report: Conversion, model: ModelRef) -> dict[str, Any]:
    return {
        "stage": "convert",
        "versions": versions(),
        "base": model.base,
        "tokenizer": model.tokenizer,
        "result": report.as_dict(),
    }


def _card(
    encoder: SentenceEncoder, report: Conversion, model: ModelRef, cut: SmallVocabulary | None, *, name: str
) -> str:
    made_of = "a model folder" if report.sha256 is None else f"the file of weights with sha256 `{report.sha256}`"
    base, smaller = origin(model), f"\n\nVocabulary: {cut}." if cut else ""
    rows = [
        ("model", f"{report.architecture}, {report.num_layers} layers, {report.num_parameters:,} parameters"),
        ("pooling", f"{report.pooling}{', normalized' if encoder.normalize else ''}"),
        ("embedding width", str(report.embedding_dim)),
        ("most tokens", str(report.max_length)),
        ("number format on disk", report.save_dtype),
    ]
    card = Card(
        title=name,
        made=f"from {made_of}, with `distilcse convert`. See its author for\nits training data.{smaller}",
        base=base,
        rows=rows,
        datasets=base.datasets,
    )
    return model_card(encoder, card, report.folder)
