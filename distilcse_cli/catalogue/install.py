"""From a source to a folder of the data home: locked, checked, whole or not at all.

A folder under its final name is complete: its files are gathered in a scratch folder beside it, which is renamed at
the end. Only the holder of the lock works on a folder. So the scratch folders that it finds were left by killed
processes, and it removes them. Parts that a source can resume are in a third folder, `.NAME.partial`, until the
download is complete.
"""

import datetime
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from distilcse_cli import __version__, console
from distilcse_cli.catalogue.licenses import LicenseStatement
from distilcse_cli.catalogue.offline import require_network
from distilcse_cli.errors import DataError, NetworkError
from distilcse_cli.files import Busy, fsync, lock, read_json, sha256_file, write_json

RECORD = "source.json"
LICENSES = "LICENSES"
_RECORD_FORMAT = 1
_MAKE_ROOM = "make room, or choose another data home with DISTILCSE_HOME"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the files of a finished download came from."""

    url: str
    """Page of the source, without mirrors or credentials."""
    sha256: str | None
    """Of the file transferred, joined if it came in pieces; None for several."""
    licenses: tuple[LicenseStatement, ...]
    """License statements of the source."""
    revision: str | None = None
    """Commit of a repository."""


@dataclass(frozen=True, kw_only=True)
class Folders:
    """The folders that a source fills, all on one file system."""

    files: Path
    """Becomes the final folder. Empty at first."""
    scratch: Path
    """For temporary files. Empty at first; always removed at the end."""
    kept: Path
    """For parts that a later run can resume. May not exist; removed once the download is complete."""


class Source(Protocol):
    """Something to download files from."""

    @property
    def label(self) -> str:
        """Name and version. A folder made from another label is out of date."""

    @property
    def num_download_bytes(self) -> int | None:
        """Size of the transfer; None if unknown before."""

    @property
    def num_unpacked_bytes(self) -> int | None:
        """Size of the files; None if unknown before."""

    @property
    def sha256(self) -> str | None:
        """Of the file transferred; None if unknown before."""

    def retrieve(self, folders: Folders, *, quiet: bool) -> Provenance:
        """Put the files, checked, into `folders.files`.

        Raises:
            NetworkError: the source is out of reach, or its answer is wrong.
            DataError: no room.
        """


def read_record(folder: Path, source: Source) -> dict[str, Any] | None:
    """Read the record of a complete and current folder; None if files are missing, cut short or out of date."""
    try:
        record = read_json(folder / RECORD)
        if record["source"] != source.label:
            return None
        is_whole = all((folder / file["path"]).stat().st_size == file["bytes"] for file in record["files"])
    except (DataError, OSError, KeyError, TypeError):
        return None
    return record if is_whole else None


def install(source: Source, folder: Path, *, command: str, quiet: bool) -> dict[str, Any]:
    """Fill `folder` from `source` unless it is complete; return its record. Errors name `command` as the way to it.

    Raises:
        NetworkError: the transfer failed, what arrived is wrong, or the network is forbidden.
        DataError: no room, no permission, or a folder of that name that we did not make.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            _sweep(folder)
            record = read_record(folder, source)
            if record is None:
                require_network(source.label, command)
                record = _install(source, folder, quiet=quiet)
            return record
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror or error}", hint=_MAKE_ROOM) from error


def tidy(folder: Path) -> None:
    """Remove what killed downloads left beside the complete `folder`, unless a download runs or we may not."""
    if any(_leftovers(folder)) or _kept(folder).exists():
        with suppress(Busy, OSError), locked(folder, wait=False):
            _sweep(folder)
            shutil.rmtree(_kept(folder), ignore_errors=True)


def damages(folder: Path) -> list[str]:
    """Compare the files of a finished download with their recorded sizes and hashes; return a line per difference."""
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
    """Remove a download, complete or not; return whether there was one.

    Raises:
        DataError: no permission, or a folder of that name that we did not make.
    """
    kept = _kept(folder)
    if not folder.exists() and not kept.exists() and not any(_leftovers(folder)):
        return False
    _refuse_foreign(folder)
    try:
        with locked(folder):
            _sweep(folder)
            for path in (folder, kept):
                if path.exists():
                    # renamed first, so that a kill meanwhile leaves no half folder under its name
                    path.rename(Path(tempfile.mkdtemp(prefix=_scratch_prefix(folder), dir=folder.parent)) / path.name)
            _sweep(folder)
    except OSError as error:
        raise DataError(f"cannot remove {folder}: {error.strerror or error}") from error
    return True


def _refuse_foreign(folder: Path) -> None:
    is_ours = (folder / RECORD).is_file() or (folder.is_dir() and not any(folder.iterdir()))
    if folder.exists() and not is_ours:
        raise DataError(f"{folder} is in the way: it was not made by distilcse download", hint="move it elsewhere")


def _install(source: Source, folder: Path, *, quiet: bool) -> dict[str, Any]:
    _refuse_foreign(folder)
    # what cannot be removed now is swept by the next run: no reason to fail a good download
    prefix = _scratch_prefix(folder)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent, ignore_cleanup_errors=True) as name:
        folders = Folders(files=Path(name) / "files", scratch=Path(name) / "transfer", kept=_kept(folder))
        folders.files.mkdir()
        folders.scratch.mkdir()
        provenance = source.retrieve(folders, quiet=quiet)
        record = _record(folder.name, source, provenance, folders.files)
        write_json(folders.files / RECORD, record)
        for path in (*folders.files.rglob("*"), folders.files):
            fsync(path)
        if folder.exists():
            folder.rename(Path(name) / "replaced")
        folders.files.rename(folder)
        fsync(folder.parent)
    shutil.rmtree(_kept(folder), ignore_errors=True)
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
        message = f"{label} needs {num_bytes / 1e6:,.0f} MB of disk, but {folder} has {free / 1e6:,.0f} MB free"
        raise DataError(message, hint=_MAKE_ROOM)


def check_sha256(path: Path, sha256: str) -> None:
    """Check a file against the hash in the catalogue.

    Raises:
        NetworkError: it is another file.
    """
    check_digest(path.name, sha256_file(path), sha256)


def check_digest(name: str, found: str, sha256: str) -> None:
    """Check the sha256 `found` of a file called `name` against the one in the catalogue.

    Raises:
        NetworkError: it is another file.
    """
    if found != sha256:
        raise NetworkError(
            f"{name} is not the file that the catalogue knows: its sha256 is {found}, not {sha256}",
            hint="it was deleted; a mirror or pip's cache may be at fault: try another index, or `pip cache purge`",
        )


@contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of `folder`.

    Raises:
        Busy: another process holds it, and `wait` is off.
        OSError: the lock file cannot be opened.
    """

    def say() -> None:
        console.log(f"{folder.name}: another process is downloading it; waiting until it is done")

    with lock(folder.with_name(f".{folder.name}.lock"), on_wait=say if wait else None) as has_locks:
        if not has_locks:
            console.warn(
                f"{folder.parent} is on a file system without locks: do not download {folder.name} twice at once"
            )
        yield


def _kept(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


def _scratch_prefix(folder: Path) -> str:
    return f".{folder.name}.tmp-"


def _leftovers(folder: Path) -> Iterator[Path]:
    return folder.parent.glob(f"{_scratch_prefix(folder)}*")


def _sweep(folder: Path) -> None:
    for leftover in _leftovers(folder):
        shutil.rmtree(leftover, ignore_errors=True)
