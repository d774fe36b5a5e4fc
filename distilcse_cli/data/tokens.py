"""Token rows: flat ids and offsets, in memory for one call or memory-mapped from the data home."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distilcse_cli import console
from distilcse_cli.data.cache import REMAKE, build_once, entry_folder, read_manifest, write_manifest
from distilcse_cli.data.corpus import Corpus
from distilcse_cli.data.npy import NpyWriter, open_map
from distilcse_cli.data.texts import in_batches
from distilcse_cli.errors import DataError, ModelError, UsageError

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

FORMAT_VERSION = 1
IDS, OFFSETS = "ids.npy", "offsets.npy"
MAX_UNKNOWN = 0.5
"""Share of unknown tokens above which a tokenizer has no vocabulary for a text."""
_ENOUGH_TOKENS = 64
_NO_VOCABULARY = "load it with AutoTokenizer from a folder with tokenizer.json, or choose a model for this language"


@dataclass(frozen=True)
class TokenRows:
    """The tokens of N sentences, special tokens included, one after the other."""

    ids: np.ndarray
    """(total,) unsigned integers."""
    offsets: np.ndarray
    """(N + 1,) int64: row i is `ids[offsets[i]:offsets[i + 1]]`."""
    num_truncated: int
    """Rows that were cut to the maximal length."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """(N,) int64: tokens in each row. Computed once: the training loop needs it in every step."""
        return np.diff(self.offsets)

    def row(self, i: int) -> np.ndarray:
        """Return the ids of row i."""
        return self.ids[self.offsets[i] : self.offsets[i + 1]]

    def take(self, rows: np.ndarray) -> "TokenRows":
        """Return some of the rows, in memory. None of them counts as truncated."""
        lengths = self.lengths[rows]
        return TokenRows(np.concatenate([self.ids[:0], *map(self.row, rows)]), np.cumsum([0, *lengths]), 0)

    def pad(self, rows: np.ndarray, pad_id: int, width: int | None = None) -> "tuple[torch.Tensor, torch.Tensor]":
        """Return rows as one batch, padded on the right.

        Args:
            rows: (B,) row numbers.
            pad_id: id for the positions after the end of a row.
            width: T; None takes the length of the longest row.

        Returns:
            (B, T) int64 ids and (B, T) int64 mask, 1 on tokens.

        Raises:
            ValueError: a row is longer than `width`.
        """
        import torch

        starts, ends = self.offsets[rows], self.offsets[np.asarray(rows) + 1]
        lengths = ends - starts
        longest = int(lengths.max(initial=1))
        if width is None:
            width = longest
        elif width < longest:
            raise ValueError(f"a row of {longest} tokens in a batch {width} wide")
        columns = np.arange(width)
        mask = columns < lengths[:, None]
        ids = np.full(mask.shape, pad_id, dtype=np.int64)
        ids[mask] = self.ids[(starts[:, None] + columns)[mask]]
        return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))


@dataclass(frozen=True)
class TokenStore(TokenRows):
    """Token rows in the data home, memory-mapped."""

    folder: Path
    manifest: dict[str, Any]


class RowTokenizer:
    """Turns batches of sentences into flat ids and lengths, truncated and counted.

    Args:
        tokenizer: a fast tokenizer of transformers. Its Rust half is copied, so that the truncation
            and padding set on it stay unchanged.
        max_length: most tokens of a row, special tokens included.
        prompt: text put before every sentence.

    Raises:
        ModelError: it is no fast tokenizer, or has no vocabulary.
        UsageError: `max_length` leaves no room for a word between the special tokens.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", max_length: int, prompt: str = "") -> None:
        self.num_truncated = 0
        self.whole_lengths = np.zeros(0, np.int64)  # (N,) tokens of the last call's sentences before any was cut
        self._prompt = prompt
        self._rust = _plain_copy(tokenizer)
        self._source = tokenizer.name_or_path
        if max_length <= self._rust.num_special_tokens_to_add(is_pair=False):
            raise UsageError(f"--max-length {max_length} leaves no room beside the special tokens")
        self._rust.enable_truncation(max_length, direction=tokenizer.truncation_side)
        vocabulary = self._rust.get_vocab(with_added_tokens=True)
        self.dtype = np.min_scalar_type(max(vocabulary.values(), default=0))
        self._unknown, self._is_checked = tokenizer.unk_token_id, False
        self._special = np.array(sorted(set(tokenizer.all_special_ids) - {self._unknown}), dtype=np.int64)
        if set(vocabulary.values()) <= set(tokenizer.all_special_ids):
            raise ModelError("the tokenizer has no vocabulary: it knows only its special tokens", hint=_NO_VOCABULARY)

    def __call__(self, sentences: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Tokenize N sentences.

        Returns:
            Flat ids of `dtype`, and (N,) int64 lengths.

        Raises:
            ModelError: more than `MAX_UNKNOWN` of the first call's tokens are unknown, or the tokenizer fails.
        """
        texts = [self._prompt + sentence for sentence in sentences] if self._prompt else list(sentences)
        with tokenizer_errors(self._source):
            encodings = self._rust.encode_batch_fast(texts, add_special_tokens=True)
            rows = [encoding.ids for encoding in encodings]
            cut_off = {i: rest for i, encoding in enumerate(encodings) if (rest := encoding.overflowing)}
            lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
            ids = np.fromiter(chain.from_iterable(rows), dtype=self.dtype, count=int(lengths.sum()))
        self.num_truncated += len(cut_off)
        self.whole_lengths = lengths.copy()
        for i, rest in cut_off.items():
            num_special = len(rest) * self._rust.num_special_tokens_to_add(is_pair=False)
            self.whole_lengths[i] += sum(len(piece.ids) for piece in rest) - num_special
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
            raise ModelError(
                f"the tokenizer has no vocabulary for this text: {share:.0%} of it is unknown", hint=_NO_VOCABULARY
            )


@contextmanager
def tokenizer_errors(source: object) -> Iterator[None]:
    """Turn whatever the tokenizer's Rust half raises into an error of the model `source`.

    Raises:
        ModelError: in the block, the tokenizer failed or panicked.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # a panic is no Exception
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ModelError(
            f"the tokenizer of {source} fails: {reason}",
            hint="its tokenizer.json is damaged, or lacks its unknown token",
        ) from error


def tokenizer_fingerprint(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return the sha256 of everything that decides the ids of a sentence, except the maximal length."""
    special = {
        "all_special_ids": sorted(tokenizer.all_special_ids),
        "unk": tokenizer.unk_token_id,
        "truncation_side": tokenizer.truncation_side,
    }
    text = _plain_copy(tokenizer).to_str() + json.dumps(special)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _plain_copy(tokenizer: "PreTrainedTokenizerBase") -> "Tokenizer":
    """Copy the tokenizer's Rust half, without truncation and padding."""
    from tokenizers import Tokenizer

    rust = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(rust, Tokenizer):
        raise ModelError(
            f"{type(tokenizer).__name__} is no fast tokenizer", hint="save the model with a tokenizer.json beside it"
        )
    with tokenizer_errors(tokenizer.name_or_path):
        copy = Tokenizer.from_str(rust.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def tokenize(
    sentences: Sequence[str], tokenizer: "PreTrainedTokenizerBase", max_length: int, prompt: str = ""
) -> TokenRows:
    """Tokenize sentences in memory.

    Args:
        sentences: N texts; they may be empty.
        tokenizer: a fast (Rust) tokenizer; it is not changed.
        max_length: most tokens of a row, special tokens included.
        prompt: text put before every sentence.

    Raises:
        ModelError: the tokenizer is no fast one, or has no vocabulary for these texts.
        UsageError: `max_length` leaves no room beside the special tokens.
    """
    rows = RowTokenizer(tokenizer, max_length, prompt)
    chunks = [rows(batch) for batch in in_batches(sentences)]
    lengths = np.concatenate([np.zeros(1, dtype=np.int64), *(lengths for _, lengths in chunks)])
    ids = np.concatenate([np.zeros(0, dtype=rows.dtype), *(ids for ids, _ in chunks)])
    return TokenRows(ids, np.cumsum(lengths), rows.num_truncated)


def tokenize_corpus(
    corpus: Corpus, tokenizer: "PreTrainedTokenizerBase", max_length: int, prompt: str = ""
) -> TokenStore:
    """Tokenize a corpus into the data home, or open the rows that the same tokenizer made of it earlier.

    `prompt` is put before every sentence.

    Raises:
        ModelError: the tokenizer is no fast one, or has no vocabulary for this corpus.
        UsageError: `max_length` leaves no room beside the special tokens.
        DataError: the cache cannot be written.
    """
    made_from = {
        "corpus_fingerprint": corpus.fingerprint,
        "tokenizer_fingerprint": tokenizer_fingerprint(tokenizer),
        "max_length": max_length,
        **({"prompt": prompt} if prompt else {}),
    }
    folder = entry_folder("tokens", FORMAT_VERSION, made_from)
    build_once(
        folder,
        FORMAT_VERSION,
        lambda target: _build(target, corpus, RowTokenizer(tokenizer, max_length, prompt), made_from),
    )
    store = open_tokens(folder)
    console.log(
        f"tokens: {len(store.ids):,} in {len(store):,} sentences, {len(store.ids) / len(store):.1f} on average; "
        f"{store.num_truncated:,} sentences ({store.num_truncated / len(store):.2%}) cut to {max_length} tokens"
    )
    return store


def open_tokens(folder: Path) -> TokenStore:
    """Open a token store by memory map.

    Raises:
        DataError: `folder` is no token store, is damaged, or was written by a later release.
    """
    manifest = read_manifest(folder, FORMAT_VERSION)
    try:
        ids, offsets = open_map(folder / IDS), open_map(folder / OFFSETS)
        shape = [len(offsets) - 1, int(offsets[-1]), len(ids)]
        if shape != [manifest["num_rows"], manifest["num_tokens"], manifest["num_tokens"]]:
            raise ValueError(f"rows, end and tokens are {shape}, not as its manifest says")
        return TokenStore(ids, offsets, manifest["num_truncated"], Path(folder), manifest)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(f"{folder} is not a token store: {error}", hint=REMAKE) from error


def _build(folder: Path, corpus: Corpus, rows: RowTokenizer, made_from: dict[str, Any]) -> None:
    total = 0
    with (
        NpyWriter(folder / IDS, rows.dtype) as ids_file,
        NpyWriter(folder / OFFSETS, np.int64) as offsets_file,
        console.Progress("tokenize", len(corpus), "sentences") as progress,
    ):
        offsets_file.append(np.zeros(1))
        for sentences in in_batches(corpus):
            ids, lengths = rows(sentences)
            ids_file.append(ids)
            offsets_file.append(total + np.cumsum(lengths))
            total += len(ids)
            progress.update(len(sentences))
    counts = {"num_rows": len(corpus), "num_tokens": total, "num_truncated": rows.num_truncated}
    write_manifest(folder, FORMAT_VERSION, {**made_from, **counts})
