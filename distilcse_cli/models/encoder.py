"""The sentence encoder: a transformers backbone, a pooling, and the dense layers after it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distilcse_cli import console
from distilcse_cli.errors import ModelError, UsageError
from distilcse_cli.models.backbone import NO_ENCODER, drop_pooler, load_backbone, num_embeddings
from distilcse_cli.models.fingerprint import fingerprint
from distilcse_cli.models.first_token import first_token, reads_first_token
from distilcse_cli.models.layout import Layout, read_layout
from distilcse_cli.models.light import LightBert, light_backbone
from distilcse_cli.models.pooling import DEFAULT, POOLINGS, Dense, needs_hidden_states, pool
from distilcse_cli.models.probe import reads_padding
from distilcse_cli.models.prompts import Prompts
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.models.static import StaticBackbone, static_encoder
from distilcse_cli.models.surgery import cut_layers
from distilcse_cli.models.tokenizer import choose_max_length, load_tokenizer
from distilcse_cli.models.weights_file import Parts, load_weights

ATTENTION = ("sdpa", "eager")


class SentenceEncoder(nn.Module):
    """Token ids in, one vector a sentence out.

    Args:
        backbone: a transformers encoder. Its own pooler is removed; with pooling `cls` it comes first in `dense`.
        tokenizer: a fast tokenizer.
        pooling: one of `config.POOLINGS`.
        dense: layers after the pooling, in their order. With `cls` the first is its dense + tanh.
        normalize: whether the model's folder scales embeddings to length 1. `forward` never does.
        max_length: most tokens of a sentence, special tokens included.
        source: the reference it was loaded from, for messages.
        prompts: the text put before every sentence, and what the model's folder says of others.
        reads_padding: whether padding changes its rows, so that a batch must have rows of one length only.
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
        prompts: Prompts | None = None,
        reads_padding: bool = False,
    ) -> None:
        super().__init__()
        drop_pooler(backbone)
        self.backbone: Any = backbone
        self.tokenizer = tokenizer
        self.pooling = pooling
        layers = list(dense)
        self.dense: Any = nn.Sequential(*layers) if layers else None
        self.normalize = normalize
        self.max_length = max_length
        self.source = source
        self.prompts = prompts or Prompts()
        self.reads_padding = reads_padding
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
            last, states = first_token(self.backbone, input_ids, attention_mask), None
        else:
            hidden = needs_hidden_states(self.pooling)
            output = self.backbone(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=hidden)
            last, states = output.last_hidden_state, output.hidden_states if hidden else None
        return self.apply_dense(pool(self.pooling, last, attention_mask, states))

    def require_trainable(self) -> None:
        """Check that rows of different lengths can share a batch, as they do in training.

        Raises:
            ModelError: padding would change them.
        """
        if self.reads_padding:
            raise ModelError(
                f"{self.source}: a {self.backbone.config.model_type} reads the padding of its batches,"
                " so it can embed but not be trained",
                hint="train another architecture, such as a BERT",
            )

    def apply_dense(self, pooled: Tensor) -> Tensor:
        """Send (B, H) pooled vectors through the dense layers, if there are any."""
        if self.dense is None:
            return pooled
        # the last product decides the digits that are written, and costs next to nothing
        with torch.autocast(pooled.device.type, enabled=False):
            return self.dense(pooled)

    @property
    def lacks_pooler(self) -> bool:
        """Whether its architecture has a pooler that this student does without: others would make up weights for it."""
        return hasattr(self.backbone, "pooler") and not POOLINGS[self.pooling].dense

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

        Both give the same numbers up to rounding. On a CPU in bf16 the fused kernel's backward pass takes
        about twice as long; in fp32 and without gradients it is as fast or a little faster. A last layer
        that computes only the first token always uses the fused kernel, which is fast for one query. An
        architecture without fused attention (MPNet) stays `eager`.

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
        """Hex sha256 of configuration, weights, pooling, dense layers and prompt, without the tokenizer.

        It is computed on first use, and again after a weight has changed in place.
        """
        tensors = dict(self.state_dict(keep_vars=True))
        state = (
            self.pooling,
            self.prompts.used,
            *((id(tensor), tensor._version, tensor.dtype) for tensor in tensors.values()),
        )
        if self._fingerprint is None or self._fingerprint[0] != state:
            self._fingerprint = state, fingerprint(self, tensors)
        return self._fingerprint[1]


