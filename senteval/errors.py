"""Errors that a caller of senteval can fix: wrong names, missing or faulty data, unusable embeddings."""

from collections.abc import Sequence
from pathlib import Path


class SentEvalError(Exception):
    """An error that the caller can fix.

    Args:
        message: the problem in one line, with the task, file, line or sentence.
        hint: the remedy.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SentEvalError):
    """A task, mode or setting does not exist, or two settings do not fit together."""


class DataError(SentEvalError):
    """A data file is missing, malformed or of an unexpected size.

    Args:
        message: as for every `SentEvalError`.
        hint: as for every `SentEvalError`.
        files: the faulty files, for callers that write their own message.
    """

    def __init__(self, message: str, *, hint: str | None = None, files: Sequence[Path] = ()) -> None:
        super().__init__(message, hint=hint)
        self.files = tuple(files)


class EncodingError(SentEvalError):
    """The encoder returned numbers that cannot be scored."""
