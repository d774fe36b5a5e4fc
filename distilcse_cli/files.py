"""Files that appear whole or not at all, locks, JSON, and fingerprints of contents."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distilcse_cli.errors import DataError

MAKE_ROOM = "make room, or choose a folder you may write to"
_REMOVE = "it is damaged: remove the folder it belongs to, and make it again"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it to `path`.

    On any exception, KeyboardInterrupt included, the temporary file is removed and the old file at
    `path` stays. After a SIGKILL a `.NAME.tmp-*` file may remain, but never half a file under the final name.

    Raises:
        DataError: the folder cannot be made or written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.tmp-", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}", hint="choose a folder you may write to") from error
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        _umask_permissions(temporary)
        fsync(temporary)
        temporary.replace(path)
        fsync(path.parent)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}", hint=MAKE_ROOM) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside `folder`; on success rename it to `folder`.

    `folder` must be missing or empty. Interruptions have the same effect as in `atomic_path`.

    Raises:
        DataError: `folder` is not empty, or cannot be made.
    """
    folder = Path(folder)
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise DataError(f"{folder} is not empty", hint="choose another --out, or remove it first")
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.tmp-", dir=folder.parent))
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror}", hint="choose a folder you may write to") from error
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                fsync(file)
        _umask_permissions(temporary)
        temporary.replace(folder)
        fsync(folder.parent)
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror or error}", hint=MAKE_ROOM) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class Busy(Exception):
    """Another process holds the lock."""


@contextmanager
def lock(path: Path, *, on_wait: Callable[[], None] | None = None) -> Iterator[bool]:
    """Hold a lock file while the block runs. The kernel drops the lock when the process ends, however it ends.

    Args:
        path: the lock file, made if missing. It stays: removing it would let two processes lock two files of one name.
        on_wait: called once if another process holds the lock, before waiting for it; None does not wait.

    Yields:
        Whether this file system has locks. Without them nothing is locked.

    Raises:
        Busy: another process holds the lock, and `on_wait` is None.
        OSError: the lock file cannot be made.
    """
    from filelock import FileLock, Timeout

    file_lock = FileLock(path)
    try:
        file_lock.acquire(timeout=0)
    except Timeout as error:
        if on_wait is None:
            raise Busy from error
        on_wait()
        file_lock.acquire()
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        yield False
        return
    try:
        yield True
    finally:
        file_lock.release()


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, whole or not at all."""
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False, allow_nan=False) + "\n"
    with atomic_path(path) as temporary:
        # a path in it need not be UTF-8; JSON can escape the other bytes
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_toml(path: Path, values: dict[str, Any]) -> None:
    """Write strings, numbers, booleans and lists of them as a flat TOML table, whole or not at all.

    A value of None is left out, since TOML has none. A path becomes a string.
    """
    lines = [f"{name} = {_toml(value)}\n" for name, value in values.items() if value is not None]
    with atomic_path(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    # a path in it need not be UTF-8; JSON's escapes are TOML's, except that TOML wants one for DEL, too
    text = str(value).encode("utf-8", "backslashreplace").decode("utf-8")
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: the file is missing, no UTF-8, no JSON, or no object.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="check the path and its permissions") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}", hint=_REMOVE) from error
    if not isinstance(value, dict):
        raise DataError(f"{path} should hold a JSON object, not a {type(value).__name__}", hint=_REMOVE)
    return value


def sha256_file(path: Path) -> str:
    """Return the hex sha256 of a file, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync(path: Path) -> None:
    """Write a file or folder to the disk, so that it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask_permissions(path: Path) -> None:
    """Replace the private permissions that mkstemp gives by those of an ordinary new file."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
