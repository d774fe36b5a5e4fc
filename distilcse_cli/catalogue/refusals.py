"""One-line errors for every answer of the hub, or of a proxy, that is not the file; and when to ask again.

The text of an HTTP client's exception is never repeated: it may hold a token, or an address with a password or a
signature.
"""

import os
import re
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from distilcse_cli import console
from distilcse_cli.errors import NetworkError

_T = TypeVar("_T")
_TRANSIENT_STATUSES = {408, 425, 429, 500, 502, 503, 504}
_HOPELESS = ("UnsupportedProtocol", "LocalProtocolError", "TooManyRedirects", "DecodingError", "InvalidURL")
KEPT = "what has arrived is kept: run the same command again to resume"


@dataclass(kw_only=True, eq=False)
class TransientError(Exception):
    """A failure that may pass."""

    message: str
    """For the user, if it does not pass."""
    hint: str | None = None
    """What to do then."""
    retry_after: float = 0.0
    """Seconds that the server asks us to wait."""
    is_unlikely: bool = False
    """Whether it seldom passes, so that fewer retries are made."""
    is_stale: bool = False
    """Whether the part that is kept does not fit what the server has now."""
    has_advanced: bool = False
    """Whether more bytes have arrived than ever before. Retries are counted from zero then."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How often to try again, and how long to wait before that."""

    num_retries: int = 5
    """Retries after failures in a row that brought nothing new."""
    num_unlikely: int = 2
    """The same for failures that seldom pass: nobody waits half a minute to hear that there is no network."""
    first_delay: float = 1.0
    """Seconds before the first retry. Each further delay is twice as long."""
    longest_delay: float = 30.0
    """Longest delay that we choose, in seconds."""
    longest_wait: float = 120.0
    """Longest delay that a server may ask for, in seconds. If it asks for more, we give up."""


PATIENCE = Patience()


def persist(attempt: Callable[[], _T]) -> _T:
    """Call `attempt` again after each `TransientError`, with growing delays; return what it returns.

    Raises:
        NetworkError: too many failures in a row, or the server asks for too long a delay.
    """
    num_failures = 0
    while True:
        try:
            return attempt()
        except TransientError as failure:
            num_failures = 1 if failure.has_advanced else num_failures + 1
            delay = min(PATIENCE.first_delay * 2.0 ** (num_failures - 1), PATIENCE.longest_delay)
            wait = max(delay, failure.retry_after)
            if num_failures > (PATIENCE.num_unlikely if failure.is_unlikely else PATIENCE.num_retries):
                message = f"{failure.message}, {num_failures} times in a row"
                raise NetworkError(message, hint=failure.hint) from failure
            if failure.retry_after > PATIENCE.longest_wait:
                message = f"{failure.message}, and asks to wait {console.duration(wait)}"
                raise NetworkError(message, hint="run the same command again later") from failure
            console.log(f"{failure.message}; trying again in {console.duration(wait)}")
            time.sleep(wait)


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a request to the hub is for."""

    repo: str
    """`owner/name`."""
    repo_type: str = "model"
    """`model` or `dataset`."""
    revision: str | None = None
    """Branch, tag or commit."""
    file: str | None = None
    """Path of a file in the repository; None for its list of files."""

    @property
    def label(self) -> str:
        """Its name in a message."""
        repo = f"{'data set' if self.repo_type == 'dataset' else 'model'} {self.repo}"
        return f"{self.file} of {repo}" if self.file else repo

    @property
    def page(self) -> str:
        """Its page at the endpoint in use."""
        return f"{endpoint()}/{'datasets/' if self.repo_type == 'dataset' else ''}{self.repo}"


def endpoint() -> str:
    """The hub's address for a message: host and path, without user, password and query."""
    from huggingface_hub import constants

    parts = urlsplit(constants.ENDPOINT)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def public_text(text: str) -> str:
    """Put a foreign text into one line, without tokens and without users, passwords and queries of addresses."""
    text = re.sub(r"(\w://)[^\s/@]*@", r"\1", " ".join(text.split()))
    text = re.sub(r"(\w://[^\s?'\"<>]*)\?[^\s'\"<>)]*", r"\1", text)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        text = text.replace(os.environ.get(name) or "\0", f"${name}")
    return re.sub(r"\bhf_\w{8,}", "hf_…", text)


def check_endpoint() -> None:
    """Check `HF_ENDPOINT` and `SSL_CERT_FILE` before the hub client is imported, which fails with some values.

    Raises:
        NetworkError: no address of a web server, or no file of certificates.
    """
    if certificates := os.environ.get("SSL_CERT_FILE"):
        try:
            ssl.create_default_context(cafile=certificates)
        except (OSError, ValueError) as error:
            reason = (
                "it holds no certificates" if isinstance(error, ssl.SSLError) else getattr(error, "strerror", error)
            )
            raise NetworkError(
                f"SSL_CERT_FILE names {certificates}: {reason}", hint="name a file of PEM certificates, or unset it"
            ) from error
    value = os.environ.get("HF_ENDPOINT")
    if not value:
        return
    try:
        parts = urlsplit(value)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # the port is no number
        is_address = False
    if not is_address:
        raise NetworkError("HF_ENDPOINT is not an address of a hub", hint="such as https://huggingface.co, or unset it")


def from_hub(target: Target, error: Exception, *, has_part: bool = False) -> Exception:
    """Translate an exception of the hub client or its HTTP client.

    Args:
        target: what the request was for.
        error: the exception.
        has_part: whether some bytes of the file are here.

    Returns:
        A `TransientError` if trying again may help, else a `NetworkError`.
    """
    from huggingface_hub import errors

    label = target.label
    chain = list(_chain(error))
    if isinstance(error, errors.OfflineModeIsEnabled):
        return NetworkError(f"{label} is not here, and HF_HUB_OFFLINE forbids to download it", hint="unset it")
    response = next((found for cause in chain if (found := getattr(cause, "response", None)) is not None), None)
    if isinstance(error, errors.HTTPError) and response is not None:
        return from_status(target, response)
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in chain):
        return NetworkError(
            f"{endpoint()} shows a certificate that is not trusted here",
            hint="log in to the network if it has a login page, or name a proxy's certificate with SSL_CERT_FILE",
        )
    name = type(error).__name__
    if isinstance(error, UnicodeError) or name == "LocalProtocolError":
        return NetworkError(f"cannot ask for {label}: HF_TOKEN or HF_ENDPOINT holds odd characters", hint="check both")
    if not isinstance(error, errors.HTTPError):
        return not_the_hub(target)
    if name in _HOPELESS:
        return NetworkError(f"cannot ask {endpoint()} for {label}: {_words(name)}", hint="check HF_ENDPOINT")
    reason = _reason(chain, name)
    if has_part:
        return TransientError(message=f"{label}: the connection broke ({reason})", hint=KEPT)
    return TransientError(
        message=f"cannot get {label} from {endpoint()}: {reason}",
        hint="check the connection, HF_ENDPOINT and proxy settings (HTTPS_PROXY, NO_PROXY)",
        is_unlikely=name in ("ConnectError", "ProxyError"),
    )


def not_the_hub(target: Target) -> NetworkError:
    """The error for an answer that is not a hub's, such as a hotel's login page."""
    return NetworkError(
        f"{endpoint()} answers with something other than {target.label}, perhaps a login page of the network",
        hint="open it in a browser and log in, or check HF_ENDPOINT",
    )


def from_status(target: Target, response: Any) -> Exception:
    """Translate an answer whose status is no success; returns what `from_hub` does."""
    label = target.label
    status, code = response.status_code, response.headers.get("X-Error-Code")
    if status in _TRANSIENT_STATUSES:
        wait = response.headers.get("Retry-After", "").strip()
        said = "the hub asks to slow down (429)" if status == 429 else f"the hub answers {status}"
        return TransientError(
            message=f"{said} when asked for {label}",
            hint="wait some minutes; HF_TOKEN raises the limit" if status == 429 else f"try later; {KEPT}",
            retry_after=float(wait) if wait.isascii() and wait.isdigit() else 0.0,
        )
    if code == "RevisionNotFound":
        return NetworkError(f"the hub's {label} has no revision {target.revision}", hint="a branch, tag or full commit")
    if code == "EntryNotFound":
        return NetworkError(f"the hub has no {label}", hint="it was moved or removed; name another --revision")
    if status == 403 or code == "GatedRepo":
        return NetworkError(
            f"the hub does not hand out {label} to you ({status})",
            hint=f"accept its terms at {target.page}, then set HF_TOKEN",
        )
    if status in (401, 404):
        return NetworkError(
            f"the hub has no {label}, or a private one ({status})",
            hint="check the name; for a private one set HF_TOKEN",
        )
    return NetworkError(f"the hub answers {status} when asked for {label}", hint="try again later")


def reason(error: BaseException) -> str:
    """Why there is no answer, in a few words and without anything secret."""
    return _reason(list(_chain(error)), type(error).__name__)


def _reason(chain: list[BaseException], name: str) -> str:
    """Why the connection failed, in the operating system's words if there are any."""
    for cause in reversed(chain):
        if isinstance(cause, OSError) and cause.strerror and not isinstance(cause, ssl.SSLError):
            return cause.strerror
    return {
        "RemoteProtocolError": "connection cut",
        "ReadError": "connection cut",
        "ReadTimeout": "no answer in time",
        "ConnectTimeout": "no connection in time",
        "ProxyError": "the proxy refuses",
    }.get(name, _words(name))


def _words(name: str) -> str:
    """`TooManyRedirects` as `too many redirects`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__
