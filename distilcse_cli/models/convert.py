"""Make a file of weights into a model folder that every program loads."""

import dataclasses
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from distilcse_cli import __version__
from distilcse_cli.errors import UsageError
from distilcse_cli.files import sha256_file
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.folder import save_student
from distilcse_cli.models.reference import ModelRef, find_weights


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What was made of a file of weights."""

    folder: Path
    source: str
    """The reference as typed."""
    sha256: str
    """Of the file."""
    architecture: str
    num_layers: int
    embedding_dim: int
    num_parameters: int
    pooling: str
    max_length: int

    def as_dict(self) -> dict[str, Any]:
        """For `--json` and `distilcse.json`."""
        return dataclasses.asdict(self) | {"folder": str(self.folder)}


def convert(model: ModelRef, out: Path, *, max_length: int | None = None) -> Conversion:
    """Write the model folder of a file of weights.

    Args:
        model: the file, and what it lacks.
        out: must not exist, or be empty.
        max_length: most tokens of a sentence; None takes the model's own limit.

    Raises:
        UsageError: `model` is no file of weights.
        DataError: `out` has something in it, or cannot be written.
        ModelError: the file, the base or the tokenizer is unfit.
    """
    file = find_weights(model.ref, model.revision)
    if file is None:
        raise UsageError(f"{model.ref} is no file of weights", hint="a model folder or hub model needs no conversion")
    encoder = replace(model, path=file).load(max_length=max_length)
    report = Conversion(
        folder=out,
        source=model.ref,
        sha256=sha256_file(file),
        architecture=encoder.backbone.config.model_type,
        num_layers=encoder.num_layers,
        embedding_dim=encoder.embedding_dim,
        num_parameters=encoder.num_parameters,
        pooling=encoder.pooling,
        max_length=encoder.max_length,
    )
    save_student(encoder, out, card=_card(file.name, encoder, report), settings=_settings(report, model))
    return report


def _settings(report: Conversion, model: ModelRef) -> dict[str, Any]:
    import transformers

    return {
        "stage": "convert",
        "versions": {"distilcse": __version__, "torch": torch.__version__, "transformers": transformers.__version__},
        "base": model.base,
        "tokenizer": model.tokenizer,
        "result": report.as_dict(),
    }


def _card(name: str, encoder: SentenceEncoder, report: Conversion) -> str:
    return f"""---
library_name: sentence-transformers
tags:
- sentence-similarity
---

# {name}

A sentence encoder: {report.architecture} of {report.num_layers} layers and {report.num_parameters / 1e6:.1f}M
parameters, embeddings of {encoder.embedding_dim} numbers, pooling `{report.pooling}`, at most {report.max_length}
tokens. Made by `distilcse convert` (version {__version__}) of the file of weights with sha256 `{report.sha256}`; see
that file's author for its training data and license.

```python
from sentence_transformers import SentenceTransformer

embeddings = SentenceTransformer("this folder").encode(["A sentence.", "Another one."])
```
"""
