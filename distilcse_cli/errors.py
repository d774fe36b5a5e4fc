"""Errors that a user can fix.

Each is printed as one line, `error: …`, followed by a hint that names the next command, and ends
the process with the exit code of its kind. A bug is no `DistilCSEError` and keeps its traceback.
"""


class DistilCSEError(Exception):
    """A failure that the user can fix.

    Args:
        message: what is wrong, in one line, naming the file, line or value.
        hint: what to do about it, usually the next command to type.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(DistilCSEError):
    """The command line asks for something that does not exist or contradicts itself."""

    exit_code = 2


class DataError(DistilCSEError):
    """An input or output file is missing, malformed, mismatched or cannot be written."""

    exit_code = 3


class ModelError(DistilCSEError):
    """A model, checkpoint or tokenizer is missing, broken or of the wrong kind."""

    exit_code = 4


class DeviceError(DistilCSEError):
    """This machine does not have the requested device or number format."""

    exit_code = 5


class NetworkError(DistilCSEError):
    """A download failed."""

    exit_code = 6


class VerdictError(DistilCSEError):
    """A model was measured, and is not as good as was asked for."""

    exit_code = 7
