"""A tokenizer as a pure function from sentences to ids, and its fingerprint."""

import hashlib
import json
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from distilcse_cli.errors import ModelError, UsageError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

MAX_UNKNOWN = 0.5
"""Share of unknown tokens above which a tokenizer has no vocabulary for a text."""
_ENOUGH_TOKENS = 64


class RowTokenizer:
    """Turns batches of sentences into flat ids and lengths, truncated and counted.

    Args:
        tokenizer: a fast tokenizer of transformers. Its Rust half is copied, so that its own
            truncation and padding stay as they are.
        max_length: most tokens of a row, special tokens included.

    Raises:
        ModelError: no fast tokenizer, or one without vocabulary.
        UsageError: no room for a word between the special tokens.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", max_length: int) -> None:
        self.num_truncated = 0
        self._rust = _plain_copy(tokenizer)
        if max_length <= self._rust.num_special_tokens_to_add(is_pair=False):
            raise UsageError(f"--max-length {max_length} leaves no room beside the special tokens")
        self._rust.enable_truncation(max_length, direction=tokenizer.truncation_side)
        vocabulary = self._rust.get_vocab(with_added_tokens=True)
        self.dtype = np.min_scalar_type(max(vocabulary.values(), default=0))
        self._unknown = tokenizer.unk_token_id
        self._special = np.array(sorted(set(tokenizer.all_special_ids) - {self._unknown}), dtype=np.int64)
        self._is_checked = False
        if set(vocabulary.values()) <= set(tokenizer.all_special_ids):
            raise ModelError("the tokenizer has no vocabulary: it knows nothing but its special tokens", hint=_HINT)

    def __call__(self, sentences: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Tokenize N sentences.

        Returns:
            Flat ids of `dtype`, and (N,) int64 lengths.

        Raises:
            ModelError: more than `MAX_UNKNOWN` of the first call's tokens are unknown.
        """
        encodings = self._rust.encode_batch_fast(list(sentences), add_special_tokens=True)
        rows = [encoding.ids for encoding in encodings]
        self.num_truncated += sum(bool(encoding.overflowing) for encoding in encodings)
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        ids = np.fromiter(chain.from_iterable(rows), dtype=self.dtype, count=int(lengths.sum()))
        if not self._is_checked:
            self._check_vocabulary(ids)
            self._is_checked = True
        return ids, lengths

    def _check_vocabulary(self, ids: np.ndarray) -> None:
        if self._unknown is None:
            return
        words = ids[~np.isin(ids, self._special)]
        share = float(np.mean(words == self._unknown)) if len(words) >= _ENOUGH_TOKENS else 0.0
        if share > MAX_UNKNOWN:
            raise ModelError(f"the tokenizer has no vocabulary for this text: {share:.0%} of it is unknown", hint=_HINT)


_HINT = "load it with AutoTokenizer from a folder with tokenizer.json, or choose a model for this language"


def tokenizer_fingerprint(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return the sha256 of all that decides which ids a sentence gets, maximal length apart."""
    special = {
        "all_special_ids": sorted(tokenizer.all_special_ids),
        "unk": tokenizer.unk_token_id,
        "truncation_side": tokenizer.truncation_side,
    }
    text = _plain_copy(tokenizer).to_str() + json.dumps(special)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _plain_copy(tokenizer: "PreTrainedTokenizerBase") -> "Tokenizer":
    """Copy the Rust half, without truncation and padding."""
    from tokenizers import Tokenizer

    rust = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(rust, Tokenizer):
        raise ModelError(
            f"{type(tokenizer).__name__} is no fast tokenizer", hint="save the model with a tokenizer.json beside it"
        )
    copy = Tokenizer.from_str(rust.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy
