"""Trying again: what is worth it, how long to wait, and when to give up."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from distilcse_cli import console
from distilcse_cli.errors import NetworkError

_T = TypeVar("_T")


class TransientError(Exception):
    """A failure that may be gone in a moment.

    Args:
        message: what is said when it is not.
        hint: what to do then.
        retry_after: seconds that the server asks to wait.
        advanced: whether more has arrived than ever before, so that patience starts anew.
        is_unlikely: whether it is the kind of failure that seldom passes, and so deserves less of it.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        retry_after: float | None = None,
        advanced: bool = False,
        is_unlikely: bool = False,
    ) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint
        self.retry_after, self.advanced, self.is_unlikely = retry_after, advanced, is_unlikely


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How often to try again, and how long to wait before that."""

    num_retries: int = 5
    """Failures in a row, none of which brought anything, after which to give up: one more than this."""
    num_unlikely: int = 2
    """The same, for failures that seldom pass: nobody waits half a minute to hear that there is no network."""
    first_delay: float = 1.0
    """Seconds before the first retry; each further one waits twice as long."""
    longest_delay: float = 30.0
    """Most seconds to wait by our own choice."""
    longest_wait: float = 120.0
    """Most seconds to wait when the server asks for it; a server that asks for more is left alone."""

    def delay(self, num_failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        return min(self.first_delay * 2.0 ** (num_failures - 1), self.longest_delay)


PATIENCE = Patience()


def persist(attempt: Callable[[], _T]) -> _T:
    """Call `attempt` until it does not fail with a `TransientError`, waiting longer each time.

    Raises:
        NetworkError: patience has run out, or the server asks for more of it than there is.
    """
    num_failures = 0
    while True:
        try:
            return attempt()
        except TransientError as failure:
            num_failures = 1 if failure.advanced else num_failures + 1
            wait = max(PATIENCE.delay(num_failures), failure.retry_after or 0.0)
            if num_failures > (PATIENCE.num_unlikely if failure.is_unlikely else PATIENCE.num_retries):
                message = f"{failure.message}, {num_failures} times in a row"
                raise NetworkError(message, hint=failure.hint) from failure
            if (failure.retry_after or 0.0) > PATIENCE.longest_wait:
                message = f"{failure.message}, and asks to wait {console.duration(wait)}"
                raise NetworkError(message, hint="the same command again later") from failure
            console.log(f"{failure.message}; trying again in {console.duration(wait)}")
            time.sleep(wait)
