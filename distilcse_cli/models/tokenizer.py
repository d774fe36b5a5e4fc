"""Load a tokenizer with transformers, and check it: whatever it says is compared with the model it belongs to.

transformers makes up a vocabulary of five tokens if a folder has none. Here that is an error.
"""

import math
import string
from pathlib import Path
from typing import Any

from distilcse_cli.data.tokens import tokenizer_errors
from distilcse_cli.errors import ModelError, UsageError
from distilcse_cli.models.backbone import DAMAGED, first_line, num_positions, quiet_transformers
from distilcse_cli.models.layout import Layout
from distilcse_cli.models.light_tokenizer import light_tokenizer
from distilcse_cli.models.static import without_special_tokens

_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
_MAX_GROWTH = 100
"""Characters that a normalizer may make of one."""


def load_tokenizer(
    folder: Path,
    num_embeddings: int,
    *,
    lower_case: bool = False,
    light: bool = False,
    static: bool = False,
    **arguments: Any,
) -> Any:
    """Load the folder's fast tokenizer and check that it fits a model with `num_embeddings` token embeddings.

    `light` allows a `LightTokenizer`, which cannot be saved; `arguments` are for `AutoTokenizer.from_pretrained`.
    For a `static` model it puts no special tokens around a sentence, and needs no padding token.

    Raises:
        ModelError: there is none, or it is slow, has no words or no padding, or its ids have no embeddings;
            it makes far more of a text, or its longest input is no number.
    """
    if not any(file for pattern in _VOCABULARIES for file in folder.glob(pattern)):
        raise ModelError(f"{folder} has no tokenizer", hint="it needs a tokenizer.json")
    tokenizer: Any = light_tokenizer(folder) if light and not arguments else None
    if tokenizer is None:
        tokenizer = _from_transformers(folder, arguments)
    if static:
        tokenizer = without_special_tokens(tokenizer)
    if not tokenizer.is_fast:
        raise ModelError(f"{folder} has no fast tokenizer", hint="it needs a tokenizer.json")
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise ModelError(f"the tokenizer of {folder} knows no words, only special tokens", hint=DAMAGED)
    if tokenizer.pad_token_id is None:
        raise ModelError(f"the tokenizer of {folder} has no padding token", hint="set pad_token in its config")
    if len(tokenizer) > num_embeddings:
        raise ModelError(
            f"the tokenizer of {folder} has {len(tokenizer)} tokens, but the model has embeddings for {num_embeddings}",
            hint="they are of different models",
        )
    _require_embedded(folder, tokenizer, num_embeddings)
    _require_tame(folder, tokenizer)
    tokenizer.model_max_length = _max_length(folder, tokenizer.model_max_length)
    # saved with a student, it would name code that the student does not have
    tokenizer.init_kwargs.pop("auto_map", None)
    if lower_case:
        _lower_case(tokenizer)
    return tokenizer


def _from_transformers(folder: Path, arguments: dict[str, Any]) -> Any:
    from transformers import AutoTokenizer

    with quiet_transformers():
        try:
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **arguments)
        except Exception as error:
            raise ModelError(f"cannot load the tokenizer of {folder}: {first_line(error)}", hint=DAMAGED) from error


def choose_max_length(ref: str, layout: Layout, backbone: Any, tokenizer: Any, wanted: int | None) -> int:
    """Most tokens of a sentence: those wanted, else the smallest limit of tokenizer, positions and folder.

    Raises:
        UsageError: more are wanted than the model has positions.
        ModelError: the model's own limit leaves no room for a word.
    """
    positions = num_positions(backbone)
    if wanted is None:
        limits = (tokenizer.model_max_length, positions, layout.settings.max_length)
        shortest = int(min(limit for limit in limits if limit is not None))
        num_special = tokenizer.num_special_tokens_to_add()
        if shortest <= num_special:
            raise ModelError(
                f"{ref} allows sentences of {shortest} tokens, special tokens included, of which it adds {num_special}",
                hint="--max-length N replaces the limit in its tokenizer_config.json or sentence_bert_config.json",
            )
        return shortest
    if positions is not None and wanted > positions:
        raise UsageError(f"--max-length {wanted} is more than {ref} can read", hint=f"at most {positions}")
    return wanted


def _require_embedded(folder: Path, tokenizer: Any, num_embeddings: int) -> None:
    """Check the largest id of the vocabulary, and those put around a sentence: there may be gaps between them."""
    largest = max(tokenizer.get_vocab().values(), default=0)
    if largest < num_embeddings:
        with tokenizer_errors(folder):
            largest = max(tokenizer.backend_tokenizer.encode("").ids, default=0)
    if largest >= num_embeddings:
        raise ModelError(
            f"the tokenizer of {folder} has the token id {largest}, but the model has embeddings for {num_embeddings}",
            hint="they are of different models",
        )


def _require_tame(folder: Path, tokenizer: Any) -> None:
    normalizer = tokenizer.backend_tokenizer.normalizer
    if normalizer is not None:
        with tokenizer_errors(folder):
            grown = len(normalizer.normalize_str(string.printable))
        if grown > _MAX_GROWTH * len(string.printable):
            raise ModelError(
                f"the tokenizer of {folder} makes {grown:,} characters of {len(string.printable)}", hint=DAMAGED
            )


def _max_length(folder: Path, value: Any) -> int | float:
    """The longest input as a number; digits in quotes are read as one."""
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ModelError(f"{folder} has a model_max_length of {value!r}, which is no number", hint=DAMAGED)
    return value


def _lower_case(tokenizer: Any) -> None:
    from tokenizers import normalizers

    backend = tokenizer.backend_tokenizer
    before = [normalizers.Lowercase()]
    backend.normalizer = normalizers.Sequence(before + ([backend.normalizer] if backend.normalizer else []))
