"""One sentence is one line, and each is kept once."""

import numpy as np
import pytest

from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.cleaning import Cleaner, SeenHashes, clean


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("  a b \t\r\n", "a b"),
        ("a\tb", "a b"),
        ("a\t\t\x00\x07b", "a b"),
        ("a\x0bb\x0cc\x1cd\x1de\x1ef\x85g\u2028h\u2029i\rj\nk", "a b c d e f g h i j k"),
        ("\x7fa\x9fb", "a b"),
        ("\ufeffa\ufeff", "a"),
        ("\u2003a\u00a0b\u3000", "a\u00a0b"),  # any white space is stripped, a no-break space inside stays
        ("a  b", "a  b"),
        ("naïve 中文 😀 e\u0301", "naïve 中文 😀 e\u0301"),
        ("\x00\ufeff\u2028 ", ""),
    ],
)
def test_clean_by_hand(raw: str, cleaned: str) -> None:
    assert clean(raw) == cleaned
    assert clean(cleaned) == cleaned


def test_a_hundred_thousand_controls_and_spaces_take_no_time() -> None:
    # a pattern that backtracks would need 10^10 steps here, and the test would never end
    assert clean("a" + " " * 100_000 + "\x00" * 100_000 + " " * 100_000 + "b") == "a" + " " * 200_001 + "b"


def test_the_report_of_each_reason_by_hand() -> None:
    cleaner = Cleaner(CorpusSettings(min_words=2, max_words=3))
    kept = cleaner.keep(["a b", " ", "a", "a b c d", "a\tb", "a b c", ""])
    kept += cleaner.keep(["a b c", "c b a"])
    assert kept == [b"a b", b"a b c", b"c b a"]
    # "a\tb" is "a b" again once it is clean, and "a b c" comes back in the second batch
    assert cleaner.dropped == {"blank": 2, "too short": 1, "too long": 1, "duplicate": 2}
    assert cleaner.num_read == 9 == len(kept) + sum(cleaner.dropped.values())


def test_no_batch_and_no_sentence_is_no_trouble() -> None:
    cleaner = Cleaner(CorpusSettings())
    assert cleaner.keep([]) == cleaner.keep([""]) == []


def test_seen_hashes_agree_with_a_python_set() -> None:
    generator = np.random.default_rng(0)
    seen, expected = SeenHashes(), set()
    for size in (1, 7, 0, 300, 50, 5000, 2, 3, 4, 4000):
        hashes = generator.integers(0, 5000, size, dtype=np.uint64)
        is_new = []
        for value in hashes.tolist():
            is_new.append(value not in expected)
            expected.add(value)
        assert seen.add(hashes).tolist() == is_new


def test_seen_hashes_take_eight_bytes_each() -> None:
    seen = SeenHashes()
    for start in range(0, 100_000, 1000):
        seen.add(np.arange(start, start + 1000, dtype=np.uint64))
    assert sum(level.nbytes for level in seen._levels) == 8 * 100_000
    assert len(seen._levels) < 8
