"""How many tokens the lines of a text have: a histogram in octaves, and how many lines were cut."""

from pathlib import Path
from typing import Any

import numpy as np

from distilcse_cli.files import require_fields

_EDGES = 2 ** np.arange(3, 40)
"""Largest length of each bin: up to 8 tokens, 9 to 16, 17 to 32, …"""


class Lengths:
    """Counts of lines by their tokens, special tokens included, before a line is cut.

    Args:
        max_length: lines with more tokens count as cut.
    """

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length
        self.num_lines = self.num_truncated = self.longest = 0
        self._counts = np.zeros(len(_EDGES), dtype=np.int64)

    @property
    def share_truncated(self) -> float:
        """Cut lines among all, 0 to 1."""
        return self.num_truncated / max(self.num_lines, 1)

    def add(self, lengths: np.ndarray) -> None:
        """Count (N,) lines."""
        self.num_lines += len(lengths)
        self.num_truncated += int((lengths > self.max_length).sum())
        self.longest = max(self.longest, int(lengths.max(initial=0)))
        self._counts += np.bincount(np.searchsorted(_EDGES, lengths), minlength=len(_EDGES))

    def histogram(self) -> list[dict[str, int]]:
        """The bins from the first to the last that has lines: first and last length of each, and its lines."""
        last = int(np.flatnonzero(self._counts).max(initial=-1)) + 1
        return [
            {"from": 0 if i == 0 else int(_EDGES[i - 1]) + 1, "to": int(_EDGES[i]), "lines": int(self._counts[i])}
            for i in range(last)
        ]

    def as_dict(self) -> dict[str, Any]:
        """All counts, for JSON."""
        return {
            "num_truncated": self.num_truncated,
            "share_truncated": self.share_truncated,
            "longest": self.longest,
            "token_lengths": self.histogram(),
        }

    def add_counted(self, counted: dict[str, Any], file: Path) -> None:
        """Add counts that `as_dict` gave, and that a file kept.

        Raises:
            DataError: the file is damaged.
        """
        require_fields(file, counted, {"num_truncated": int, "longest": int, "token_lengths": list})
        for i, bin in enumerate(counted["token_lengths"]):
            require_fields(file, bin, {"lines": int})
            self._counts[i] += bin["lines"]
            self.num_lines += bin["lines"]
        self.num_truncated += counted["num_truncated"]
        self.longest = max(self.longest, counted["longest"])

    def __str__(self) -> str:
        shares = (
            f"{bin['from']}-{bin['to']}: {bin['lines']:,} ({bin['lines'] / self.num_lines:.1%})"
            for bin in self.histogram()
            if bin["lines"]
        )
        return f"tokens a line: {', '.join(shares)}; longest {self.longest:,}"
