"""What the hub, or something between us and it, says instead of sending: one line each.

No text of an exception of the HTTP client is ever repeated: it may hold a token, or an address
with a password or a signature in it.
"""

import os
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from distilcse_cli.catalogue.retries import TransientError
from distilcse_cli.errors import NetworkError

_TRANSIENT_STATUSES = {408, 425, 429, 500, 502, 503, 504}
_HOPELESS = ("UnsupportedProtocol", "LocalProtocolError", "TooManyRedirects", "DecodingError", "InvalidURL")
KEPT = "what has arrived is kept: the same command again goes on from there"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the hub was asked for."""

    repo: str
    """`owner/name`."""
    repo_type: str = "model"
    """`model` or `dataset`."""
    revision: str | None = None
    """Branch, tag or commit."""
    file: str | None = None
    """Path of a file in it; None where it is the list of files."""

    @property
    def label(self) -> str:
        """What to call it in a message."""
        repo = f"{'data set' if self.repo_type == 'dataset' else 'model'} {self.repo}"
        return f"{self.file} of {repo}" if self.file else repo

    @property
    def page(self) -> str:
        """Its page at the endpoint in use."""
        return f"{endpoint()}/{'datasets/' if self.repo_type == 'dataset' else ''}{self.repo}"


def endpoint() -> str:
    """The hub's address for a message: host and path, without user, password and query."""
    from huggingface_hub import constants

    return public_address(constants.ENDPOINT)


def public_address(url: str) -> str:
    """An address without what must stay secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def public_text(text: str) -> str:
    """A foreign text in one line, without the users, passwords and signatures of its addresses and without tokens."""
    text = re.sub(r"(\w://)[^\s/@]*@", r"\1", " ".join(text.split()))
    text = re.sub(r"(\w://[^\s?'\"<>]*)\?[^\s'\"<>)]*", r"\1", text)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        text = text.replace(os.environ.get(name) or "\0", f"${name}")
    return re.sub(r"\bhf_\w{8,}", "hf_…", text)


def check_endpoint() -> None:
    """Check `HF_ENDPOINT` before the hub client does, which cannot even be imported with some values of it.

    Raises:
        NetworkError: it is no address of a web server.
    """
    value = os.environ.get("HF_ENDPOINT")
    if not value:
        return
    try:
        parts = urlsplit(value)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # a port that is no number
        is_address = False
    if not is_address:
        raise NetworkError("HF_ENDPOINT is no address of a hub", hint="such as https://huggingface.co, or unset it")


def from_hub(asked: Asked, error: Exception, *, advanced: bool = False) -> Exception:
    """The failure to raise for what the hub client or its HTTP client has raised.

    Args:
        asked: what was asked for.
        error: what was raised.
        advanced: whether bytes had arrived before.

    Returns:
        A `TransientError` if trying again may help, else a `NetworkError`.
    """
    from huggingface_hub import errors

    label = asked.label
    chain = list(_chain(error))
    if isinstance(error, errors.OfflineModeIsEnabled):
        return NetworkError(f"{label} is not here, and HF_HUB_OFFLINE forbids to download it", hint="unset it once")
    response = next((found for cause in chain if (found := getattr(cause, "response", None)) is not None), None)
    if isinstance(error, errors.HTTPError) and response is not None:
        return status(asked, response)
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in chain):
        return NetworkError(
            f"{endpoint()} shows a certificate that is not trusted here",
            hint="a login page of the network, or a proxy: log in, or name its certificate with SSL_CERT_FILE",
        )
    name = type(error).__name__
    if isinstance(error, UnicodeError) or name == "LocalProtocolError":
        return NetworkError(f"cannot ask for {label}: HF_TOKEN or HF_ENDPOINT holds odd characters", hint="check both")
    if not isinstance(error, errors.HTTPError):
        return not_the_hub(asked)
    if name in _HOPELESS:
        return NetworkError(f"cannot ask {endpoint()} for {label}: {_words(name)}", hint="check HF_ENDPOINT")
    reason = _reason(chain, name)
    if advanced:
        return TransientError(f"{label}: the connection broke ({reason})", hint=KEPT, advanced=True)
    hint = "check the connection, HF_ENDPOINT and proxy settings (HTTPS_PROXY, NO_PROXY)"
    is_unlikely = name in ("ConnectError", "ProxyError")
    return TransientError(f"cannot have {label} from {endpoint()}: {reason}", hint=hint, is_unlikely=is_unlikely)


def not_the_hub(asked: Asked) -> NetworkError:
    """The answer is no answer of a hub, such as the login page of a hotel."""
    return NetworkError(
        f"{endpoint()} answers with something else than {asked.label}, perhaps a login page of the network",
        hint="open it in a browser and log in, or check HF_ENDPOINT",
    )


def status(asked: Asked, response: Any) -> Exception:
    """The failure to raise for an answer with a status that is no success; see `from_hub`."""
    label = asked.label
    status, code = response.status_code, response.headers.get("X-Error-Code")
    if status in _TRANSIENT_STATUSES:
        wait = response.headers.get("Retry-After", "").strip()
        retry_after = float(wait) if wait.isascii() and wait.isdigit() else None
        said = "the hub asks to slow down (429)" if status == 429 else f"the hub answers {status}"
        hint = "wait some minutes; set HF_TOKEN for a higher limit" if status == 429 else f"try later; {KEPT}"
        return TransientError(f"{said} when asked for {label}", hint=hint, retry_after=retry_after)
    if code == "RevisionNotFound":
        return NetworkError(f"the hub's {label} has no revision {asked.revision}", hint="a branch, tag or full commit")
    if code == "EntryNotFound":
        return NetworkError(f"the hub has no {label}", hint="it was moved or removed; name another --revision")
    if status == 403 or code == "GatedRepo":
        return NetworkError(
            f"the hub does not hand out {label} to you ({status})",
            hint=f"accept its terms at {asked.page}, then set HF_TOKEN",
        )
    if status in (401, 404):
        return NetworkError(
            f"the hub has no {label}, or a private one ({status})",
            hint="check the name; for a private one set HF_TOKEN",
        )
    return NetworkError(f"the hub answers {status} when asked for {label}", hint="try again later")


def _reason(chain: list[BaseException], name: str) -> str:
    """Why the connection failed, in the words of the operating system where it has some."""
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
