"""Paths as people type them. Each is looked at once, before the work starts."""

import os
import re
import stat
from pathlib import Path

from distilcse_cli.errors import DataError, UsageError

ANOTHER = "choose another --out"
_STANDARD_STREAM = re.compile(r"/dev/(stdout|stderr|fd/\d+)|/proc/(self|\d+)/fd/\d+")


def plain_name(name: str) -> str:
    """A name in letters that every file system and the hub take; empty if none of its letters are such."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with the home folder in place of `~`.

    Raises:
        UsageError: there is no such user, or this user has no home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{path}: no home folder is known for ~", hint="write the whole path, or set HOME") from error


def real(path: Path) -> Path:
    """The path with every link in it followed, as far as that goes. Unlike `Path.resolve`, it raises nothing."""
    return Path(os.path.realpath(path))


def file_target(path: Path) -> Path | None:
    """Where a file that is written to `path` goes: links are followed. A command asks before it starts its work.

    Returns:
        The file to replace or make; None if `path` is a device or a pipe: that is written into, never replaced.

    Raises:
        DataError: `path` is a folder, a disk or a socket, or a link that leads nowhere.
    """
    mode = mode_of(path)
    if mode is not None and stat.S_ISDIR(mode):
        raise DataError(f"{path} is a folder, but the output is a file", hint=ANOTHER)
    if mode is not None and (stat.S_ISBLK(mode) or stat.S_ISSOCK(mode)):
        raise DataError(f"{path} is a disk or a socket, but the output is a file", hint=ANOTHER)
    is_stream = mode is not None and not stat.S_ISREG(mode)
    if is_stream or _STANDARD_STREAM.fullmatch(os.path.abspath(path)):  # noqa: PTH100  links keep their own name
        return None
    return real(path) if path.is_symlink() else path


def folder_target(path: Path) -> Path:
    """Where a folder that is made as `path` goes: links are followed. A command asks before it starts its work.

    Raises:
        UsageError: `path` has no name, as `.` and `/` have none.
        DataError: `path` is a file, or a link that leads nowhere.
    """
    if path.name in ("", ".."):
        raise UsageError(f"--out {path} has no name of its own", hint="name a folder to make, such as --out student")
    mode = mode_of(path)
    if mode is not None and not stat.S_ISDIR(mode):
        raise DataError(f"{path} is a file, but the output is a folder", hint=ANOTHER)
    return real(path) if path.is_symlink() else path


def mode_of(path: Path) -> int | None:
    """The mode of what `path` leads to; None if nothing is there and a file or folder can be made.

    Raises:
        DataError: `path` is a link that leads nowhere, or no name of a file.
    """
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink() and not real(path).parent.is_dir():
            raise DataError(f"{path} is a link to {real(path)}, and no such folder exists", hint=ANOTHER) from None
        return None
    except OSError as error:  # a loop of links, a name too long, no permission
        raise DataError(f"cannot write {path}: {error.strerror}", hint=ANOTHER) from error


def is_mount(folder: Path) -> bool:
    """Whether another file system or folder is mounted there: it can be filled, but not renamed or replaced."""
    if os.path.ismount(folder):
        return True
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    escaped = (line.split(" ")[4] for line in mounts)  # a folder of the same disk has no other sign
    return str(real(folder)) in (re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), name) for name in escaped)


def content(folder: Path) -> list[Path]:
    """What is in a folder, without the folder that a new disk has for lost files."""
    return [path for path in folder.iterdir() if not (path.name == "lost+found" and is_mount(folder))]
