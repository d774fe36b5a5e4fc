"""`onnx/` in a student's folder: graphs that other programs read, each compared with torch before it is written.

onnx/model.onnx              fp32, where sentence-transformers, text-embeddings-inference and fastembed look for it
onnx/model_quantized.onnx    8-bit integers, where transformers.js looks for it
"""

from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import Any

import numpy as np

from distilcse_cli import console
from distilcse_cli.config import EncodeSettings
from distilcse_cli.data.tokens import TokenRows, tokenize
from distilcse_cli.errors import DataError, ModelError, UsageError, VerdictError
from distilcse_cli.files import atomic_path
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.runtime import choose_runtime
from distilcse_cli.serving.onnx_graph import OUTPUTS, float_graph, inputs_of, runner
from distilcse_cli.serving.onnx_int8 import int8_graph
from distilcse_cli.serving.settings import MIN_COSINE, OnnxSettings
from distilcse_cli.teacher.neighbours import unit_rows

FLOAT, INT8 = "onnx/model.onnx", "onnx/model_quantized.onnx"
NUM_CHECKED = 64
_MOST_TOKENS = 256
_BATCH = 8
_TOLERANCE = 1e-4
"""Largest difference of a number in rows of length 1."""


@dataclass(frozen=True)
class Checked:
    """Sentences as token rows, and torch's embedding of each in fp32."""

    rows: TokenRows
    pad_id: int
    unit: np.ndarray
    """(N, D), each of length 1."""

    def compare(self, graph: Any) -> tuple[float, np.ndarray]:
        """Embed by a graph, in batches of uneven length.

        Returns:
            The largest difference of a number, and the (N,) cosine to torch's embedding of each sentence.
        """
        run, embedded = runner(graph), []
        for first in range(0, len(self.rows), _BATCH):
            numbers = np.arange(first, min(first + _BATCH, len(self.rows)))
            ids, mask = self.rows.pad(numbers, self.pad_id)
            embedded.append(run(ids.numpy(), mask.numpy()))
        unit = unit_rows(np.concatenate(embedded))
        return float(np.abs(unit - self.unit).max()), (unit * self.unit).sum(axis=1)


def embed_by_torch(encoder: SentenceEncoder, texts: list[str]) -> Checked:
    """What graphs of an encoder are compared with: at most 256 tokens of each text, the encoder's prompt before it."""
    max_length = min(encoder.max_length, _MOST_TOKENS)
    rows = tokenize(texts, encoder.tokenizer, max_length, encoder.prompts.used)
    embedder = Embedder(encoder, choose_runtime("cpu", "float32"), EncodeSettings())
    return Checked(rows, encoder.pad_id, unit_rows(embedder.rows(rows)))


def require_new_graphs(folder: Path, *, overwrite: bool) -> None:
    """Check that graphs can be written into a student's folder.

    Raises:
        UsageError: it is no local folder.
        DataError: it has graphs already.
    """
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is no folder here: graphs are written into the student's own",
            hint="copy the model's folder, and name the copy",
        )
    there = [name for name in (FLOAT, INT8) if (folder / name).exists()]
    if there and not overwrite:
        raise DataError(f"{folder} has {' and '.join(there)} already", hint="--overwrite replaces what is there")


def export_onnx(student: ModelRef, texts: list[str], settings: OnnxSettings) -> dict[str, Any]:
    """Write the graphs of a student into its folder.

    Args:
        student: a local folder.
        texts: sentences to compare graph and torch on.
        settings: which graphs, and how close the one of integers must be.

    Returns:
        Files, sizes and measured differences, for `--json`.

    Raises:
        ModelError: the student cannot be exported, or the graph's embeddings are not torch's. Nothing is written.
        VerdictError: a sentence's cosine is lower than `settings.min_cosine`. Nothing is written.
        DataError: the folder cannot be written.
    """
    encoder = student.load()
    if encoder.prompts.used:
        console.log(f"the graph takes tokens: whoever uses it puts {encoder.prompts.used!r} before a sentence")
    graphs, report = graphs_of(encoder, embed_by_torch(encoder, texts), settings)
    _write(student.locate(), graphs)
    if encoder.lacks_pooler:
        console.warn(
            'sentence-transformers 5 with backend="onnx" fails on "model_args" in sentence_bert_config.json,'
            " which keeps transformers from warning of a pooler: take it out for that; the vectors stay the same"
        )
    return {"out": student.ref, **report}


def graphs_of(
    encoder: SentenceEncoder, checked: Checked, settings: OnnxSettings
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make the graphs of an encoder and compare them with torch.

    Returns:
        The graphs by the names of their files, the one of integers last; and what `export_onnx` reports.

    Raises:
        ModelError: the encoder cannot be exported, or the graph's embeddings are not torch's.
        VerdictError: a sentence's cosine is lower than `settings.min_cosine`.
    """
    graph = float_graph(encoder)
    difference, _ = checked.compare(graph)
    if not difference <= _TOLERANCE:  # NaN is not
        kind = encoder.backbone.config.model_type
        raise ModelError(
            f"the graph of {encoder.source}, a {kind}, differs from torch by {difference:.1e}, over {_TOLERANCE:.0e}:"
            " nothing is written",
            hint="export another architecture, such as a BERT",
        )
    graphs = {FLOAT: graph}
    report: dict[str, Any] = {
        "opset": graph.opset_import[0].version,
        "ir_version": graph.ir_version,
        "inputs": list(inputs_of(encoder)),
        "outputs": list(OUTPUTS),
        "width": encoder.embedding_dim,
        "pooling": encoder.pooling,
        "normalize": encoder.normalize,
        "num_checked": len(checked.rows),
        "float32": {"file": FLOAT, "num_bytes": graph.ByteSize(), "max_difference": difference},
        "int8": None,
    }
    if settings.int8:
        least = MIN_COSINE if settings.min_cosine is None else settings.min_cosine
        graphs[INT8], report["int8"] = _checked_int8(graph, checked, least)
    return graphs, report


def _checked_int8(graph: Any, checked: Checked, min_cosine: float) -> tuple[Any, dict[str, Any]]:
    """The graph of 8-bit integers, and what a report says of it."""
    quantized = int8_graph(graph)
    _, cosines = checked.compare(quantized)
    least, mean = float(cosines.min()), float(cosines.mean())
    if not least >= min_cosine:
        raise VerdictError(
            f"with 8-bit integers the least cosine to torch's embeddings is {floor(1e4 * least) / 1e4:.4f}"
            f" (mean {mean:.4f}), under --min-cosine {min_cosine:g}: nothing is written",
            hint=f"leave --int8 out, or allow it with --min-cosine {floor(100 * least) / 100:g}",
        )
    return quantized, {
        "file": INT8,
        "num_bytes": quantized.ByteSize(),
        "least_cosine": least,
        "mean_cosine": mean,
    }


def _write(folder: Path, files: dict[str, Any]) -> None:
    for name, graph in files.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(graph.SerializeToString())
    stale = folder / INT8
    if INT8 not in files and stale.exists():
        stale.unlink()
        console.log(f"{stale} of an earlier export is removed: transformers.js would take it before the new graph")
