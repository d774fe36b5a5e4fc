"""Cached folders: made once whatever happens, checked on opening, made again when damaged.

A cached folder holds files and a `manifest.json` that names the format's version and every
file's size and sha256. Its name is a hash of all that went into it, so that it is either right or absent.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import AcquireReturnProxy, FileLock, Timeout

from distilcse_cli import console
from distilcse_cli.errors import DataError
from distilcse_cli.files import atomic_folder, read_json, sha256_file, write_json

MANIFEST = "manifest.json"
_REMOVE = "remove the folder and run again"


class NewerFormatError(DataError):
    """The folder was written by a later release, so it is not damaged and must not be replaced."""


def write_manifest(folder: Path, version: int, facts: dict[str, Any]) -> None:
    """Write `manifest.json`: the format's version, `facts`, and size in bytes and sha256 of each file in `folder`."""
    files = sorted(folder.iterdir())
    sizes = {file.name: file.stat().st_size for file in files}
    sums = {file.name: sha256_file(file) for file in files}
    write_json(folder / MANIFEST, {"format_version": version, **facts, "files": sizes, "sha256": sums})


def read_manifest(folder: Path, version: int) -> dict[str, Any]:
    """Read `manifest.json` and check the folder against it, contents apart: `build_once` has read them.

    Args:
        folder: what `write_manifest` has completed.
        version: the newest format version that the caller understands.

    Raises:
        NewerFormatError: a later release wrote it.
        DataError: no manifest, a broken one, or a file of another size than it says.
    """
    manifest = read_json(folder / MANIFEST)
    found, sizes, sums = manifest.get("format_version"), manifest.get("files"), manifest.get("sha256", {})
    if isinstance(found, int) and found > version:
        raise NewerFormatError(
            f"{folder} has format version {found}, and this release reads up to {version}",
            hint="update distilcse, or remove the folder",
        )
    if found != version or not isinstance(sizes, dict) or not isinstance(sums, dict):
        raise DataError(f"{folder / MANIFEST} is not a manifest of format version {version}", hint=_REMOVE)
    for name, size in sizes.items():
        try:
            actual = (folder / name).stat().st_size
        except OSError as error:
            raise DataError(f"cannot read {folder / name}: {error.strerror}", hint=_REMOVE) from error
        if actual != size:
            raise DataError(f"{folder / name} has {actual:,} bytes, but its manifest says {size:,}", hint=_REMOVE)
    return manifest


def build_once(folder: Path, version: int, build: Callable[[Path], None]) -> bool:
    """Make the cached `folder` unless it is there and whole.

    Processes that want the same folder at once wait for the first to make it, or to die.

    Args:
        folder: the final place.
        version: format version of the manifest.
        build: fills the folder it is given, manifest included.

    Returns:
        Whether the folder was there already.

    Raises:
        DataError: the cache cannot be written; and whatever `build` raises.
    """
    if _is_whole(folder, version):
        return True
    with _lock(folder):
        if _is_whole(folder, version):
            return True
        for stale in folder.parent.glob(f".{folder.name}.tmp-*"):
            shutil.rmtree(stale, ignore_errors=True)
        if folder.exists():
            console.warn(f"{folder} is damaged and is made again")
            shutil.rmtree(folder, ignore_errors=True)
        with atomic_folder(folder) as temporary:
            build(temporary)
    return False


def _is_whole(folder: Path, version: int) -> bool:
    """Whether all files are as they were written, to the byte.

    Token ids that a bad disk has changed would train on other words, or end in an index out of range at
    some step; a look at the largest would find only the latter. The sums cost little: 25 ms for the 36 MB
    of ids of 600,000 sentences, which are read for training anyway.
    """
    try:
        sums = read_manifest(folder, version).get("sha256", {})  # folders of before have none
        return all(sha256_file(folder / name) == known for name, known in sums.items())
    except NewerFormatError:
        raise
    except (DataError, OSError):
        return False


def _lock(folder: Path) -> AcquireReturnProxy:
    """Acquire the lock of `folder`, for a `with` block. The system frees it when its process dies."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f".{folder.name}.lock"))
        try:
            return lock.acquire(timeout=0)
        except Timeout:
            console.log(f"waiting for another process that makes {folder}")
            return lock.acquire()
    except OSError as error:
        raise DataError(
            f"cannot write {folder}: {error.strerror}", hint="set DISTILCSE_HOME to a folder you may write to"
        ) from error
