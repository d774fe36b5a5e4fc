"""The sentence encoder: a transformers backbone, a pooling, and the dense layers behind it."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from distilcse_cli import console
from distilcse_cli.config import POOLINGS
from distilcse_cli.errors import ModelError, UsageError
from distilcse_cli.models.backbone import load_backbone, load_tokenizer, num_positions
from distilcse_cli.models.dense import Dense
from distilcse_cli.models.first_token import first_token, reads_first_token
from distilcse_cli.models.layout import Layout, read_layout
from distilcse_cli.models.pooling import needs_hidden_states, pool
from distilcse_cli.models.references import resolve_reference
from distilcse_cli.models.surgery import cut_layers
from distilcse_cli.models.weights_file import Parts, find_weights, load_weights

ATTENTION = ("sdpa", "eager")

_RUN_ONLY_CONFIG = frozenset(
    {
        *("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"),
        *("output_hidden_states", "output_attentions", "use_cache"),
    }
)
"""Config fields that do not change what the weights compute."""


class SentenceEncoder(nn.Module):
    """Token ids in, one vector a sentence out.

    Args:
        backbone: a transformers encoder. Its own pooler is taken off: it is computed only where
            the pooling is `cls`, as the first of `dense`.
        tokenizer: a fast tokenizer.
        pooling: one of `config.POOLINGS`.
        dense: layers behind the pooling, in their order. `cls` has its dense + tanh here.
        normalize: whether the model's folder scales embeddings to length 1. `forward` never does.
        max_length: most tokens of a sentence, special tokens included.
        source: the reference it was loaded from, for messages.
    """

    def __init__(
        self,
        backbone: Any,
        tokenizer: Any,
        *,
        pooling: str,
        dense: Iterable[Dense] = (),
        normalize: bool = False,
        max_length: int,
        source: str,
    ) -> None:
        super().__init__()
        if getattr(backbone, "pooler", None) is not None:
            backbone.pooler = None
        self.backbone: Any = backbone
        self.tokenizer = tokenizer
        self.pooling = pooling
        layers = list(dense)
        self.dense: Any = nn.Sequential(*layers) if layers else None
        self.normalize = normalize
        self.max_length = max_length
        self.source = source
        self._fingerprint: tuple[object, str] | None = None

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed sentences.

        Args:
            input_ids: (B, T) token ids, padded on the right with `pad_id`.
            attention_mask: (B, T) 1 at tokens, 0 at padding.

        Returns:
            (B, `embedding_dim`) in fp32, autocast or not: pooled, dense layers applied, not normalized.
        """
        if reads_first_token(self.backbone, self.pooling):
            return self.embed_hidden(first_token(self.backbone, input_ids, attention_mask), attention_mask, None)
        hidden = needs_hidden_states(self.pooling)
        output = self.backbone(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=hidden)
        return self.embed_hidden(output.last_hidden_state, attention_mask, output.hidden_states if hidden else None)

    def embed_hidden(self, last: Tensor, attention_mask: Tensor, hidden_states: Sequence[Tensor] | None) -> Tensor:
        """Pool what came out of the backbone, as `pooling.pool` does, and send it through the dense layers.

        Of `last` a first-token pooling needs no more than (B, 1, H).
        """
        pooled = pool(self.pooling, last, attention_mask, hidden_states)
        if self.dense is None:
            return pooled
        # the last product decides the digits that are written, and costs next to nothing
        with torch.autocast(pooled.device.type, enabled=False):
            return self.dense(pooled)

    @property
    def embedding_dim(self) -> int:
        """Width of the embeddings."""
        if self.dense is not None:
            return self.dense[-1].linear.out_features
        return self.backbone.config.hidden_size

    @property
    def pad_id(self) -> int:
        """Token id that pads a batch."""
        return self.tokenizer.pad_token_id

    @property
    def num_layers(self) -> int:
        """Transformer layers."""
        return self.backbone.config.num_hidden_layers

    @property
    def num_parameters(self) -> int:
        """Weights that an embedding depends on, counted one by one."""
        return sum(parameter.numel() for parameter in self.parameters())

    def set_attention(self, implementation: str) -> None:
        """Choose how attention is computed: `sdpa` (fused, the default) or `eager` (plain products).

        Both give the same numbers to rounding. On a CPU in bf16 the fused kernel's backward pass takes
        about twice as long; in fp32 and without gradients it is as fast or a little faster. A last layer
        of which only the first token is computed always takes the fused kernel, quick for one query. An
        architecture that has no fused attention (MPNet) stays `eager`.

        Raises:
            ValueError: neither of the two.
        """
        if implementation not in ATTENTION:
            raise ValueError(f"attention is {' or '.join(ATTENTION)}, not {implementation!r}")
        if implementation == "sdpa" and not self.backbone._supports_sdpa:
            return
        self.backbone.set_attn_implementation(implementation)

    @property
    def fingerprint(self) -> str:
        """Hex sha256 of configuration, weights, pooling and dense layers; the tokenizer is not in it.

        Computed when first asked for and again after any weight was changed in place.
        """
        tensors = dict(self.state_dict(keep_vars=True))
        state = (self.pooling, *((id(tensor), tensor._version, tensor.dtype) for tensor in tensors.values()))
        if self._fingerprint is None or self._fingerprint[0] != state:
            self._fingerprint = state, _fingerprint(self, tensors)
        return self._fingerprint[1]


