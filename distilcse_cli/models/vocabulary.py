"""A smaller vocabulary: the entries that a corpus uses most, and those that every text falls back on.

The tokenizer is edited as the data of its `tokenizer.json`, then made again from it. Entries keep their order,
with numbers without gaps, and the rows of the embedding table follow them.
"""

import copy
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from distilcse_cli import console
from distilcse_cli.data.corpus import Corpus
from distilcse_cli.data.tokens import TokenRows, tokenize_corpus, tokenizer_errors
from distilcse_cli.errors import ModelError, UsageError
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.ranks import ALONE, Ranks

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_COUNTED_AT_ONCE = 1 << 24


@dataclass(frozen=True, kw_only=True)
class SmallVocabulary:
    """What was left of a vocabulary."""

    size: int
    """Entries now."""
    full_size: int
    """Entries before."""
    num_tokens: int
    """Tokens of the corpus with it."""
    num_tokens_before: int
    """Tokens of the corpus with all entries."""

    def as_dict(self) -> dict[str, int]:
        """For `distilcse.json`."""
        return asdict(self)

    def __str__(self) -> str:
        more = self.num_tokens / max(self.num_tokens_before, 1) - 1
        return f"{self.size:,} of {self.full_size:,} entries, chosen by the corpus, which has {more:.1%} more tokens"


def cut_to_corpus(
    encoder: SentenceEncoder, corpus: Corpus, size: int, *, max_length: int, ranks: Ranks = ALONE
) -> SmallVocabulary:
    """Keep the `size` entries of an encoder's vocabulary that a corpus needs most, in place. Rank 0 chooses.

    Args:
        encoder: its tokenizer is replaced by a copy, and its embedding table is cut.
        corpus: the sentences; they are tokenized as they are for training, and these tokens are kept.
        size: entries to keep, as for `choose_entries`.
        max_length: most tokens of a sentence.
        ranks: the processes; every one calls this.

    Raises:
        UsageError, ModelError: as from `choose_entries` and `cut_vocabulary`.
    """

    def tokens() -> TokenRows:
        limit = min(max_length, encoder.max_length)
        return tokenize_corpus(corpus, encoder.tokenizer, limit, encoder.prompts.used)

    def choose() -> tuple[list[int], int]:
        rows = tokens()
        return choose_entries(encoder, count(rows.ids), size), len(rows.ids)

    full_size = len(encoder.tokenizer)
    kept, num_before = ranks.on_main(choose)
    cut_vocabulary(encoder, kept)
    num_tokens = ranks.on_main(lambda: len(tokens().ids))
    cut = SmallVocabulary(size=size, full_size=full_size, num_tokens=num_tokens, num_tokens_before=num_before)
    console.log(f"vocabulary: {cut}")
    return cut


def count(ids: np.ndarray) -> np.ndarray:
    """(highest id + 1,) how often each token id occurs in `ids`, which may be on disk."""
    total = np.zeros(1, dtype=np.int64)
    for start in range(0, len(ids), _COUNTED_AT_ONCE):
        part = np.bincount(ids[start : start + _COUNTED_AT_ONCE], minlength=len(total))
        part[: len(total)] += total
        total = part
    return total


def choose_entries(encoder: SentenceEncoder, counts: np.ndarray, size: int) -> list[int]:
    """Choose the entries of a vocabulary to keep.

    These stay in any case: special and added tokens, every character (and its continuation), bytes, and pieces with
    a character that has no entry of its own. So no text has an unknown token that had none before. The others come
    in the order of their counts; among equals the one with the smaller id is first. For BPE, an entry comes before
    those that are merged from it, with the largest of their counts.

    Args:
        encoder: the model with its full vocabulary.
        counts: how often each token id occurs; ids beyond its end never do.
        size: entries to keep.

    Returns:
        `size` old ids in the order of their new ones.

    Raises:
        UsageError: there are fewer entries, or more that have to stay.
        ModelError: a tokenizer without pieces to fall back on.
    """
    parts = _Parts(encoder.tokenizer)
    ids = set(parts.vocabulary.values()) | parts.added
    stay = parts.must_stay() | (_ids_in_use(encoder) & ids)
    if size > len(ids):
        raise UsageError(
            f"--vocab-size {size} is more than {encoder.source} has",
            hint=f"from {len(stay)} (what has to stay) to {len(ids)}",
        )
    if size < len(stay):
        raise UsageError(
            f"--vocab-size {size} is too small: single characters and special tokens have to stay",
            hint=f"the smallest possible number for {encoder.source} is {len(stay)}",
        )
    weights = np.zeros(max(ids) + 1, dtype=np.int64)
    weights[: len(counts)] = counts[: len(weights)]
    order = parts.order(ids - stay, weights)
    inside = set(parts.vocabulary.values())
    # an added token that the model's own vocabulary lacks gets the next free number when the tokenizer is loaded
    return sorted([*stay, *order[: size - len(stay)]], key=lambda entry: (entry not in inside, entry))


