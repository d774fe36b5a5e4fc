"""Read the architecture of an encoder from the shapes of its tensors.

The shapes give layers, widths, vocabulary and positions. They do not give the number of attention heads, and
RoBERTa's tensors have the same names as BERT's. Both are inferred, and the log says how.
"""

import re
from typing import Any

from distilcse_cli.errors import ModelError
from distilcse_cli.models.state_dict import StateDict

HEAD_WIDTH = 64
"""Width of an attention head in BERT, RoBERTa, DistilBERT and their small relatives."""
KNOWN_HEADS = {312: 12, 384: 12}
"""Heads of models with other widths a head: TinyBERT's 4-layer students; MiniLM and its descendants."""
_NAMES = {"bert": "BERT", "roberta": "RoBERTa", "distilbert": "DistilBERT", "mpnet": "MPNet"}
_MARKS = (
    ("distilbert", "transformer.layer.0.attention.q_lin.weight"),
    ("mpnet", "encoder.relative_attention_bias.weight"),
    ("bert", "encoder.layer.0.attention.self.query.weight"),
)
"""A tensor that only this architecture has. RoBERTa has none: its names are all BERT's."""
_ROBERTA_POSITIONS = 514
_HINT = "--base REF names the model it was trained from"


def infer_config(state: StateDict, pad_id: int) -> tuple[Any, str]:
    """Build a transformers configuration that fits the tensors.

    Args:
        state: the tensors of a file.
        pad_id: the tokenizer's; RoBERTa's and MPNet's positions start after it.

    Returns:
        The configuration, and a description of it with its reasons.

    Raises:
        ModelError: an unknown architecture, or a width without a known number of heads.
    """
    from transformers import AutoConfig

    kind, reason = _kind(state)
    num_layers, width = state.num_layers, state.columns("embeddings.word_embeddings.weight")
    heads, why_heads = _heads(state, kind, width)
    positions = state.rows("embeddings.position_embeddings.weight")
    common = {
        "vocab_size": state.num_embeddings,
        "max_position_embeddings": positions,
        "pad_token_id": pad_id,
        "architectures": None,
    }
    shape: dict[str, float]
    if kind == "distilbert":
        inner = state.rows("transformer.layer.0.ffn.lin1.weight")
        shape = {"dim": width, "hidden_dim": inner, "n_layers": num_layers, "n_heads": heads}
    else:
        shape = {
            "hidden_size": width,
            "intermediate_size": state.rows("encoder.layer.0.intermediate.dense.weight"),
            "num_hidden_layers": num_layers,
            "num_attention_heads": heads,
            "layer_norm_eps": 1e-12 if kind == "bert" else 1e-5,
        }
    if kind in ("bert", "roberta"):
        shape["type_vocab_size"] = state.rows("embeddings.token_type_embeddings.weight")
    if kind == "mpnet":
        shape["relative_attention_num_buckets"] = state.rows("encoder.relative_attention_bias.weight")
    described = (
        f"a {_NAMES[kind]}{reason} of {num_layers} layers, {width} wide, with {heads} heads ({why_heads}),"
        f" {state.num_embeddings:,} tokens and {positions} positions"
    )
    return AutoConfig.for_model(kind, **common, **shape), described


def _kind(state: StateDict) -> tuple[str, str]:
    """Name of the architecture in transformers, and the reason if it is not obvious."""
    kind = next((kind for kind, mark in _MARKS if mark in state.tensors), None)
    if kind is None:
        raise ModelError(f"cannot tell the architecture of {state.path} from its tensors", hint=_HINT)
    if kind != "bert":
        return kind, ""
    names = (*state.tensors, *state.others)
    clues = (
        ("roberta", "by its prefix", re.search(r"roberta|camembert", state.prefix)),
        ("bert", "by its prefix", "bert." in state.prefix),
        ("roberta", "by its lm_head", any("lm_head." in name for name in names)),
        ("roberta", "having one token type", state.rows("embeddings.token_type_embeddings.weight") == 1),
        (
            "roberta",
            f"having {_ROBERTA_POSITIONS} positions",
            state.rows("embeddings.position_embeddings.weight") == _ROBERTA_POSITIONS,
        ),
    )
    found = next(((kind, why) for kind, why, is_so in clues if is_so), None)
    return ("bert", "") if found is None else (found[0], f" ({found[1]})")


def _heads(state: StateDict, kind: str, width: int) -> tuple[int, str]:
    if kind == "mpnet":
        return state.columns("encoder.relative_attention_bias.weight"), "by its attention bias"
    if width in KNOWN_HEADS:
        return KNOWN_HEADS[width], "known for this width"
    if width % HEAD_WIDTH:
        raise ModelError(f"{state.path} is {width} wide, a width without a known number of attention heads", hint=_HINT)
    return width // HEAD_WIDTH, f"taken as {HEAD_WIDTH} wide each"
