"""The one place where errors of the senteval package become errors of this one."""

from collections.abc import Iterator
from contextlib import contextmanager

import senteval
from distilcse_cli.errors import DataError, DistilCSEError, ModelError, UsageError

_KINDS: tuple[tuple[type[senteval.SentEvalError], type[DistilCSEError]], ...] = (
    (senteval.UsageError, UsageError),
    (senteval.DataError, DataError),
    (senteval.EncodingError, ModelError),
)
_WHERE_DATA_IS = (
    "--data DIR names the folder that holds downstream/,"
    " as unpacked from senteval.tar of the hub's princeton-nlp/datasets-for-simcse"
)
_DAMAGED = "unpack senteval.tar again"


@contextmanager
def senteval_errors() -> Iterator[None]:
    """Raise an error of senteval as the kind of `DistilCSEError` that has its exit code, message and hint kept."""
    try:
        yield
    except senteval.SentEvalError as error:
        kind = next((ours for theirs, ours in _KINDS if isinstance(error, theirs)), DistilCSEError)
        is_missing = isinstance(error, senteval.DataError) and not all(file.is_file() for file in error.files)
        hint = error.hint or (_DAMAGED if kind is DataError else None)
        raise kind(error.message, hint=_WHERE_DATA_IS if is_missing else hint) from error