def cut_vocabulary(encoder: SentenceEncoder, kept: Sequence[int]) -> None:
    """Keep only these entries of an encoder's vocabulary, in place.

    The tokenizer is replaced by a copy with new numbers; the table of token embeddings keeps the rows; the
    configuration names the new size and numbers. Rows that the tokenizer does not use are dropped, too.

    Args:
        encoder: the model.
        kept: old ids in the order of their new ones, from `choose_entries`.

    Raises:
        ModelError: positions are counted from the padding token's id, and that would change.
    """
    new = {old: number for number, old in enumerate(kept)}
    positions_from = _first_position(encoder.backbone)
    if positions_from is not None and new.get(positions_from) != positions_from:
        raise ModelError(
            f"{encoder.source} counts positions from its padding token, which cannot keep its number",
            hint="leave out --vocab-size",
        )
    encoder.tokenizer = _Parts(encoder.tokenizer).renumbered(new)
    table, config = encoder.backbone.get_input_embeddings(), encoder.backbone.config
    trains = table.weight.requires_grad
    table.weight = torch.nn.Parameter(table.weight.detach()[list(kept)].clone(), requires_grad=trains)
    table.num_embeddings = config.vocab_size = len(kept)
    table.padding_idx = new.get(table.padding_idx)
    for name, value in _token_ids(config):
        setattr(config, name, new.get(value))


def _ids_in_use(encoder: SentenceEncoder) -> set[int]:
    """Ids that the model itself refers to."""
    named = {value for _, value in _token_ids(encoder.backbone.config)}
    padding = encoder.backbone.get_input_embeddings().padding_idx
    first = _first_position(encoder.backbone)
    return named | ({padding} - {None}) | set(range(-1 if first is None else first + 1))


def _first_position(backbone: Any) -> int | None:
    """Id of the padding token from which RoBERTa's kind counts positions; None for others."""
    return getattr(getattr(backbone, "embeddings", None), "padding_idx", None)


def _token_ids(config: Any) -> list[tuple[str, int]]:
    return [(name, value) for name, value in vars(config).items() if name.endswith("_token_id") and type(value) is int]