def load_encoder(
    ref: str,
    *,
    path: Path | None = None,
    pooler: str | None = None,
    revision: str | None = None,
    keep_layers: Sequence[int] | None = None,
    max_length: int | None = None,
    base: str | None = None,
    tokenizer: str | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    light: bool = False,
    static: bool = False,
) -> SentenceEncoder:
    """Load an encoder; commands do it by `ModelRef.load`.

    Args:
        path: the model's folder or file of weights; None finds it.
        ref, pooler, revision, keep_layers, base, tokenizer, prompt, prompt_name, static: the fields of `ModelRef`.
        max_length: most tokens of a sentence; None takes the folder's own limit.
        light: allow an encoder that can only embed, which takes less time to import (see `models.light`).

    Raises:
        DistilCSEError: as from `ModelRef.load`.
    """
    if path is None:
        path = ModelRef(ref=ref, pooler=pooler, revision=revision).locate()
    light = light and keep_layers is None
    parts = _parts(ref, path, base=base, tokenizer=tokenizer, light=light)
    layout = parts.layout
    prompts = layout.prompts.choose(ref, prompt, prompt_name)
    if keep_layers is not None:
        cut_layers(parts.backbone, keep_layers)
    pooling, dense = _choose_pooling(ref, layout, parts.backbone, pooler or parts.pooling)
    encoder = SentenceEncoder(
        parts.backbone,
        parts.tokenizer,
        pooling=pooling,
        dense=dense,
        normalize=layout.normalize,
        max_length=choose_max_length(ref, layout, parts.backbone, parts.tokenizer, max_length),
        source=ref,
        prompts=prompts,
    ).eval()
    if not isinstance(encoder.backbone, LightBert):  # that one is known not to
        encoder.reads_padding = reads_padding(ref, encoder.backbone, encoder.tokenizer)
    return static_encoder(encoder) if static else encoder


def _parts(ref: str, path: Path, *, base: str | None, tokenizer: str | None, light: bool) -> Parts:
    if path.is_file():
        return load_weights(ref, path, base=base, tokenizer=tokenizer)
    if base is not None or tokenizer is not None:
        option = "--tokenizer" if base is None else "--base"
        raise UsageError(f"{option} does not go with {ref}, which is no file of weights", hint="leave it out")
    layout = read_layout(path)
    settings = layout.settings
    if layout.table is not None:
        table = StaticBackbone(layout.table.float()).eval()
        return Parts(
            backbone=table, tokenizer=load_tokenizer(layout.backbone, len(layout.table), static=True), layout=layout
        )
    if layout.problem and not (layout.backbone / "config.json").is_file():
        raise ModelError(
            f"{ref} uses {layout.problem}, which is not supported, and has no transformer", hint=NO_ENCODER
        )
    backbone: Any = light_backbone(layout.backbone) if light and not settings.config_args else None
    if backbone is None:
        backbone, light = load_backbone(layout.backbone, **settings.config_args), False
    loaded = load_tokenizer(
        layout.backbone,
        num_embeddings(backbone),
        lower_case=settings.lower_case,
        light=light,
        **settings.tokenizer_args,
    )
    return Parts(backbone=backbone, tokenizer=loaded, layout=layout)


def _choose_pooling(ref: str, layout: Layout, backbone: Any, pooler: str | None) -> tuple[str, Sequence[Dense]]:
    """The pooling and its dense layers: the one named, else the folder's, else the default."""
    if pooler is None and layout.problem:
        raise ModelError(
            f"{ref} uses {layout.problem}, which is not supported", hint=f"choose --pooler {' or '.join(POOLINGS)}"
        )
    wanted = pooler or layout.pooling or DEFAULT
    if layout.table is not None and wanted != layout.pooling:
        raise ModelError(
            f"{ref} is static: it has no pooling {wanted}, only {layout.pooling}", hint="leave --pooler out"
        )
    own = layout.pooling or layout.problem
    if wanted == layout.pooling:
        return wanted, _fitting(ref, layout.dense, backbone.config.hidden_size)
    if own:
        without = " without its dense layers" if layout.dense else ""
        console.log(f"{ref}: pooling {wanted} as asked for{without}, instead of the model's own, {own}")
    elif pooler is None:
        console.log(
            f"{ref}: pooling {wanted}, since its files name none; sentence-transformers takes the mean (--pooler avg)"
        )
    if not POOLINGS[wanted].dense:
        return wanted, ()
    linear = getattr(getattr(backbone, "pooler", None), "dense", None)
    if not isinstance(linear, nn.Linear):
        others = [name for name, other in POOLINGS.items() if not other.dense]
        raise ModelError(
            f"{ref} has no weights for the dense layer that {wanted} pooling needs",
            hint=f"choose --pooler {' or '.join(others)}",
        )
    return wanted, (Dense(linear, "Tanh"),)


def _fitting(ref: str, dense: Sequence[Dense], width: int) -> Sequence[Dense]:
    """The dense layers, after a check that each takes as many numbers as the one before it gives."""
    for layer in dense:
        if layer.linear.in_features != width:
            raise ModelError(
                f"{ref} has a dense layer for {layer.linear.in_features} numbers, but gets {width}",
                hint="its folders are of different models",
            )
        width = layer.linear.out_features
    return dense
