"""What tells one encoder from another: a hash of all that its embeddings depend on."""

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from distilcse_cli.models.encoder import SentenceEncoder

_RUN_ONLY_CONFIG = frozenset(
    {
        *("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"),
        *("output_hidden_states", "output_attentions", "use_cache"),
    }
)
"""Config fields that do not change what the weights compute."""


def fingerprint(encoder: "SentenceEncoder", tensors: Mapping[str, Tensor]) -> str:
    """Hex sha256 of configuration, pooling, activations, prompt and `tensors`, which are all weights by name."""
    config = encoder.backbone.config
    fields = {key: value for key, value in config.to_diff_dict().items() if key not in _RUN_ONLY_CONFIG}
    activations = [layer.activation_name for layer in encoder.dense or ()]
    essentials = [config.model_type, fields, encoder.pooling, activations]
    if encoder.prompts.used:
        essentials.append(encoder.prompts.used)
    digest = hashlib.sha256(json.dumps(essentials, sort_keys=True, default=str).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
