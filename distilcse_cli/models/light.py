"""A BERT without transformers, for a process that only embeds.

Importing transformers' BERT takes longer than embedding a few thousand sentences. These modules have the names
and the arithmetic of transformers' own, so weights fit and vectors are equal. They hold what embedding needs:
no training, no saving. Whatever is unusual about a folder is left to transformers, which also words the errors.

Shape letters: B sentences, T tokens, H hidden.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from distilcse_cli.models.sizes import safetensors_header

_CONFIG = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}
"""The numbers that shape a BERT, with transformers' defaults."""
_PLAIN = {
    "model_type": ("bert",),
    "hidden_act": (None, "gelu"),
    "position_embedding_type": (None, "absolute"),
    "is_decoder": (None, False),
    "add_cross_attention": (None, False),
    "is_encoder_decoder": (None, False),
    "auto_map": (None,),
    "quantization_config": (None,),
}
"""Fields of config.json, and the values that mean BERT as we compute it; None: not there."""
_FLOATS = ("F32", "F16", "BF16")


def light_backbone(folder: Path) -> "LightBert | None":
    """Load the BERT of a folder in fp32, eval mode; None if anything about it is unusual."""
    config = _plain_config(folder)
    if config is None or (folder / "adapter_config.json").exists():
        return None
    weights = folder / "model.safetensors"
    try:
        header = safetensors_header(weights)
    except (OSError, ValueError, RecursionError):
        return None
    if len(header) < config.num_hidden_layers:  # a configuration may claim millions of layers
        return None
    model = LightBert(config)
    named = _names_in_file(header, {name: list(tensor.shape) for name, tensor in model.state_dict().items()})
    if named is None:
        return None
    from safetensors import safe_open

    try:
        with safe_open(weights, framework="pt") as file:
            tensors = {name: file.get_tensor(in_file).float() for name, in_file in named.items()}
    except Exception:  # cut short or damaged; safetensors raises nothing narrower
        return None
    if not all(tensor.sum().isfinite() for tensor in tensors.values()):
        return None
    if "pooler.dense.weight" not in tensors:
        model.pooler = nn.Identity()
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def _plain_config(folder: Path) -> SimpleNamespace | None:
    settings = read_object(folder / "config.json")
    if settings is None or any(settings.get(key) not in values for key, values in _PLAIN.items()):
        return None
    numbers = {key: settings.get(key, default) for key, default in _CONFIG.items()}
    if not all(isinstance(value, int | float) and math.isfinite(value) and value > 0 for value in numbers.values()):
        return None
    whole = (value for key, value in numbers.items() if key != "layer_norm_eps")
    if not all(type(value) is int for value in whole) or numbers["hidden_size"] % numbers["num_attention_heads"]:
        return None
    return SimpleNamespace(**numbers, model_type="bert", hidden_act="gelu", is_decoder=False)


def _names_in_file(header: Mapping[str, Any], shapes: Mapping[str, list[int]]) -> dict[str, str] | None:
    """Our names of the weights to those in the file; None unless it holds exactly the BERT of these shapes."""
    own = {name.removeprefix("bert."): name for name in header if name != "__metadata__"}
    own.pop("embeddings.position_ids", None)
    expected = {name for name in shapes if not name.startswith("pooler.")}
    extra = set(own) - expected
    if not expected <= set(own) or not (extra == set() or extra == set(shapes) - expected):
        return None
    fits = all(header[own[name]]["dtype"] in _FLOATS and header[own[name]]["shape"] == shapes[name] for name in own)
    return own if fits else None


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None if there is none that can be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class _Embedding(nn.Embedding):
    """Without weights until they are loaded. Even on the meta device, random ones would import torch's compiler."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__(rows, width, _weight=torch.empty(rows, width, device="meta"))


class _Linear(nn.Linear):
    def __init__(self, width: int, out: int) -> None:
        super().__init__(width, out, device="meta")

    def reset_parameters(self) -> None:
        """Leave it without weights."""


class _LayerNorm(nn.LayerNorm):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__(width, eps=eps, device="meta")

    def reset_parameters(self) -> None:
        """Leave it without weights."""


class LightBert(nn.Module):
    """BERT's encoder with transformers' names; `forward` gives what a `SentenceEncoder` asks for."""

    _supports_sdpa = True

    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.encoder: Any = nn.ModuleDict()
        self.encoder["layer"] = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        self.pooler: nn.Module = nn.ModuleDict({"dense": _Linear(config.hidden_size, config.hidden_size)})

    def forward(self, input_ids: Tensor, attention_mask: Tensor, output_hidden_states: bool = False) -> SimpleNamespace:
        """(B, T) ids and mask to `last_hidden_state` (B, T, H), and to the states before and after each layer."""
        states = self.embeddings(input_ids)
        mask = self.padding_mask(attention_mask)
        hidden = [states]
        for layer in self.encoder["layer"]:
            states = layer(states, mask)
            hidden.append(states)
        return SimpleNamespace(last_hidden_state=states, hidden_states=tuple(hidden) if output_hidden_states else None)

    def padding_mask(self, attention_mask: Tensor) -> Tensor | None:
        """(B, 1, T, T) which keys a token may attend to; None if nothing is padded."""
        B, T = attention_mask.shape
        return None if attention_mask.all() else attention_mask.bool()[:, None, None, :].expand(B, 1, T, T)

    def get_input_embeddings(self) -> nn.Embedding:
        """The table of token embeddings."""
        return self.embeddings.word_embeddings


class _Embeddings(nn.Module):
    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.word_embeddings = _Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = _Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = _Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = _LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, input_ids: Tensor) -> Tensor:
        types = torch.zeros_like(input_ids)
        embeddings = self.word_embeddings(input_ids) + self.token_type_embeddings(types)
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        return self.LayerNorm(embeddings + self.position_embeddings(positions))


class _Layer(nn.Module):
    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.attention = _Attention(config)
        self.intermediate = nn.ModuleDict({"dense": _Linear(config.hidden_size, config.intermediate_size)})
        self.output = _Output(config.intermediate_size, config)

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        return self.feed_forward_chunk(self.attention(states, mask))

    def feed_forward_chunk(self, attended: Tensor) -> Tensor:
        return self.output(functional.gelu(self.intermediate["dense"](attended)), attended)


class _Attention(nn.Module):
    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.self = _SelfAttention(config)
        self.output = _Output(config.hidden_size, config)

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        return self.output(self.self(states, mask), states)


class _SelfAttention(nn.Module):
    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.num_attention_heads = config.num_attention_heads
        self.query = _Linear(config.hidden_size, config.hidden_size)
        self.key = _Linear(config.hidden_size, config.hidden_size)
        self.value = _Linear(config.hidden_size, config.hidden_size)

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        def heads(linear: nn.Module) -> Tensor:
            return linear(states).unflatten(-1, (self.num_attention_heads, -1)).transpose(1, 2)

        attended = functional.scaled_dot_product_attention(
            heads(self.query), heads(self.key), heads(self.value), attn_mask=mask
        )
        return attended.transpose(1, 2).flatten(2)


class _Output(nn.Module):
    def __init__(self, width: int, config: SimpleNamespace) -> None:
        super().__init__()
        self.dense = _Linear(width, config.hidden_size)
        self.LayerNorm = _LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, states: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(states) + residual)
