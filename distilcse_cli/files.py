"""Files that appear whole or not at all, locks, JSON, and fingerprints of contents."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distilcse_cli.errors import DataError
from distilcse_cli.paths import ANOTHER, content, file_target, folder_target, is_mount

MAKE_ROOM = "make room, or choose a folder you may write to"
RECORD = "distilcse.json"
"""The record of how a folder was made. It is the last file to appear, so a folder that has it is whole."""
_REMOVE = "it is damaged: remove the folder it belongs to, and make it again"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


def fill(folder: Path, source: Path) -> None:
    """Move all that is in `source` into `folder`, a mount point, and the record last."""
    for path in sorted(source.iterdir(), key=lambda path: path.name == RECORD):
        path.rename(folder / path.name)
    fsync(folder)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it to `path`.

    On any exception, KeyboardInterrupt included, the temporary file is removed and the old file at
    `path` stays. After a SIGKILL a `.NAME.tmp-*` file may remain, but never half a file under the final name.
    A link stays, and what it leads to is replaced. A device or pipe gets the content once it is complete.

    Raises:
        DataError: the folder cannot be made or written, or `path` cannot be a file.
    """
    path = Path(path)
    target = file_target(path)
    try:
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
        beside = None if target is None else target.parent
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.tmp-", suffix=path.suffix, dir=beside)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}", hint="choose a folder you may write to") from error
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        if target is None:
            with temporary.open("rb") as source, path.open("ab", buffering=0) as stream:
                shutil.copyfileobj(source, stream)
        else:
            _umask_permissions(temporary)
            fsync(temporary)
            _replace(temporary, target)
            fsync(target.parent)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}", hint=MAKE_ROOM) from error
    finally:
        temporary.unlink(missing_ok=True)


def _replace(temporary: Path, target: Path) -> None:
    try:
        temporary.replace(target)
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.EXDEV):
            raise
        shutil.copyfile(temporary, target)  # a file that is a mount point takes new content, but no new file


@contextmanager
def atomic_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a new folder beside `folder`; on success rename it to `folder`.

    `folder` must be missing or empty; with `replace`, it gives way to the new one. Interruptions have the same effect
    as in `atomic_path`. A mount point is filled at the end, `distilcse.json` last; it is never replaced.

    Raises:
        DataError: `folder` is not empty, or cannot be made.
    """
    folder = folder_target(Path(folder))
    try:
        must_fill = is_mount(folder)
        is_full = folder.is_dir() and bool(content(folder))
        if is_full and (must_fill or not replace):
            raise DataError(f"{folder} is not empty", hint=f"{ANOTHER}, or remove it first")
        folder.parent.mkdir(parents=True, exist_ok=True)
        place = folder if must_fill else folder.parent
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.tmp-", dir=place))
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror}", hint="choose a folder you may write to") from error
    replaced = temporary.with_name(temporary.name + "-replaced")
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                fsync(file)
        _umask_permissions(temporary)
        if must_fill:
            fill(folder, temporary)
        else:
            if is_full:
                folder.rename(replaced)
            temporary.replace(folder)
            fsync(folder.parent)
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror or error}", hint=MAKE_ROOM) from error
    finally:
        if replaced.exists() and not folder.exists():
            replaced.rename(folder)
        for leftover in (temporary, replaced):
            shutil.rmtree(leftover, ignore_errors=True)


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


def require_fields(file: Path, values: Any, fields: Mapping[str, Any], *, hint: str = _REMOVE) -> None:
    """Check JSON that this program has written and reads again, since somebody may have edited it.

    Args:
        file: where it is from.
        values: should be an object.
        fields: the kind of each field, as for `isinstance`.
        hint: the remedy.

    Raises:
        DataError: a field is missing or of another kind.
    """
    if not isinstance(values, dict):
        raise DataError(f"{file} has a {type(values).__name__} where an object should be", hint=hint)
    for name, kind in fields.items():
        value = values.get(name)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            found = f"is {repr(value)[:60]}" if name in values else "is missing"
            raise DataError(f"{file}: {name} {found}, so the file is damaged", hint=hint)


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


def disk_of(folder: Path) -> tuple[int, int] | None:
    """The disk that `folder` is or will be on: its number, and its free bytes; None if the system does not say."""
    for existing in (folder, *folder.absolute().parents):
        try:
            return existing.stat().st_dev, shutil.disk_usage(existing).free
        except FileNotFoundError:
            continue
        except OSError:
            break
    return None
