"""Turn errors of the senteval package into errors of this one."""

from collections.abc import Iterator
from contextlib import contextmanager

import senteval
from distilcse_cli.errors import DataError, DistilCSEError, ModelError, UsageError

_KINDS: tuple[tuple[type[senteval.SentEvalError], type[DistilCSEError]], ...] = (
    (senteval.UsageError, UsageError),
    (senteval.DataError, DataError),
    (senteval.EncodingError, ModelError),
)
_MISSING = "distilcse download senteval fetches it; --data DIR names another folder that holds downstream/"
_DAMAGED = "remove the folder, then distilcse download senteval fetches a good copy"


@contextmanager
def senteval_errors() -> Iterator[None]:
    """Raise an error of senteval as the `DistilCSEError` with the same message, hint and exit code."""
    try:
        yield
    except senteval.SentEvalError as error:
        kind = next((ours for theirs, ours in _KINDS if isinstance(error, theirs)), DistilCSEError)
        is_missing = isinstance(error, senteval.DataError) and not all(file.is_file() for file in error.files)
        hint = error.hint or (_DAMAGED if kind is DataError else None)
        raise kind(error.message, hint=_MISSING if is_missing else hint) from error
