"""What each stage takes on the disk and in memory: all formulas, each beside the name of the code that it follows.

Bytes throughout. Shape letters: N sentences, P weights of a model, B sentences of a step, T tokens, H hidden width,
L layers, D teacher width, K rows of the bank.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from distilcse_cli.evaluation.footprint import bytes_on_disk
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.runtime import Runtime
from distilcse_cli.training.checkpoint import NUM_KEPT
from distilcse_cli.training.settings import CONTRASTIVE_LOSSES, DistillSettings
from distilcse_cli.training.state import STEPS_BETWEEN_TRIMS

_OFFSET = _ROW_NUMBER = 8
_WEIGHT = 4
_METRICS = 240
"""Of a step in `metrics.jsonl`."""
_PROGRAM = 650e6
"""Of a process that encodes: Python, torch, and the buffers of its batches."""
_TRAINING_PROGRAM = 900e6
"""Of a process that trains."""
_TEXT_PROGRAM = 200e6


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """The sizes of a model that costs depend on."""

    num_parameters: int
    num_layers: int
    hidden: int
    width: int
    """Of its embeddings."""
    linear: int
    """Weights that each token is multiplied with."""
    num_bytes: int
    """On the disk."""
    mean_tokens: float
    """Of a sentence, as it encodes them."""

    @property
    def flops_per_sentence(self) -> float:
        """Operations to encode a sentence: two for each weight and token, and the products of attention."""
        return self.mean_tokens * (2 * self.linear + 4 * self.num_layers * self.mean_tokens * self.hidden)


def size_of(model: SentenceEncoder, folder: Path, mean_tokens: float) -> ModelSize:
    """The sizes of a loaded model."""
    linear = [one.weight.numel() for one in model.backbone.modules() if isinstance(one, nn.Linear)]
    return ModelSize(
        num_parameters=model.num_parameters,
        num_layers=model.num_layers,
        hidden=model.backbone.config.hidden_size,
        width=model.embedding_dim,
        linear=sum(linear),
        num_bytes=bytes_on_disk(folder),
        mean_tokens=mean_tokens,
    )


# --- the disk


def text_bytes(num: int, mean_bytes: float) -> float:
    """A prepared corpus, `data.prepared.SentenceWriter`: the lines, and where each starts."""
    return num * (mean_bytes + 1 + _OFFSET)


def token_bytes(num: int, mean_tokens: float, dtype: np.dtype) -> float:
    """A token store, `data.tokens`."""
    return num * (mean_tokens * dtype.itemsize + _OFFSET)


def row_bytes(num: int, width: int) -> float:
    """Rows of float32, as `encode` writes them to .npy."""
    return num * width * _WEIGHT


def store_bytes(num: int, width: int, mean_bytes: float) -> float:
    """An embedding store, `teacher.partial`: rows, and a copy of the sentences."""
    return row_bytes(num, width) + num * (mean_bytes + 1)


def run_bytes(student: ModelSize, num_steps: int, bank: float) -> tuple[float, float]:
    """What a run writes, `training.run_folder`: at its fullest, and what is left at the end.

    A checkpoint holds the weights and two moments of each; the oldest is removed once a new one is whole. Beside them
    lie the weights of the best student. The finished student and the last one may be two folders.
    """
    weights = student.num_parameters * _WEIGHT
    metrics = num_steps * _METRICS
    return (NUM_KEPT + 1) * (3 * weights + bank) + 2 * weights + metrics, 2 * weights + metrics


def bank_bytes(num_rows: int, width: int, settings: DistillSettings, runtime: Runtime) -> float:
    """The memory bank, `training.bank.MemoryBank`; none without a contrastive loss."""
    if settings.loss not in CONTRASTIVE_LOSSES:
        return 0.0
    return min(settings.bank_size, num_rows) * (width * _number(runtime) + _ROW_NUMBER)


# --- memory, of each process


def text_memory(num: int) -> float:
    """Preparing text: 8 bytes a sentence to know it again, and 16 while they grow (`data.cleaning.SeenHashes`)."""
    return _TEXT_PROGRAM + 16 * num


def encoding_memory(model: ModelSize, runtime: Runtime) -> float:
    """Encoding with a model: its weights, and on a CPU in bf16 a copy of its layers (`models.prepacked`)."""
    weights = model.num_parameters * _WEIGHT + (model.linear * 2 if runtime.dtype == "bfloat16" else 0)
    if runtime.device_type == "cpu":
        return _PROGRAM + weights
    # the widest layer's output, and its input, of a whole batch
    return weights + runtime.batch_tokens * model.hidden * (4 * 2 + 3 * 4)


def training_memory(student: ModelSize, batch_tokens: float, runtime: Runtime, teacher: float = 0.0) -> float:
    """Training a student: four numbers for each weight, and what the backward pass needs of a batch.

    Files that are mapped (rows, tokens) do not count: the system takes their pages back.

    The bytes a token were measured on a CPU in bf16, 1 to 3 layers of all-MiniLM: 128 H a layer, and 235 H whatever
    the layers, most of it holes between buffers of uneven batches (`training.state.give_back_memory`). A GPU keeps
    no holes.

    Args:
        student: the student.
        batch_tokens: tokens of the longest batch, padding included.
        runtime: device and number format.
        teacher: bytes of the teacher, which is loaded beside it.
    """
    state = 4 * student.num_parameters * _WEIGHT
    per_token = 128 * student.num_layers * student.hidden
    if runtime.device_type == "cpu":
        per_token += 235 * student.hidden
        return _TRAINING_PROGRAM + teacher + state + batch_tokens * per_token
    return state + batch_tokens * per_token


def bank_memory(num_rows: int, settings: DistillSettings, width: int, runtime: Runtime) -> float:
    """The bank, and its scores: while it fills up, each step's are of another size, and freed ones leave holes."""
    bank = bank_bytes(num_rows, width, settings, runtime)
    if not bank:
        return 0.0
    scores = settings.batch_size * min(settings.bank_size, num_rows) * 4
    return bank + scores * (STEPS_BETWEEN_TRIMS if runtime.device_type == "cpu" else 4)


def order_memory(num: int) -> float:
    """Lengths, numbers and the order of the sentences to train on (`training.steps`): some int64 for each."""
    return 6 * 8 * num


def _number(runtime: Runtime) -> int:
    return 2 if runtime.dtype == "bfloat16" else 4
