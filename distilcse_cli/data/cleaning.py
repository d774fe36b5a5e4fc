"""Raw texts to clean, distinct sentences."""

import hashlib
import re
from collections import Counter

import numpy as np

from distilcse_cli.config import CorpusSettings

# everything at which str.splitlines breaks, all other C0 and C1 controls, and the byte order mark,
# which concatenated files have in the middle; a single character class, so it is linear on any input
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]+")


def clean(text: str) -> str:
    """Return `text` as one line: runs of control characters become a space, and both ends are stripped."""
    if not text.isprintable():
        text = _CONTROL.sub(" ", text)
    return text.strip()


class SeenHashes:
    """A growing set of 64-bit hashes, in 8 bytes each and 16 while it grows.

    It consists of sorted arrays, each at least twice as long as the next. (A Python set takes about
    90 bytes a hash.) The probability that two different sentences among 5 million share a hash is below 1e-6.
    """

    def __init__(self) -> None:
        self._levels: list[np.ndarray] = []

    def add(self, hashes: np.ndarray) -> np.ndarray:
        """Add `hashes`, (N,) uint64.

        Returns:
            (N,) bool, True at the first occurrence of each hash that was not in the set.
        """
        distinct, first = np.unique(hashes, return_index=True)
        new = np.ones(len(distinct), dtype=bool)
        for level in self._levels:
            at = np.minimum(np.searchsorted(level, distinct), len(level) - 1)
            new &= level[at] != distinct
        is_first = np.zeros(len(hashes), dtype=bool)
        is_first[first[new]] = True
        self._merge(distinct[new])
        return is_first

    def _merge(self, fresh: np.ndarray) -> None:
        while self._levels and len(self._levels[-1]) < 2 * len(fresh):
            fresh = np.concatenate((self._levels.pop(), fresh))
            fresh.sort()
        if len(fresh):
            self._levels.append(fresh)


class FirstRows:
    """Hashes and the row in which each was first seen, in 16 bytes each and 32 while they grow."""

    def __init__(self) -> None:
        self._levels: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, hashes: np.ndarray, next_row: int) -> tuple[np.ndarray, np.ndarray]:
        """Add `hashes`, (N,) uint64. New ones get the rows from `next_row` on, in their order.

        Returns:
            (N,) bool, True at the first occurrence of each hash; and (N,) int64, the row of each hash.
        """
        distinct, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        new, rows = np.ones(len(distinct), dtype=bool), np.zeros(len(distinct), dtype=np.int64)
        for known, known_rows in self._levels:
            at = np.minimum(np.searchsorted(known, distinct), len(known) - 1)
            is_known = known[at] == distinct
            rows[is_known], new[is_known] = known_rows[at[is_known]], False
        is_first = np.zeros(len(hashes), dtype=bool)
        is_first[first[new]] = True
        rows[new] = next_row + np.cumsum(is_first)[first[new]] - 1
        self._merge(distinct[new], rows[new])
        return is_first, rows[inverse]

    def _merge(self, hashes: np.ndarray, rows: np.ndarray) -> None:
        while self._levels and len(self._levels[-1][0]) < 2 * len(hashes):
            more, more_rows = self._levels.pop()
            hashes, rows = np.concatenate((more, hashes)), np.concatenate((more_rows, rows))
            order = np.argsort(hashes)
            hashes, rows = hashes[order], rows[order]
        if len(hashes):
            self._levels.append((hashes, rows))


class Cleaner:
    """Cleans texts batch by batch, drops what the settings exclude, and counts what it drops.

    Args:
        settings: word limits.
    """

    def __init__(self, settings: CorpusSettings) -> None:
        self.num_read = 0
        self.dropped: Counter[str] = Counter()
        self._settings = settings
        self._seen = SeenHashes()

    def keep(self, texts: list[str]) -> list[bytes]:
        """Return the clean, distinct sentences among `texts`, in order, as UTF-8."""
        self.num_read += len(texts)
        sentences = [sentence for text in texts if (sentence := clean(text))]
        self._count("blank", len(texts) - len(sentences))
        sentences = self._within_limits(sentences)
        encoded = [sentence.encode("utf-8") for sentence in sentences]
        is_new = self._seen.add(hashes_of(encoded))
        kept = [line for line, new in zip(encoded, is_new.tolist(), strict=True) if new]
        self._count("duplicate", len(encoded) - len(kept))
        return kept

    def clean_one(self, text: str) -> bytes | None:
        """Return the clean sentence as UTF-8; None, and counted, if it is dropped. It may repeat an earlier one."""
        self.num_read += 1
        sentence = clean(text)
        if not sentence:
            self._count("blank", 1)
            return None
        kept = self._within_limits([sentence])
        return kept[0].encode("utf-8") if kept else None

    def count_duplicates(self, number: int) -> None:
        """Count repeats that were found elsewhere."""
        self._count("duplicate", number)

    def _within_limits(self, sentences: list[str]) -> list[str]:
        least, most = self._settings.min_words, self._settings.max_words
        if least <= 1 and most is None:
            return sentences
        num_words = [len(sentence.split()) for sentence in sentences]
        self._count("too short", sum(n < least for n in num_words))
        if most is None:
            return [sentence for sentence, n in zip(sentences, num_words, strict=True) if n >= least]
        self._count("too long", sum(n > most for n in num_words))
        return [sentence for sentence, n in zip(sentences, num_words, strict=True) if least <= n <= most]

    def _count(self, reason: str, number: int) -> None:
        if number:
            self.dropped[reason] += number


def hashes_of(lines: list[bytes]) -> np.ndarray:
    """Return (N,) uint64 BLAKE2b hashes of N lines."""
    digests = b"".join(hashlib.blake2b(line, digest_size=8).digest() for line in lines)
    return np.frombuffer(digests, dtype=np.uint64)
