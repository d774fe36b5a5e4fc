"""A hostile input, and what has to become of it."""

import gzip
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Content = bytes | str | Callable[[Path, Mapping[str, Path]], object] | None
"""What a file holds, or what makes it; None: nothing is there."""


@dataclass(frozen=True)
class Case:
    """A command line that has to be refused in one line."""

    name: str
    line: str
    code: int
    """Exit code: 2 usage, 3 data, 4 model, 5 device, 6 network."""
    says: str
    """What the error has to name."""
    files: Mapping[str, Content] = field(default_factory=dict)
    """Made in the folder that the command runs in."""
    job: Mapping[str, Any] = field(default_factory=dict)
    """For `command`."""

    def prepare(self, work: Path, materials: Mapping[str, Path]) -> None:
        """Make the files."""
        work.mkdir(exist_ok=True)
        for name, content in self.files.items():
            path = work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                path.write_text(content, encoding="utf-8")
            elif isinstance(content, bytes):
                path.write_bytes(content)
            elif content is not None:
                content(path, materials)


def ids(cases: list[Case]) -> list[str]:
    """Names for pytest."""
    return [case.name for case in cases]


def folder(path: Path, _materials: Mapping[str, Path]) -> None:
    path.mkdir()


def unreadable(path: Path, _materials: Mapping[str, Path]) -> None:
    path.write_text("the cat\n", encoding="utf-8")
    path.chmod(0)


def read_only_folder(path: Path, _materials: Mapping[str, Path]) -> None:
    path.mkdir()
    path.chmod(0o555)


def copy_of(material: str, spoil: Callable[[Path], object]) -> Content:
    """A copy of a good folder or file, spoilt."""

    def make(path: Path, materials: Mapping[str, Path]) -> None:
        good = materials[material]
        shutil.copytree(good, path) if good.is_dir() else shutil.copyfile(good, path)
        spoil(path)

    return make


def cut(path: Path, share: float = 0.5) -> None:
    """Take the end off a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def cut_gzip(text: str) -> bytes:
    """The first half of a gzip file."""
    whole = gzip.compress(text.encode())
    return whole[: len(whole) // 2]
