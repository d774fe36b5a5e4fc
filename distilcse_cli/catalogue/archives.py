"""Unpacks tar files from elsewhere, if every member is a plain file or folder inside, within a budget of bytes.

We write the members ourselves, so no owner, mode, link or device of an archive gets to the disk. These rules are
stricter than `tarfile`'s data filter, which lets links inside through and replaces files that come twice. Pickles are
left out, since loading one can run code.
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
        folder: for its members.
        scratch: for the decompressed archive.
        name: its name in messages.
        num_bytes: most bytes that its files may take, and about the most for the decompressed archive. None allows
            the archive's own size, enough for an uncompressed tar.

    Returns:
        The pickled files that were left out.

    Raises:
        NetworkError: it is broken, too large, or holds anything but plain files and folders inside. What `folder`
            holds then is of no use.
    """
    budget = num_bytes if num_bytes is not None else path.stat().st_size
    folder.mkdir(parents=True, exist_ok=True)
    try:
        plain = _decompressed(path, scratch, name, budget + MAX_MEMBERS * 2 * tarfile.BLOCKSIZE)
        with tarfile.open(plain, mode="r:") as archive:
            return _unpack(archive, folder, name, budget)
    except (tarfile.TarError, EOFError) as error:
        raise NetworkError(f"{name} is no valid tar file: {error}") from error
    except (
        ValueError,
        OverflowError,
        UnicodeError,
        RecursionError,
    ) as error:  # odd numbers and names
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
        _check(member, name)
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


def points_outside(name: str) -> bool:
    """Whether a name could lead out of the folder it is unpacked into, on Windows too, or garble a terminal."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable()


def _check(member: tarfile.TarInfo, name: str) -> None:
    """Refuse whatever is not a plain file or folder inside."""
    if points_outside(member.name) or ":" in member.name:  # a drive of Windows
        raise NetworkError(f"{name} holds {member.name!r}, which points outside of it: refused")
    if not (member.isreg() or member.isdir()) or member.issparse() or member.size < 0:
        kind = "a link" if member.issym() or member.islnk() else "no plain file"
        raise NetworkError(f"{name} holds {member.name!r}, which is {kind}: refused")


def _is_pickle(name: str, file: IO[bytes]) -> bool:
    """Whether a member is pickled, by its name or its first bytes; rewinds it to its start."""
    start = file.read(128)
    file.seek(0)
    is_bare = start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    is_array_of_objects = start.startswith(b"\x93NUMPY") and b"|O" in start
    is_checkpoint = start.startswith(b"PK\x03\x04") and b"/data.pkl" in start
    return PurePosixPath(name).suffix.lower() in _PICKLE_SUFFIXES or is_bare or is_array_of_objects or is_checkpoint
