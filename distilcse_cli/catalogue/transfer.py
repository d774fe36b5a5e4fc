"""One file of the hub to disk: from where it stopped, and only if it is the right one.

The hub client of today throws a broken transfer away when it gives up or is killed, so the bytes
are moved here, over the client's own session: its proxies, certificates, token and offline switch
hold, and the token stays behind when another host is redirected to.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilcse_cli.catalogue import refusals
from distilcse_cli.catalogue.refusals import Asked
from distilcse_cli.catalogue.retries import TransientError, persist
from distilcse_cli.errors import NetworkError
from distilcse_cli.files import sha256_file

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
Count = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file of the hub, and what is known of it before it is moved."""

    asked: Asked
    """Which one."""
    url: str
    """Where the hub has it."""
    num_bytes: int | None
    """Its size; None where the hub does not say."""
    sha256: str | None = None
    """Of its content, for a large file."""
    git_sha1: str | None = None
    """Git's hash of its content, for a small one."""

    @property
    def key(self) -> str:
        """Name for its kept part: another place or another content has another one."""
        content = self.sha256 or self.git_sha1 or self.url
        return hashlib.sha256(f"{self.asked.file}\0{content}".encode()).hexdigest()[:32]

    def is_right(self, path: Path) -> bool:
        """Whether a file has the size and hash that the hub has announced."""
        if self.num_bytes is not None and path.stat().st_size != self.num_bytes:
            return False
        if self.sha256 is not None:
            return sha256_file(path) == self.sha256
        return self.git_sha1 is None or _git_sha1(path) == self.git_sha1


class _StaleError(Exception):
    """What is kept does not fit what the server has now."""


def kept_bytes(remote: RemoteFile, kept: Path) -> int:
    """How much of a file has arrived before."""
    part = _part(remote, kept)
    return part.stat().st_size if part.is_file() else 0


def move(remote: RemoteFile, kept: Path, count: Count) -> Path:
    """Bring a file here, going on from the part of it that is in `kept`.

    Args:
        remote: the file.
        kept: folder for parts of files, which stays when this fails.
        count: told the number of bytes as they arrive, and a negative one when some are thrown away.

    Returns:
        The whole file in `kept`, its size and hash checked.

    Raises:
        NetworkError: the hub refuses, breaks off too often, or sends something else; in the last
            case nothing of it is kept.
    """
    kept.mkdir(exist_ok=True)
    part = _part(remote, kept)
    resumed = part.is_file()
    part.touch()
    best = part.stat().st_size

    def attempt() -> None:
        nonlocal best, resumed
        before = best
        try:
            _receive(remote, part, count)
        except _StaleError as stale:
            _discard(part, count)
            raise TransientError(str(stale), advanced=False) from stale
        except TransientError as failure:
            best = max(best, part.stat().st_size)
            failure.advanced = best > before
            raise

    while True:
        persist(attempt)
        if remote.is_right(part):
            return part
        _discard(part, count)
        if not resumed:
            raise NetworkError(
                f"what the hub sent for {remote.asked.label} is not the file it announced: deleted",
                hint="try again; if it stays so, a proxy or mirror (HF_ENDPOINT) changes what it passes on",
            )
        resumed = False  # a part that was kept may have been damaged on disk: once more, from the start


