"""From a source to a folder of the data home: locked, checked, whole or not at all.

A folder under its final name is complete: files are gathered in a scratch folder beside it and
renamed at the end. Whoever holds the lock is the only one at work on a folder, so a scratch
folder found by the holder was left by a killed process and is swept away.
"""

import datetime
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from distilcse_cli import __version__, console
from distilcse_cli.data.licenses import LicenseStatement
from distilcse_cli.errors import DataError
from distilcse_cli.files import fsync, read_json, sha256_file, write_json

RECORD = "source.json"
LICENSES = "LICENSES"
_RECORD_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the files of a finished download are from."""

    url: str
    """Page of the source, without mirrors or credentials."""
    sha256: str | None
    """Of the file transferred; None where several were."""
    licenses: tuple[LicenseStatement, ...]
    """What the source states for itself."""


class Source(Protocol):
    """Something that files can be had from."""

    @property
    def label(self) -> str:
        """Name and version; a folder made from another label is out of date."""

    @property
    def num_download_bytes(self) -> int:
        """Size of the transfer."""

    @property
    def num_unpacked_bytes(self) -> int:
        """Size of the files wanted."""

    def retrieve(self, folder: Path, scratch: Path, *, quiet: bool) -> Provenance:
        """Put the wanted files, checked, into the empty `folder`, working in the empty `scratch`.

        Raises:
            NetworkError: the source cannot be reached, or answers with something else.
        """


def read_record(folder: Path, source: Source) -> dict[str, Any] | None:
    """The record of a whole and current folder; None if files are missing, cut short or outdated."""
    try:
        record = read_json(folder / RECORD)
        if record["source"] != source.label:
            return None
        whole = all((folder / file["path"]).stat().st_size == file["bytes"] for file in record["files"])
    except (DataError, OSError, KeyError, TypeError):
        return None
    return record if whole else None


def install(source: Source, folder: Path, *, quiet: bool) -> dict[str, Any]:
    """Fill `folder` from `source` unless that is done already; returns its record.

    Raises:
        NetworkError: the transfer failed or brought something else.
        DataError: no room, no permission, or a folder of that name that is not ours.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            _sweep(folder)
            record = read_record(folder, source)
            return record if record is not None else _install(source, folder, quiet=quiet)
    except OSError as error:
        hint = "make room or choose another data home with DISTILCSE_HOME"
        raise DataError(f"cannot write {folder}: {error.strerror or error}", hint=hint) from error


def tidy(folder: Path) -> None:
    """Remove what killed downloads of `folder` left, unless one is at work or we may not."""
    if any(_leftovers(folder)):
        try:
            with locked(folder, wait=False):
                _sweep(folder)
        except OSError:
            pass


def _install(source: Source, folder: Path, *, quiet: bool) -> dict[str, Any]:
    if folder.exists() and not (folder / RECORD).is_file() and any(folder.iterdir()):
        raise DataError(f"{folder} is in the way: it was not made by distilcse download", hint="move it elsewhere")
    _check_room(source, folder.parent)
    prefix = _scratch_prefix(folder)
    # what cannot be removed now is swept by the next run: no reason to fail a good download
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent, ignore_cleanup_errors=True) as name:
        fresh, transfer = Path(name) / "files", Path(name) / "transfer"
        fresh.mkdir()
        transfer.mkdir()
        provenance = source.retrieve(fresh, transfer, quiet=quiet)
        record = _record(folder.name, source, provenance, fresh)
        write_json(fresh / RECORD, record)
        _fsync_tree(fresh)
        if folder.exists():
            folder.rename(Path(name) / "replaced")
        fresh.rename(folder)
        fsync(folder.parent)
    return record


def _record(name: str, source: Source, provenance: Provenance, folder: Path) -> dict[str, Any]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        "format": _RECORD_FORMAT,
        "name": name,
        "source": source.label,
        "url": provenance.url,
        "sha256": provenance.sha256,
        "licenses": [asdict(statement) for statement in provenance.licenses],
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "distilcse": __version__,
        "files": [
            {"path": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size, "sha256": sha256_file(path)}
            for path in files
        ],
    }


def _check_room(source: Source, folder: Path) -> None:
    # a client may hold the transfer twice for a moment: its own temporary file and our copy
    needed = 2 * source.num_download_bytes + source.num_unpacked_bytes
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"{source.label} needs {needed / 1e6:,.0f} MB of disk, but {folder} has {free / 1e6:,.0f} MB free",
            hint="make room or choose another data home with DISTILCSE_HOME",
        )


@contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of `folder`; the kernel drops it when the process ends, however it ends.

    Raises:
        OSError: the lock file cannot be opened, or another holds it and `wait` is off.
    """
    # the lock file stays: removing it would let a third process lock a new one of the same name
    descriptor = os.open(folder.with_name(f".{folder.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise
            console.log(f"{folder.name}: another process is downloading it, waiting for that")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _scratch_prefix(folder: Path) -> str:
    return f".{folder.name}.tmp-"


def _leftovers(folder: Path) -> Iterator[Path]:
    return folder.parent.glob(f"{_scratch_prefix(folder)}*")


def _sweep(folder: Path) -> None:
    for leftover in _leftovers(folder):
        shutil.rmtree(leftover, ignore_errors=True)


def _fsync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        fsync(path)
    fsync(folder)