def _fingerprint(encoder: SentenceEncoder, tensors: dict[str, Tensor]) -> str:
    config = encoder.backbone.config
    fields = {key: value for key, value in config.to_diff_dict().items() if key not in _RUN_ONLY_CONFIG}
    activations = [layer.activation_name for layer in encoder.dense or ()]
    essentials = [config.model_type, fields, encoder.pooling, activations]
    digest = hashlib.sha256(json.dumps(essentials, sort_keys=True, default=str).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_encoder(
    ref: str,
    *,
    pooler: str | None = None,
    revision: str | None = None,
    keep_layers: Sequence[int] | None = None,
    max_length: int | None = None,
    base: str | None = None,
    tokenizer: str | None = None,
) -> SentenceEncoder:
    """Load the encoder a reference stands for: fp32, eval mode, on the CPU.

    Args:
        ref: local folder, catalogue name, hub id, or file of weights (`.pth`, `.safetensors`).
        pooler: one of `config.POOLINGS`; None takes the folder's own, else `cls`.
        revision: branch, tag or commit of a hub model.
        keep_layers: numbers of the layers to keep, in increasing order; None keeps all.
        max_length: most tokens of a sentence; None takes the folder's own limit.
        base: for a file of weights, the model whose configuration, tokenizer and pooling it has; None
            reads the architecture from the tensors.
        tokenizer: for a file of weights, the model or folder whose tokenizer it has.

    Raises:
        UsageError: a pooling, layer or length that the model does not have; a base of a folder.
        ModelError: the model cannot be found, loaded, or pooled that way.
        NetworkError: a download failed.
    """
    if pooler is not None and pooler not in POOLINGS:
        raise UsageError(f"unknown pooling {pooler!r}", hint=f"one of {', '.join(POOLINGS)}")
    parts = _parts(ref, revision=revision, base=base, tokenizer=tokenizer)
    layout = parts.layout
    if layout.prompt:
        console.warn(f"{ref} has a default prompt, {layout.prompt!r}, which is not put before the sentences")
    if keep_layers is not None:
        cut_layers(parts.backbone, keep_layers)
    pooling, dense = _choose_pooling(ref, layout, parts.backbone, pooler or parts.pooling)
    encoder = SentenceEncoder(
        parts.backbone,
        parts.tokenizer,
        pooling=pooling,
        dense=dense,
        normalize=layout.normalize,
        max_length=_choose_max_length(ref, layout, parts.backbone, parts.tokenizer, max_length),
        source=ref,
    )
    return encoder.eval()


def _parts(ref: str, *, revision: str | None, base: str | None, tokenizer: str | None) -> Parts:
    weights = find_weights(ref, revision=revision)
    if weights is not None:
        return load_weights(ref, weights, base=base, tokenizer=tokenizer)
    if base is not None or tokenizer is not None:
        option = "--tokenizer" if base is None else "--base"
        raise UsageError(f"{option} does not go with {ref}, which is no file of weights", hint="leave it out")
    layout = read_layout(resolve_reference(ref, revision=revision))
    backbone = load_backbone(layout.backbone)
    num_embeddings = backbone.get_input_embeddings().num_embeddings
    loaded = load_tokenizer(layout.backbone, num_embeddings, lower_case=layout.lower_case)
    return Parts(backbone=backbone, tokenizer=loaded, layout=layout)


def _choose_pooling(ref: str, layout: Layout, backbone: Any, pooler: str | None) -> tuple[str, Sequence[Dense]]:
    """The pooling and its dense layers: the one asked for, else the folder's, else `cls`."""
    if pooler is None and layout.problem:
        raise ModelError(
            f"{ref} uses {layout.problem}, which is not supported", hint=f"choose --pooler {' or '.join(POOLINGS)}"
        )
    wanted = pooler or layout.pooling or "cls"
    own = layout.pooling or layout.problem
    if wanted == layout.pooling:
        return wanted, _fitting(ref, layout.dense, backbone.config.hidden_size)
    if own:
        without = " without its dense layers" if layout.dense else ""
        console.log(f"{ref}: pooling {wanted} as asked for{without}, instead of the model's own, {own}")
    if wanted != "cls":
        return wanted, ()
    linear = getattr(getattr(backbone, "pooler", None), "dense", None)
    if not isinstance(linear, nn.Linear):
        others = [name for name in POOLINGS if name != "cls"]
        raise ModelError(
            f"{ref} has no weights for the dense layer that cls pooling needs",
            hint=f"choose --pooler {' or '.join(others)}",
        )
    return wanted, (Dense(linear, "Tanh"),)


def _fitting(ref: str, dense: Sequence[Dense], width: int) -> Sequence[Dense]:
    """The dense layers, if each takes what comes out of the one before it."""
    for layer in dense:
        if layer.linear.in_features != width:
            raise ModelError(
                f"{ref} has a dense layer for {layer.linear.in_features} numbers, but gets {width}",
                hint="its folders are of different models",
            )
        width = layer.linear.out_features
    return dense


def _choose_max_length(ref: str, layout: Layout, backbone: Any, tokenizer: Any, asked: int | None) -> int:
    positions = num_positions(backbone)
    if asked is None:
        limits = (tokenizer.model_max_length, positions, layout.max_length)
        return int(min(limit for limit in limits if limit is not None))
    if positions is not None and asked > positions:
        raise UsageError(f"--max-length {asked} is more than {ref} can read", hint=f"at most {positions}")
    return asked
