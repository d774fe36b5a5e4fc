"""Token rows: flat ids and offsets, in memory for a call or memory-mapped from the data home."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distilcse_cli import console
from distilcse_cli.config import data_home
from distilcse_cli.data.arrays import NpyWriter
from distilcse_cli.data.cache import build_once, read_manifest, write_manifest
from distilcse_cli.data.corpus import Corpus
from distilcse_cli.data.readers import in_batches
from distilcse_cli.data.tokenizing import RowTokenizer, tokenizer_fingerprint
from distilcse_cli.errors import DataError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

__all__ = ["TokenRows", "TokenStore", "open_tokens", "tokenize", "tokenize_corpus", "tokenizer_fingerprint"]

FORMAT_VERSION = 1
IDS, OFFSETS = "ids.npy", "offsets.npy"


@dataclass(frozen=True)
class TokenRows:
    """The tokens of N sentences, special tokens included, one after the other."""

    ids: np.ndarray
    """(total,) unsigned integers."""
    offsets: np.ndarray
    """(N + 1,) int64: row i is `ids[offsets[i]:offsets[i + 1]]`."""
    num_truncated: int
    """Rows that lost tokens to the maximal length."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """(N,) int64: tokens in each row. Computed once: the training loop asks in every step."""
        return np.diff(self.offsets)

    def row(self, i: int) -> np.ndarray:
        """Return the ids of row i."""
        return self.ids[self.offsets[i] : self.offsets[i + 1]]

    def pad(self, rows: np.ndarray, pad_id: int, width: int | None = None) -> "tuple[torch.Tensor, torch.Tensor]":
        """Return rows as one batch, padded on the right.

        Args:
            rows: (B,) row numbers.
            pad_id: id behind the end of a row.
            width: T; None takes the longest of the rows.

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


def tokenize(sentences: Sequence[str], tokenizer: "PreTrainedTokenizerBase", max_length: int) -> TokenRows:
    """Tokenize sentences in memory.

    Args:
        sentences: N texts, empty ones included.
        tokenizer: a fast (Rust) tokenizer; it is left as it was.
        max_length: most tokens of a row, special tokens included.

    Raises:
        ModelError: the tokenizer is no fast one, or has no vocabulary for these texts.
        UsageError: `max_length` leaves no room beside the special tokens.
    """
    rows = RowTokenizer(tokenizer, max_length)
    chunks = [rows(batch) for batch in in_batches(sentences)]
    lengths = np.concatenate([np.zeros(1, dtype=np.int64), *(lengths for _, lengths in chunks)])
    ids = np.concatenate([np.zeros(0, dtype=rows.dtype), *(ids for ids, _ in chunks)])
    return TokenRows(ids, np.cumsum(lengths), rows.num_truncated)


def tokenize_corpus(corpus: Corpus, tokenizer: "PreTrainedTokenizerBase", max_length: int) -> TokenStore:
    """Tokenize a corpus into the data home, or open what the same tokenizer made of it before.

    Raises:
        ModelError: the tokenizer is no fast one, or has no vocabulary for this corpus.
        UsageError: `max_length` leaves no room beside the special tokens.
        DataError: the cache cannot be written.
    """
    facts = {
        "corpus_fingerprint": corpus.fingerprint,
        "tokenizer_fingerprint": tokenizer_fingerprint(tokenizer),
        "max_length": max_length,
    }
    key = hashlib.sha256(json.dumps([FORMAT_VERSION, facts]).encode()).hexdigest()[:32]
    folder = data_home() / "tokens" / key
    build_once(folder, FORMAT_VERSION, lambda target: _build(target, corpus, tokenizer, max_length, facts))
    store = open_tokens(folder)
    console.log(
        f"tokens: {len(store.ids):,} in {len(store):,} sentences, {len(store.ids) / len(store):.1f} on average; "
        f"{store.num_truncated:,} sentences ({store.num_truncated / len(store):.2%}) cut to {max_length} tokens"
    )
    return store


def open_tokens(folder: Path) -> TokenStore:
    """Open a token store by memory map.

    Raises:
        DataError: `folder` is none, is damaged, or was written by a later release.
    """
    manifest = read_manifest(folder, FORMAT_VERSION)
    try:
        ids, offsets = (
            np.load(folder / name, mmap_mode="r", allow_pickle=False).view(np.ndarray) for name in (IDS, OFFSETS)
        )
        shape = [len(offsets) - 1, int(offsets[-1]), len(ids)]
        if shape != [manifest["num_rows"], manifest["num_tokens"], manifest["num_tokens"]]:
            raise ValueError(f"rows, end and tokens are {shape}, not as its manifest says")
        return TokenStore(ids, offsets, manifest["num_truncated"], Path(folder), manifest)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(f"{folder} is not a token store: {error}", hint="remove it and run again") from error


def _build(
    folder: Path, corpus: Corpus, tokenizer: "PreTrainedTokenizerBase", max_length: int, facts: dict[str, Any]
) -> None:
    rows = RowTokenizer(tokenizer, max_length)
    total = 0
    with (
        NpyWriter(folder / IDS, rows.dtype) as ids_file,
        NpyWriter(folder / OFFSETS, np.dtype(np.int64)) as offsets_file,
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
    write_manifest(folder, FORMAT_VERSION, {**facts, **counts})
