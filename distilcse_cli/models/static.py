"""Static encoders: a table of token vectors and the mean of a sentence's, without any layer.

They are the floor that every layer has to rise above, and the fastest students there are. On disk they are
sentence-transformers' `StaticEmbedding`, which counts no special tokens; so neither do we.
"""

import math
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from distilcse_cli import console
from distilcse_cli.data.tokens import tokenize, tokenizer_errors
from distilcse_cli.models.backbone import num_embeddings

if TYPE_CHECKING:
    from distilcse_cli.models.encoder import SentenceEncoder

_NO_LIMIT = 1 << 20
"""Tokens of a sentence, where a tokenizer states no limit."""
_ROWS = 256


@dataclass
class StaticConfig:
    """What a transformers configuration says, as far as it means something here."""

    hidden_size: int
    vocab_size: int
    num_hidden_layers: int = 0
    model_type: str = "static"

    def to_diff_dict(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


class StaticBackbone(nn.Module):
    """A table of token vectors in the place of a transformers encoder.

    Args:
        weight: (V, H), a row for each token id.
    """

    _supports_sdpa = False  # no attention of any kind

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(weight, freeze=False)
        self.config = StaticConfig(hidden_size=weight.shape[1], vocab_size=weight.shape[0])

    def get_input_embeddings(self) -> nn.Embedding:
        """The table."""
        return self.embedding

    def set_attn_implementation(self, implementation: str) -> None:
        """Nothing: there is no attention."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> SimpleNamespace:  # noqa: ARG002
        """(B, T) ids to an object with (B, T, H) `last_hidden_state`."""
        return SimpleNamespace(last_hidden_state=self.embedding(input_ids), hidden_states=None)


def is_static(backbone: Any) -> bool:
    """Whether a backbone is a table of token vectors."""
    return isinstance(backbone, StaticBackbone)


def static_encoder(encoder: "SentenceEncoder") -> "SentenceEncoder":
    """Make a static student of an encoder: the vector of a token is the encoder's of that token alone.

    Raises:
        ModelError: its tokenizer fails.
    """
    from distilcse_cli.models.encoder import SentenceEncoder

    return SentenceEncoder(
        StaticBackbone(_token_table(encoder)).eval(),
        without_special_tokens(encoder.tokenizer),
        pooling="avg",
        normalize=encoder.normalize,
        max_length=encoder.max_length,
        source=encoder.source,
        prompts=encoder.prompts,
    ).eval()


@torch.no_grad()
def _token_table(encoder: "SentenceEncoder") -> Tensor:
    """(V, D) the encoder's embedding of every token id, between the special tokens of a sentence."""
    special = tokenize([""], encoder.tokenizer, encoder.max_length).row(0).tolist()
    before = math.ceil(len(special) / 2)
    num_tokens = num_embeddings(encoder.backbone)
    table = torch.empty(num_tokens, encoder.embedding_dim)
    with console.Progress("token table", num_tokens, "tokens") as progress:
        for ids in torch.arange(num_tokens).split(_ROWS):
            around = [torch.tensor(part).expand(len(ids), -1) for part in (special[:before], special[before:])]
            rows = torch.cat([around[0], ids[:, None], around[1]], dim=1).long()
            vectors = encoder(rows, torch.ones_like(rows))
            table[ids] = nn.functional.normalize(vectors) if encoder.normalize else vectors
            progress.update(len(ids))
    return table


def without_special_tokens(tokenizer: Any) -> Any:
    """A tokenizer that puts nothing around a sentence, else the same; its limit of a sentence's length is a number."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    if not tokenizer.is_fast:
        return tokenizer  # for the caller to refuse
    with tokenizer_errors(tokenizer.name_or_path):
        rust = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    limit = tokenizer.model_max_length
    if rust.truncation is not None:
        limit = min(limit, rust.truncation["max_length"])
    rust.no_truncation()
    rust.no_padding()
    rust.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    special = dict(tokenizer.special_tokens_map)
    # padding is never read, so any token will do where none is named
    special.setdefault("pad_token", tokenizer.convert_ids_to_tokens(0))
    return PreTrainedTokenizerFast(
        tokenizer_object=rust,
        model_max_length=int(min(limit, _NO_LIMIT)),
        truncation_side=tokenizer.truncation_side,
        name_or_path=tokenizer.name_or_path,
        **special,
    )