class _Parts:
    """A tokenizer as the data of its `tokenizer.json`.

    Raises:
        ModelError: it has another model than WordPiece, BPE or Unigram.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._data = json.loads(tokenizer.backend_tokenizer.to_str())
        self._model = self._data["model"]
        self._kind = self._model["type"]
        if self._kind not in ("WordPiece", "BPE", "Unigram"):
            raise ModelError(
                f"the tokenizer of {tokenizer.name_or_path} is a {self._kind}, which has no pieces to fall back on",
                hint="leave out --vocab-size",
            )
        entries = self._model["vocab"]
        self.vocabulary: dict[str, int] = (
            entries if isinstance(entries, dict) else {piece: number for number, (piece, _) in enumerate(entries)}
        )
        self.added = {token["id"] for token in self._data["added_tokens"]}
        self._prefix = self._model.get("continuing_subword_prefix") or ""
        self._suffix = self._model.get("end_of_word_suffix") or ""

    def must_stay(self) -> set[int]:
        """Ids of special and added tokens, and of all that a text falls back on."""
        stay = self.added | set(self._tokenizer.all_special_ids)
        stay |= {number for piece, number in self.vocabulary.items() if self._is_last_resort(piece)}
        unknown = self.vocabulary.get(self._model.get("unk_token") or "", self._model.get("unk_id"))
        stay |= {unknown} - {None}

        def noted(number: int) -> int:
            stay.add(number)
            return number

        _change_ids(copy.deepcopy(self._data["post_processor"]), noted)
        return stay

    def order(self, ids: Iterable[int], counts: np.ndarray) -> list[int]:
        """Sort ids by what their entries are worth."""
        lengths = np.zeros(len(counts), dtype=np.int64)
        if self._kind == "BPE":
            counts = counts.copy()
            for piece, number in self.vocabulary.items():
                lengths[number] = len(self._characters(piece))
            made_of: dict[int, tuple[int, int]] = {}
            for left, right, whole in self._merges():
                made_of.setdefault(self.vocabulary[whole], (self.vocabulary[left], self.vocabulary[right]))
            for merged in sorted(made_of, key=lambda number: -lengths[number]):
                for part in made_of[merged]:
                    counts[part] = max(counts[part], counts[merged])
        return sorted(ids, key=lambda number: (-counts[number], lengths[number], number))

    def renumbered(self, new: dict[int, int]) -> Any:
        """A copy of the tokenizer with the entries of `new`, old ids to new ones."""
        from tokenizers import Tokenizer

        data = copy.deepcopy(self._data)
        model, kept = data["model"], {piece for piece, number in self.vocabulary.items() if number in new}
        if isinstance(model["vocab"], dict):
            model["vocab"] = {piece: new[number] for piece, number in self.vocabulary.items() if piece in kept}
        else:
            model["vocab"] = [entry for number, entry in enumerate(model["vocab"]) if number in new]
        if self._kind == "BPE":
            model["merges"] = [(left, right) for left, right, whole in self._merges() if {left, right, whole} <= kept]
        if model.get("unk_id") is not None:
            model["unk_id"] = new[model["unk_id"]]
        for token in data["added_tokens"]:
            token["id"] = new[token["id"]]
        _change_ids(data["post_processor"], new.__getitem__)
        data["padding"] = data["truncation"] = None
        smaller = copy.deepcopy(self._tokenizer)
        with tokenizer_errors(self._tokenizer.name_or_path):
            smaller._tokenizer = Tokenizer.from_str(json.dumps(data))
        return smaller

    def _merges(self) -> list[tuple[str, str, str]]:
        """Left, right, and what they are merged into, for all merges of entries."""
        found = [(left, right, left + right[len(self._prefix) :]) for left, right in self._model["merges"]]
        return [merge for merge in found if all(piece in self.vocabulary for piece in merge)]

    def _is_last_resort(self, piece: str) -> bool:
        """Whether a text may become unknown without this piece."""
        characters = self._characters(piece)
        if len(characters) <= 1 or (self._model.get("byte_fallback") and _BYTE.fullmatch(piece)):
            return True
        # BPE starts from characters, so it can reach no piece with one that has no entry
        return self._kind != "BPE" and not all(one in self.vocabulary for one in characters)

    def _characters(self, piece: str) -> list[str]:
        """A piece's characters, as entries."""
        body = piece.removesuffix(self._suffix) if piece != self._suffix else piece
        is_first = not self._prefix or not body.startswith(self._prefix) or body == self._prefix
        if not is_first:
            body = body[len(self._prefix) :]
        return [one if is_first and not place else self._prefix + one for place, one in enumerate(body)]


def _change_ids(processor: Any, change: Callable[[int], int]) -> None:
    """Replace the token ids that a post-processor puts around a sentence, in place."""
    if processor is None:
        return
    for part in processor.get("processors", ()):
        _change_ids(part, change)
    for name in ("cls", "sep"):  # of BERT's and RoBERTa's kind
        if name in processor:
            text, number = processor[name]
            processor[name] = [text, change(number)]
    special = processor.get("special_tokens")
    for token in special.values() if isinstance(special, dict) else ():
        token["ids"] = [change(number) for number in token["ids"]]