def _receive(remote: RemoteFile, part: Path, count: Count) -> None:
    """Append to `part` what is missing."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled
    from huggingface_hub.utils import build_hf_headers, get_session

    start = part.stat().st_size
    if remote.num_bytes is not None and start == remote.num_bytes:
        return
    if remote.num_bytes is not None and start > remote.num_bytes:
        raise _StaleError(f"more of {remote.asked.label} is here than there is")
    # compressed on the way, a range would count other bytes than ours
    headers = {"Accept-Encoding": "identity"} | _resume_headers(remote, part, start)
    try:
        headers = build_hf_headers(library_name="distilcse") | headers
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        session = get_session()
        with session.stream("GET", remote.url, headers=headers, timeout=timeout, follow_redirects=True) as response:
            if response.status_code == 416:
                raise _StaleError(f"the hub has no such part of {remote.asked.label}")
            if response.status_code not in (200, 206):
                raise refusals.status(remote.asked, response)
            start = _agree(remote, response, start, part, count)
            _keep_etag(part, response)
            _append(remote, response, part, start, count)
    except (HTTPError, OfflineModeIsEnabled, UnicodeError) as error:
        raise refusals.from_hub(remote.asked, error, advanced=part.stat().st_size > 0) from error


def _resume_headers(remote: RemoteFile, part: Path, start: int) -> dict[str, str]:
    """Ask for the rest, unless the content has changed since; nothing where that could not be noticed."""
    etag = _read_etag(part)
    if start == 0:
        return {}
    if etag is not None:
        return {"Range": f"bytes={start}-", "If-Range": etag}
    if remote.sha256 is not None or remote.git_sha1 is not None:
        return {"Range": f"bytes={start}-"}
    return {}


def _agree(remote: RemoteFile, response: Any, start: int, part: Path, count: Count) -> int:
    """Check what the server is about to send; returns where in the file it begins."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "text/html" and not (remote.asked.file or "").endswith((".html", ".htm")):
        raise refusals.not_the_hub(remote.asked)
    encoded = response.headers.get("Content-Encoding", "identity").lower() not in ("identity", "")
    length = response.headers.get("Content-Length", "")
    if response.status_code == 206:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        total = found.group(3) if found else None
        if encoded or found is None or int(found.group(1)) != start:
            raise _StaleError(f"the hub sends another part of {remote.asked.label} than asked for")
        if remote.num_bytes is not None and total not in ("*", str(remote.num_bytes)):
            raise _wrong_length(remote, str(total))
        return start
    if remote.num_bytes is not None and not encoded and length.isdigit() and int(length) != remote.num_bytes:
        raise _wrong_length(remote, length)
    if start:
        count(-start)  # the server sends it all, whatever was asked for
        _truncate(part)
    return 0


def _wrong_length(remote: RemoteFile, length: str) -> NetworkError:
    return NetworkError(
        f"the hub is about to send {int(length):,} bytes for {remote.asked.label}, which has {remote.num_bytes:,}",
        hint="try again later; a proxy or mirror (HF_ENDPOINT) may be at fault",
    )


def _append(remote: RemoteFile, response: Any, part: Path, start: int, count: Count) -> None:
    # unbuffered, so that whatever has arrived survives a kill
    with part.open("ab", buffering=0) as file:
        for chunk in response.iter_bytes():
            start += len(chunk)
            if remote.num_bytes is not None and start > remote.num_bytes:
                raise _StaleError(f"the hub sends more than the {remote.num_bytes:,} bytes of {remote.asked.label}")
            rest = memoryview(chunk)
            while rest:  # a disk that is nearly full takes a part, and says so when it is given the rest
                rest = rest[file.write(rest) :]
            count(len(chunk))
    if remote.num_bytes is not None and start < remote.num_bytes:
        raise TransientError(
            f"{remote.asked.label} ended after {start:,} of {remote.num_bytes:,} bytes", hint=refusals.KEPT
        )


def _part(remote: RemoteFile, kept: Path) -> Path:
    return kept / f"{remote.key}.part"


def _etag_file(part: Path) -> Path:
    return part.with_suffix(".etag")


def _keep_etag(part: Path, response: Any) -> None:
    """Remember the server's name for this content; a weak one does not promise the same bytes."""
    etag = response.headers.get("ETag", "")
    if etag.startswith('"') and etag.endswith('"'):
        _etag_file(part).write_text(json.dumps(etag), encoding="utf-8")
    else:
        _etag_file(part).unlink(missing_ok=True)


def _read_etag(part: Path) -> str | None:
    try:
        etag = json.loads(_etag_file(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return etag if isinstance(etag, str) and etag.isascii() and etag.isprintable() else None


def _truncate(part: Path) -> None:
    part.open("wb").close()


def _discard(part: Path, count: Count) -> None:
    count(-part.stat().st_size)
    _truncate(part)
    _etag_file(part).unlink(missing_ok=True)


def _git_sha1(path: Path) -> str:
    """Git's name of a file's content: sha1 over a header with the size, and the bytes."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
