"""One thing that can be downloaded: its name, its source, and its folder in the data home."""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilcse_cli import console
from distilcse_cli.catalogue import install
from distilcse_cli.catalogue.hub import HubFiles
from distilcse_cli.catalogue.install import Source
from distilcse_cli.catalogue.offline import is_offline
from distilcse_cli.config import data_home
from distilcse_cli.errors import UsageError

LARGEST = "*"
DATASETS = "datasets/"
"""What the hub writes before the id of a data set."""
_KIND_FOLDERS = {"model": "models", "dataset": "datasets"}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing that can be downloaded by name."""

    name: str
    """What the user types: `NAME`, `owner/name` or `datasets/owner/name`, and `@REV` behind a revision's."""
    kind: str
    """`model` or `dataset`."""
    about: str
    """What it is, in one line."""
    license: str
    """What the source states for itself, in short; the statements are read in full when it is downloaded."""
    source: Source
    """Where its files are from."""
    file: str | None = None
    """The one file that it is used by; `LARGEST` where its name is not known before; None where the folder is."""
    base: str | None = None
    """Catalogue model with the configuration and the tokenizer, for a file that holds weights alone."""
    home: Path | None = None
    """Folder for it instead of the data home."""

    @property
    def folder(self) -> Path:
        """Where its files belong. The hub's `owner/name` makes one folder name, as in the hub's own cache."""
        name = self.name.removeprefix(DATASETS).replace("/", "--")
        return (self.home or data_home() / _KIND_FOLDERS[self.kind]) / name

    @property
    def path(self) -> Path:
        """What `--model` or `--corpus` takes: the folder, or the one file in it."""
        if self.file == LARGEST:
            files = (self.record() or {}).get("files", [])
            texts = [file for file in files if not file["path"].startswith((install.LICENSES, "README"))]
            return self.folder / max(texts, key=lambda file: file["bytes"])["path"] if texts else self.folder
        return self.folder / self.file if self.file else self.folder

    def at(self, revision: str | None) -> "Entry":
        """The same thing of another revision, in a folder of its own.

        Raises:
            UsageError: its source has one version only.
        """
        if revision is None:
            return self
        if not isinstance(self.source, HubFiles):
            raise UsageError(
                f"--revision {revision} does not go with {self.name}, a catalogue entry of one version",
                hint="only what comes from the hub has revisions",
            )
        if not re.fullmatch(r"[\w./-]+", revision) or ".." in revision:
            raise UsageError(f"--revision {revision!r} is no branch, tag or commit")
        source = dataclasses.replace(self.source, revision=revision)
        return dataclasses.replace(self, name=f"{self.name}@{revision}", source=source)

    def record(self) -> dict[str, Any] | None:
        """Its `source.json` if all files are there, else None."""
        return install.read_record(self.folder, self.source)

    def fetch(self, *, quiet: bool = False) -> Path:
        """Download it unless it is there; returns what `--model` or `--corpus` takes.

        Raises:
            NetworkError: the download failed, or brought something else than was announced.
            DataError: no room or no permission.
        """
        if self.record() is not None:
            install.tidy(self.folder)
            return self.path
        if not quiet and not is_offline():
            size = self.source.num_download_bytes
            console.log(
                f"{self.name}: downloading {self.source.label}{f' ({size / 1e6:.1f} MB)' if size is not None else ''}"
            )
        record = install.install(self.source, self.folder, quiet=quiet)
        if not quiet:
            console.log(f"{self.name}: now in {self.path}")
            for statement in record["licenses"]:
                console.log(f"{self.name}: license as stated in {statement['where']}: {statement['says']}")
        return self.path
