"""First-token pooling without computing the tokens that it does not read.

`cls` and `cls_before_pooler` read one token of the last layer. The other tokens only serve as keys and
values there. So queries, the attention's output and the feed-forward block are computed for the first token
alone. With an inner width of four times H, that leaves two of the layer's twelve H x H products a token.

Shape letters: B sentences, T tokens, H hidden.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from distilcse_cli.models.backbone import is_bert_kind
from distilcse_cli.models.light import LightBert
from distilcse_cli.models.pooling import FIRST_TOKEN, POOLINGS


def reads_first_token(backbone: Any, pooling: str) -> bool:
    """Whether this pooling reads only the first token of the last layer, and `first_token` can compute it alone."""
    row = POOLINGS[pooling]
    reads_only_first = row.reads is FIRST_TOKEN and row.mixes is None
    return reads_only_first and is_bert_kind(backbone) and backbone.config.num_hidden_layers > 0


def first_token(backbone: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Compute the first token's last hidden state, equal to the backbone's own up to rounding.

    Args:
        backbone: of BERT's kind. Its gradients and dropout work as usual.
        input_ids: (B, T) token ids.
        attention_mask: (B, T) 1 at tokens, 0 at padding.

    Returns:
        (B, 1, H)
    """
    states = backbone.embeddings(input_ids=input_ids)
    if isinstance(backbone, LightBert):
        mask = backbone.padding_mask(attention_mask)
    else:
        from transformers.masking_utils import create_bidirectional_mask

        # positional arguments, since releases differ in the second one's name; the mask is None if nothing is padded
        mask = create_bidirectional_mask(backbone.config, states, attention_mask)
    *layers, last = backbone.encoder.layer
    for layer in layers:
        states = layer(states, mask)
    return _first_of(last, states, mask)


def _first_of(layer: Any, states: Tensor, mask: Tensor | None) -> Tensor:
    """(B, T, H) states of all tokens before a layer to (B, 1, H), the first token's after it."""
    attention, first = layer.attention.self, states[:, :1]

    def heads(linear: nn.Module, rows: Tensor) -> Tensor:
        return linear(rows).unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)

    attended = functional.scaled_dot_product_attention(
        heads(attention.query, first),
        heads(attention.key, states),
        heads(attention.value, states),
        attn_mask=None if mask is None else mask[:, :, :1],
        dropout_p=attention.dropout.p if attention.training else 0.0,
    )
    attended = layer.attention.output(attended.transpose(1, 2).flatten(2), first)
    return layer.feed_forward_chunk(attended)
