"""Errors that a caller of senteval can mend: bad names, missing or odd data, unusable embeddings."""

from collections.abc import Sequence
from pathlib import Path


class SentEvalError(Exception):
    """A failure with a remedy.

    Args:
        message: what is wrong, in one line, naming the task, file, line or sentence.
        hint: what to do about it.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SentEvalError):
    """A task, mode or setting that does not exist or does not go together."""


class DataError(SentEvalError):
    """A data file is missing, malformed or not of the known size.

    Args:
        message: as for every `SentEvalError`.
        hint: as for every `SentEvalError`.
        files: the files that are at fault, for callers that word the message themselves.
    """

    def __init__(self, message: str, *, hint: str | None = None, files: Sequence[Path] = ()) -> None:
        super().__init__(message, hint=hint)
        self.files = tuple(files)


class EncodingError(SentEvalError):
    """The encoder returned numbers that cannot be scored."""
