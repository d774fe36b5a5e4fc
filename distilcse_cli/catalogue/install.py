"""From a source to a folder of the data home: locked, checked, whole or not at all.

A folder under its final name is complete: files are gathered in a scratch folder beside it and
renamed at the end. Whoever holds the lock is the only one at work on a folder, so a scratch
folder found by the holder was left by a killed process and is swept away. What a source can go on
from lies in a third folder, `.NAME.partial`, until the download is done.
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
from distilcse_cli.catalogue.licenses import LicenseStatement
from distilcse_cli.catalogue.offline import require_network
from distilcse_cli.errors import DataError, NetworkError
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
    revision: str | None = None
    """Commit of a repository."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a source puts things, all on one file system."""

    files: Path
    """Empty at first; becomes the final folder."""
    scratch: Path
    """Empty at first; removed at the end, whatever happens."""
    kept: Path
    """Parts to go on from. Need not exist; removed when all is done."""


class Source(Protocol):
    """Something that files can be had from."""

    @property
    def label(self) -> str:
        """Name and version; a folder made from another label is out of date."""

    @property
    def num_download_bytes(self) -> int | None:
        """Size of the transfer; None where only the source knows."""

    @property
    def num_unpacked_bytes(self) -> int | None:
        """Size of the files wanted; None where only the source knows."""

    @property
    def sha256(self) -> str | None:
        """Of the file transferred, where it is known before."""

    def retrieve(self, place: Place, *, quiet: bool) -> Provenance:
        """Put the wanted files, checked, into `place.files`.

        Raises:
            NetworkError: the source cannot be reached, or answers with something else.
            DataError: no room for it.
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
            if record is not None:
                return record
            require_network(source.label)
            return _install(source, folder, quiet=quiet)
    except OSError as error:
        hint = "make room or choose another data home with DISTILCSE_HOME"
        raise DataError(f"cannot write {folder}: {error.strerror or error}", hint=hint) from error


def tidy(folder: Path) -> None:
    """Remove what killed downloads of the finished `folder` left, unless one is at work or we may not."""
    if any(_leftovers(folder)) or _kept(folder).exists():
        try:
            with locked(folder, wait=False):
                _sweep(folder)
                shutil.rmtree(_kept(folder), ignore_errors=True)
        except OSError:
            pass


def damages(folder: Path) -> list[str]:
    """Compare the files of a finished download with their sizes and hashes on record; a line for each difference."""
    found = []
    try:
        for file in read_json(folder / RECORD)["files"]:
            path = folder / file["path"]
            if not path.is_file():
                found.append(f"{path} is missing")
            elif path.stat().st_size != file["bytes"]:
                found.append(f"{path} has {path.stat().st_size:,} bytes, not {file['bytes']:,}")
            elif (sha256 := sha256_file(path)) != file["sha256"]:
                found.append(f"{path} has sha256 {sha256}, not {file['sha256']}")
    except (DataError, OSError, KeyError, TypeError) as error:
        found.append(f"{folder / RECORD} cannot be read: {error}")
    return found


def remove(folder: Path) -> bool:
    """Remove a download, whole or begun; returns whether there was any.

    Raises:
        DataError: no permission, or a folder of that name that is not ours.
    """
    kept = _kept(folder)
    if not folder.exists() and not kept.exists() and not any(_leftovers(folder)):
        return False
    if folder.exists():
        _refuse_foreign(folder)
    try:
        with locked(folder):
            _sweep(folder)
            for place in (folder, kept):
                if place.exists():
                    # renamed first, so that a kill in between leaves no half of it under its name
                    gone = Path(tempfile.mkdtemp(prefix=_scratch_prefix(folder), dir=folder.parent)) / place.name
                    place.rename(gone)
            _sweep(folder)
    except OSError as error:
        raise DataError(f"cannot remove {folder}: {error.strerror or error}") from error
    return True


def _refuse_foreign(folder: Path) -> None:
    if not (folder / RECORD).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is in the way: it was not made by distilcse download", hint="move it elsewhere")


def _install(source: Source, folder: Path, *, quiet: bool) -> dict[str, Any]:
    if folder.exists():
        _refuse_foreign(folder)
    kept = _kept(folder)
    prefix = _scratch_prefix(folder)
    # what cannot be removed now is swept by the next run: no reason to fail a good download
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent, ignore_cleanup_errors=True) as name:
        fresh, transfer = Path(name) / "files", Path(name) / "transfer"
        fresh.mkdir()
        transfer.mkdir()
        place = Place(files=fresh, scratch=transfer, kept=kept)
        provenance = source.retrieve(place, quiet=quiet)
        record = _record(folder.name, source, provenance, fresh)
        write_json(fresh / RECORD, record)
        _fsync_tree(fresh)
        if folder.exists():
            folder.rename(Path(name) / "replaced")
        fresh.rename(folder)
        fsync(folder.parent)
    shutil.rmtree(kept, ignore_errors=True)
    return record


def _record(name: str, source: Source, provenance: Provenance, folder: Path) -> dict[str, Any]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        "format": _RECORD_FORMAT,
        "name": name,
        "source": source.label,
        "url": provenance.url,
        "sha256": provenance.sha256,
        "revision": provenance.revision,
        "licenses": [asdict(statement) for statement in provenance.licenses],
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "distilcse": __version__,
        "files": [
            {"path": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size, "sha256": sha256_file(path)}
            for path in files
        ],
    }


def check_room(folder: Path, label: str, num_bytes: int) -> None:
    """Check that the disk of `folder` has room.

    Raises:
        DataError: it has not.
    """
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise DataError(
            f"{label} needs {num_bytes / 1e6:,.0f} MB of disk, but {folder} has {free / 1e6:,.0f} MB free",
            hint="make room or choose another data home with DISTILCSE_HOME",
        )


def check_sha256(path: Path, sha256: str) -> None:
    """Check a file against the hash that the catalogue knows.

    Raises:
        NetworkError: it is another file.
    """
    found = sha256_file(path)
    if found != sha256:
        raise NetworkError(
            f"{path.name} is not the file that the catalogue knows: its sha256 is {found}, not {sha256}",
            hint="nothing was kept; if a mirror or pip's cache is at fault, try another index or `pip cache purge`",
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


def _kept(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


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
