"""Cached folders: each is built once, checked when opened, and rebuilt when damaged.

A cached folder holds files and a `manifest.json` with the format's version and the size and sha256
of every file. Its name is a hash of everything it was made from, so an existing folder never has
to be updated.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from distilcse_cli import console
from distilcse_cli.config import data_home
from distilcse_cli.errors import DataError
from distilcse_cli.files import atomic_folder, lock, read_json, sha256_file, write_json

MANIFEST = "manifest.json"
REMAKE = "remove the folder and run again"


class NewerFormatError(DataError):
    """The folder was written by a later release: it is not damaged and must not be replaced."""


def entry_folder(kind: str, version: int, *made_from: Any) -> Path:
    """Return the folder in the data home for what is made from these values, which go into JSON.

    Args:
        kind: subfolder of the data home.
        version: format version of the manifest.
        made_from: everything that decides the contents.
    """
    key = hashlib.sha256(json.dumps([version, *made_from]).encode()).hexdigest()[:32]
    return data_home() / kind / key


def write_manifest(folder: Path, version: int, fields: dict[str, Any]) -> None:
    """Write `manifest.json`: the format's version, `fields`, and size in bytes and sha256 of each file in `folder`."""
    files = sorted(folder.iterdir())
    sizes = {file.name: file.stat().st_size for file in files}
    sums = {file.name: sha256_file(file) for file in files}
    write_json(folder / MANIFEST, {"format_version": version, **fields, "files": sizes, "sha256": sums})


def read_manifest(folder: Path, version: int) -> dict[str, Any]:
    """Read `manifest.json` and compare the files' sizes with it. Their contents are compared by `build_once`.

    Args:
        folder: a folder that `write_manifest` has completed.
        version: the newest format version that the caller understands.

    Raises:
        NewerFormatError: a later release wrote it.
        DataError: the manifest is missing or broken, or a file has another size than it says.
    """
    manifest = read_json(folder / MANIFEST)
    found, sizes, sums = manifest.get("format_version"), manifest.get("files"), manifest.get("sha256", {})
    if isinstance(found, int) and found > version:
        raise NewerFormatError(
            f"{folder} has format version {found}, and this release reads up to {version}",
            hint="pip install --upgrade distilcse, or remove the folder",
        )
    if found != version or not isinstance(sizes, dict) or not isinstance(sums, dict):
        raise DataError(f"{folder / MANIFEST} is not a manifest of format version {version}", hint=REMAKE)
    for name, size in sizes.items():
        try:
            actual = (folder / name).stat().st_size
        except OSError as error:
            raise DataError(f"cannot read {folder / name}: {error.strerror}", hint=REMAKE) from error
        if actual != size:
            raise DataError(f"{folder / name} has {actual:,} bytes, but its manifest says {size:,}", hint=REMAKE)
    return manifest


def build_once(folder: Path, version: int, build: Callable[[Path], None]) -> bool:
    """Build the cached `folder` unless it exists undamaged.

    If several processes want the same folder, one builds it and the others wait until it has
    finished or died.

    Args:
        folder: where the finished folder appears.
        version: format version of the manifest.
        build: fills the temporary folder that it gets, manifest included.

    Returns:
        Whether the folder existed already.

    Raises:
        DataError: the cache cannot be written; also whatever `build` raises.
    """
    if _is_whole(folder, version):
        return True
    with ExitStack() as held:
        _lock(held, folder)
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
    """Whether every byte of every file is as it was written.

    Token ids changed by a bad disk would train on wrong words, or end in an index out of range at
    some step. The sums cost little: 25 ms for the 36 MB of ids of 600,000 sentences, which training
    reads anyway.
    """
    try:
        sums = read_manifest(folder, version).get("sha256", {})  # folders of early releases have none
        return all(sha256_file(folder / name) == known for name, known in sums.items())
    except NewerFormatError:
        raise
    except (DataError, OSError):
        return False


def _lock(held: ExitStack, folder: Path) -> None:
    """Lock `folder` until `held` closes."""
    path, waiting = folder.with_name(f".{folder.name}.lock"), f"waiting for another process that is making {folder}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        has_locks = held.enter_context(lock(path, on_wait=lambda: console.log(waiting)))
    except OSError as error:
        raise DataError(
            f"cannot write {folder}: {error.strerror}", hint="set DISTILCSE_HOME to a folder you may write to"
        ) from error
    if not has_locks:
        console.warn(f"{folder.parent} is on a file system without locks: run one command at a time")
