"""Tar files from elsewhere: unpacked only if every member is a plain file or folder inside, within a budget.

Members are written by us and never by `tarfile`: no owner, mode, link or device of an archive gets
to the disk. Pickles are left out, since the one thing they are for is to run code when loaded.
"""

import bz2
import gzip
import lzma
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from distilcse_cli.errors import NetworkError

MAX_MEMBERS = 20_000
_PIECE = 1 << 20
_COMPRESSED = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open))
_PICKLE_SUFFIXES = {".pkl", ".pickle", ".pth", ".pt", ".bin", ".ckpt", ".joblib"}


def unpack_tar(path: Path, folder: Path, scratch: Path, *, name: str, num_bytes: int | None) -> list[str]:
    """Unpack a tar file into the new or empty `folder`.

    Args:
        path: the archive, compressed or not.
        folder: where its members go.
        scratch: for the archive without its compression.
        name: what to call it in messages.
        num_bytes: most bytes that its files may take, and it without compression; None allows as
            many as the file itself has, which is all that one without compression can need.

    Returns:
        The pickled files that were left out.

    Raises:
        NetworkError: it is broken, or holds anything but plain files and folders inside of it, or
            too much. `folder` is to be thrown away then.
    """
    budget = num_bytes if num_bytes is not None else path.stat().st_size
    folder.mkdir(parents=True, exist_ok=True)
    try:
        plain = _decompressed(path, scratch, name, budget + MAX_MEMBERS * 2 * tarfile.BLOCKSIZE)
        with tarfile.open(plain, mode="r:") as archive:
            return _unpack(archive, folder, name, budget)
    except (tarfile.TarError, EOFError) as error:
        raise NetworkError(f"{name} is no valid tar file: {error}") from error
    except (ValueError, OverflowError, UnicodeError, RecursionError) as error:  # numbers and names that no tar writes
        raise NetworkError(f"{name} is no valid tar file: {type(error).__name__}") from error


def _decompressed(path: Path, scratch: Path, name: str, budget: int) -> Path:
    with path.open("rb") as file:
        start = file.read(8)
    opener = next((opener for magic, opener in _COMPRESSED if start.startswith(magic)), None)
    if opener is None:
        return path
    plain = scratch / "decompressed.tar"
    with opener(path, "rb") as source, plain.open("xb") as target:
        _copy(source, target, name, budget)  # type: ignore[arg-type]
    return plain


def _copy(source: IO[bytes], target: IO[bytes], name: str, budget: int) -> None:
    done = 0
    while piece := _read(source, name):
        done += len(piece)
        if done > budget:
            raise NetworkError(f"{name} unpacks to more than the {budget:,} bytes allowed: refused")
        target.write(piece)


def _read(source: IO[bytes], name: str) -> bytes:
    try:
        return source.read(_PIECE)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise NetworkError(f"{name} is no valid tar file: {error}") from error


def _unpack(archive: tarfile.TarFile, folder: Path, name: str, budget: int) -> list[str]:
    left_out, total = [], 0
    for number, member in enumerate(archive, 1):
        _check(member, folder, name)
        total += member.size
        if total > budget:
            raise NetworkError(f"{name} unpacks to more than the {budget:,} bytes allowed: refused")
        if number > MAX_MEMBERS:
            raise NetworkError(f"{name} holds more than {MAX_MEMBERS:,} members: refused")
        target = folder / member.name
        source = None if member.isdir() else archive.extractfile(member)
        if source is not None and _is_pickle(member.name, source):
            left_out.append(member.name)
            continue
        try:
            (target.parent if source else target).mkdir(parents=True, exist_ok=True)
            if source is None:
                continue
            with target.open("xb") as file:
                shutil.copyfileobj(source, file, _PIECE)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise NetworkError(f"{name} holds {member.name!r} twice: refused") from None
        if target.stat().st_size != member.size:
            raise NetworkError(f"{name} ends within {member.name!r}")
    return left_out


def _check(member: tarfile.TarInfo, folder: Path, name: str) -> None:
    """Refuse whatever is no plain file or folder inside: by our own rules, and by tarfile's data filter."""
    path = PurePosixPath(member.name)
    if (
        path.is_absolute()
        or ".." in path.parts
        or {"\\", ":", "\0"} & set(member.name)
        or not member.name.isprintable()
    ):
        raise NetworkError(f"{name} holds {member.name!r}, which points outside of it: refused")
    if not (member.isreg() or member.isdir()) or member.issparse() or member.size < 0:
        kind = "a link" if member.issym() or member.islnk() else "no plain file"
        raise NetworkError(f"{name} holds {member.name!r}, which is {kind}: refused")
    if hasattr(tarfile, "data_filter"):  # from Python 3.11.4 on; the rules above are the stricter ones
        try:
            tarfile.data_filter(member, str(folder))
        except tarfile.FilterError as error:
            raise NetworkError(f"{name} holds {member.name!r}: {error}: refused") from error


def _is_pickle(name: str, file: IO[bytes]) -> bool:
    """Whether a member is pickled, by its name or its first bytes; leaves it at its start."""
    start = file.read(128)
    file.seek(0)
    is_bare = start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    is_array_of_objects = start.startswith(b"\x93NUMPY") and b"|O" in start
    is_checkpoint = start.startswith(b"PK\x03\x04") and b"/data.pkl" in start
    return PurePosixPath(name).suffix.lower() in _PICKLE_SUFFIXES or is_bare or is_array_of_objects or is_checkpoint
