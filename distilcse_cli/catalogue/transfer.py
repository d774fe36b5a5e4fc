"""One file of the hub to disk: resumed where it stopped, and checked.

huggingface_hub's own transfer deletes its partial file when it gives up, resumes without asking whether the content
has changed, and logs addresses with their signatures. So we move the bytes, through the client's session: its
proxies, certificates, token and offline switch apply, and the token is not sent to a host that the hub redirects to.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilcse_cli.catalogue import refusals
from distilcse_cli.catalogue.refusals import Target, TransientError, persist
from distilcse_cli.errors import NetworkError
from distilcse_cli.files import sha256_file

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
Count = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file of the hub, and what is known about it before the transfer."""

    target: Target
    """Repository and path."""
    url: str
    """Its address."""
    num_bytes: int | None
    """Its size; None if the hub does not say."""
    sha256: str | None = None
    """Of its content, for a large file."""
    git_sha1: str | None = None
    """Git's hash of its content, for a small file."""

    def part(self, kept: Path) -> Path:
        """Where in `kept` its bytes are gathered. Another path or other content gives another name."""
        identity = f"{self.target.file}\0{self.sha256 or self.git_sha1 or self.url}"
        return kept / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.part"

    def is_right(self, path: Path) -> bool:
        """Whether a file has the size and hash that the hub has announced."""
        if self.num_bytes is not None and path.stat().st_size != self.num_bytes:
            return False
        if self.sha256 is not None:
            return sha256_file(path) == self.sha256
        return self.git_sha1 is None or _git_sha1(path) == self.git_sha1


def kept_bytes(remote: RemoteFile, kept: Path) -> int:
    """How many bytes of a file arrived in earlier runs."""
    part = remote.part(kept)
    return part.stat().st_size if part.is_file() else 0


def move(remote: RemoteFile, kept: Path, count: Count) -> Path:
    """Download a file, starting from the part of it that is in `kept`.

    Args:
        remote: the file.
        kept: folder for parts of files. It stays if the transfer fails.
        count: called with the number of bytes as they arrive, and with a negative one when some are thrown away.

    Returns:
        The whole file in `kept`, its size and hash checked.

    Raises:
        NetworkError: the hub refuses, breaks off too often, or sends the wrong bytes, which are deleted.
    """
    kept.mkdir(exist_ok=True)
    part = remote.part(kept)
    is_resumed = part.is_file()
    part.touch()
    most = part.stat().st_size

    def attempt() -> None:
        nonlocal most
        try:
            _receive(remote, part, count)
        except TransientError as failure:
            size = part.stat().st_size
            failure.has_advanced, most = size > most, max(size, most)
            if failure.is_stale:
                failure.has_advanced = False
                _discard(part, count)
            raise

    for _ in range(2 if is_resumed else 1):  # a kept part may have been damaged on disk: then once more from the start
        persist(attempt)
        if remote.is_right(part):
            return part
        _discard(part, count)
    raise NetworkError(
        f"what the hub sent for {remote.target.label} is not the file it announced: deleted",
        hint="try again; if this repeats, a proxy or mirror (HF_ENDPOINT) changes the files",
    )


def _stale(message: str) -> TransientError:
    return TransientError(message=message, is_stale=True)


def _receive(remote: RemoteFile, part: Path, count: Count) -> None:
    """Append to `part` what is missing."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled
    from huggingface_hub.utils import build_hf_headers, get_session

    start = part.stat().st_size
    if remote.num_bytes is not None and start == remote.num_bytes:
        return
    if remote.num_bytes is not None and start > remote.num_bytes:
        raise _stale(f"the kept part of {remote.target.label} is larger than the file")
    # a range of a compressed answer would count other bytes than ours
    headers = {"Accept-Encoding": "identity"} | _resume_headers(remote, part, start)
    try:
        headers = build_hf_headers(library_name="distilcse") | headers
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        session = get_session()
        with session.stream("GET", remote.url, headers=headers, timeout=timeout, follow_redirects=True) as response:
            if response.status_code == 416:
                raise _stale(f"the hub has no such part of {remote.target.label}")
            if response.status_code not in (200, 206):
                raise refusals.from_status(remote.target, response)
            begin = _agree(remote, response, start)
            if begin != start:  # the server sends all of it, though we asked for the rest
                _discard(part, count)
            _keep_etag(part, response)
            _append(remote, response, part, begin, count)
    except (HTTPError, OfflineModeIsEnabled, UnicodeError) as error:
        raise refusals.from_hub(remote.target, error, has_part=part.stat().st_size > 0) from error


def _resume_headers(remote: RemoteFile, part: Path, start: int) -> dict[str, str]:
    """Ask for the rest unless the content has changed. Ask for all of it if a change would go unnoticed."""
    etag = _read_etag(part)
    if start == 0 or (etag is None and remote.sha256 is None and remote.git_sha1 is None):
        return {}
    return {"Range": f"bytes={start}-"} | ({"If-Range": etag} if etag is not None else {})


def _agree(remote: RemoteFile, response: Any, start: int) -> int:
    """Check what the server is about to send; return the byte of the file at which it begins."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "text/html" and not (remote.target.file or "").endswith((".html", ".htm")):
        raise refusals.not_the_hub(remote.target)
    is_encoded = response.headers.get("Content-Encoding", "identity").lower() not in ("identity", "")
    announced = response.headers.get("Content-Length", "") if not is_encoded else ""
    if response.status_code == 206:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if is_encoded or found is None or int(found.group(1)) != start:
            raise _stale(f"the hub sends another part of {remote.target.label} than requested")
        announced = found.group(3)
    if remote.num_bytes is not None and announced.isdecimal() and int(announced) != remote.num_bytes:
        raise NetworkError(
            f"the hub is about to send {int(announced):,} bytes for {remote.target.label}, which has "
            f"{remote.num_bytes:,}",
            hint="try again later; a proxy or mirror (HF_ENDPOINT) may be at fault",
        )
    return start if response.status_code == 206 else 0


def _append(remote: RemoteFile, response: Any, part: Path, start: int, count: Count) -> None:
    # unbuffered, so that all that has arrived survives a kill
    with part.open("ab", buffering=0) as file:
        for chunk in response.iter_bytes():
            start += len(chunk)
            if remote.num_bytes is not None and start > remote.num_bytes:
                raise _stale(f"the hub sends more than the {remote.num_bytes:,} bytes of {remote.target.label}")
            rest = memoryview(chunk)
            while rest:  # a disk that is nearly full takes a piece, and fails at the next
                rest = rest[file.write(rest) :]
            count(len(chunk))
    if remote.num_bytes is not None and start < remote.num_bytes:
        message = f"{remote.target.label} ended after {start:,} of {remote.num_bytes:,} bytes"
        raise TransientError(message=message, hint=refusals.KEPT)


def _etag_file(part: Path) -> Path:
    return part.with_suffix(".etag")


def _keep_etag(part: Path, response: Any) -> None:
    """Keep the server's mark of this content, unless it is weak, which does not promise the same bytes."""
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


def _discard(part: Path, count: Count) -> None:
    count(-part.stat().st_size)
    part.open("wb").close()
    _etag_file(part).unlink(missing_ok=True)


def _git_sha1(path: Path) -> str:
    """Git's name of a file's content: sha1 of a header with the size, and of the bytes."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
