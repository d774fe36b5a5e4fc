"""A student as an ONNX graph: token ids in, token vectors and the finished embedding out.

Programs that pool themselves (transformers.js, fastembed) read `last_hidden_state`, which comes first; the others
(text-embeddings-inference) take `sentence_embedding` as it is. The graph comes from torch's tracing exporter: its
operators are old ones that every runtime has, it takes a fifth of the time of the newer exporter, and onnxruntime
computes 15 % faster with it. What tracing could get wrong, the check after it finds.
"""

import inspect
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from distilcse_cli.errors import ModelError, UsageError
from distilcse_cli.models.backbone import first_line
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.pooling import needs_hidden_states, pool

OPSET = 17
"""The oldest that has layer normalization as one operator; onnxruntime reads it since 1.12."""
OUTPUTS = ("last_hidden_state", "sentence_embedding")
_LARGEST = (1 << 31) - (1 << 24)
"""Bytes of weights that fit in a file of protobuf, which ends at 2 GiB, beside the graph itself."""
INSTALL = 'pip install "distilcse[onnx]"'


class _Graph(nn.Module):
    """What the graph computes."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor, *types: Tensor) -> tuple[Tensor, Tensor]:
        encoder, hidden = self.encoder, needs_hidden_states(self.encoder.pooling)
        named = {"token_type_ids": types[0]} if types else {}
        output = encoder.backbone(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=hidden, **named
        )
        last, states = output.last_hidden_state, output.hidden_states if hidden else None
        rows = encoder.apply_dense(pool(encoder.pooling, last, attention_mask, states))
        return last, functional.normalize(rows, dim=-1) if encoder.normalize else rows


def require_onnx() -> None:
    """Check that the packages are there, before a model is loaded.

    Raises:
        UsageError: one is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UsageError(f"--to onnx needs {error.name}, which is not installed", hint=INSTALL) from error


def inputs_of(encoder: SentenceEncoder) -> tuple[str, ...]:
    """Names of the graph's inputs; `token_type_ids` only where the model tells two kinds of token apart."""
    has_types = getattr(encoder.backbone.config, "type_vocab_size", 0) > 1
    reads_types = "token_type_ids" in inspect.signature(encoder.backbone.forward).parameters
    return ("input_ids", "attention_mask", *(("token_type_ids",) if has_types and reads_types else ()))


def float_graph(encoder: SentenceEncoder) -> Any:
    """Make the graph of an encoder in fp32, as an `onnx.ModelProto`. Its attention is left `eager`.

    Both axes of the inputs, batch and sequence, take any size.

    Raises:
        ModelError: padding changes its rows, it is too large for one file, or torch cannot export it.
    """
    import onnx

    kind, num_bytes = encoder.backbone.config.model_type, 4 * encoder.num_parameters
    if encoder.reads_padding:
        raise ModelError(
            f"{encoder.source}: a {kind} reads the padding of its batches, which other programs add as they like",
            hint="export another architecture, such as a BERT",
        )
    if num_bytes > _LARGEST:
        raise ModelError(
            f"{encoder.source} has {num_bytes / 1e9:.1f} GB of weights in float32, and a file of ONNX ends at 2.1 GB",
            hint="export a smaller student",
        )
    encoder.set_attention("eager")
    names = inputs_of(encoder)
    ids = torch.zeros(2, 8, dtype=torch.int64)
    mask = (torch.arange(8) < torch.tensor([[8], [5]])).long()
    axes = {name: {0: "batch", 1: "sequence"} for name in (*names, OUTPUTS[0])} | {OUTPUTS[1]: {0: "batch"}}
    with silence(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        try:
            torch.onnx.export(
                _Graph(encoder).eval(),
                (ids, mask, ids)[: len(names)],
                str(file),
                input_names=list(names),
                output_names=list(OUTPUTS),
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
        except Exception as error:  # whatever torch has no operator for
            raise ModelError(f"torch cannot export a {kind} to ONNX: {first_line(error)}") from error
        model = onnx.load(str(file))
    width = model.graph.output[1].type.tensor_type.shape.dim[1]
    width.Clear()  # torch makes up a name for it
    width.dim_value = encoder.embedding_dim
    about = {"fingerprint": encoder.fingerprint, "pooling": encoder.pooling, "normalize": str(encoder.normalize)}
    onnx.helper.set_model_props(model, about)
    return model


def runner(model: Any, num_threads: int = 1) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Load a graph, given as an `onnx.ModelProto` or the path of its file, in onnxruntime.

    Returns:
        A function of (B, T) int64 ids and mask that gives (B, D) float32 sentence embeddings.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = num_threads, 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString() if hasattr(model, "SerializeToString") else str(model),
        options,
        providers=["CPUExecutionProvider"],
    )
    names = [one.name for one in session.get_inputs()]

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        given = dict(zip(names, (ids, mask, np.zeros_like(ids)), strict=False))
        return session.run([OUTPUTS[1]], given)[0]

    return run


@contextmanager
def silence() -> Iterator[None]:
    """Keep torch's and onnxruntime's advice to their developers off the screen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
