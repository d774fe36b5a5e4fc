"""The catalogue: models and data sets that `distilcse download` knows by name, or by their id on the hub.

What is downloaded lives in the data home, models under `models/NAME`, data sets under
`datasets/NAME`, each with its licenses and a `source.json` beside the files.
"""

import dataclasses
import difflib
import re
from pathlib import Path

from distilcse_cli.catalogue import install
from distilcse_cli.catalogue.entries import ENTRIES, GROUPS
from distilcse_cli.catalogue.entry import DATASETS, Entry
from distilcse_cli.catalogue.hub import HubFiles
from distilcse_cli.config import data_home
from distilcse_cli.errors import UsageError

__all__ = [
    "DEFAULT_MODEL",
    "ENTRIES",
    "GROUPS",
    "Entry",
    "downloaded_ids",
    "entry",
    "fetch",
    "hub_entry",
    "is_known",
    "names",
    "present",
    "select",
]

DEFAULT_MODEL = "all-minilm-l6"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
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
    close = difflib.get_close_matches(name.lower(), [*names(), *GROUPS], cutoff=0.5)
    known = f"it has {', '.join(names())}; groups {', '.join(GROUPS)}; a hub id is owner/name"
    raise UsageError(f"the catalogue has no {name!r}", hint=f"did you mean {' or '.join(close)}?" if close else known)


def hub_entry(name: str, *, revision: str | None = None) -> Entry | None:
    """An entry for a hub id, `owner/name` or `datasets/owner/name`; None where `name` cannot be one.

    Raises:
        UsageError: the revision cannot be one.
    """
    is_dataset = name.startswith(DATASETS) and name.count("/") == 2
    repo = name.removeprefix(DATASETS) if is_dataset else name
    if not _HUB_ID.fullmatch(repo) or "--" in repo or ".." in repo:
        return None
    kind = "dataset" if is_dataset else "model"
    found = Entry(
        name=name,
        kind=kind,
        about=f"the hub's {'data set' if is_dataset else 'model'} of that id",
        license="see its card",
        source=HubFiles(repo=repo, repo_type=kind),
    )
    return found.at(revision)


def select(wanted: list[str], *, revision: str | None = None, home: Path | None = None) -> list[Entry]:
    """The entries that names, groups and hub ids stand for, each once.

    Args:
        wanted: what the user typed; `NAME@REV` has its own revision.
        revision: for all others, which then must be of the hub.
        home: folder for them instead of the data home.

    Raises:
        UsageError: a name that is none, or a revision of something that has none.
    """
    chosen: dict[str, Entry] = {}
    for name in wanted:
        for one in GROUPS.get(name, (name,)):
            bare, _, own_revision = one.partition("@")
            found = (None if is_known(bare) else hub_entry(bare)) or entry(bare)
            found = dataclasses.replace(found.at(own_revision or revision), home=home)
            chosen[str(found.folder)] = found
    return list(chosen.values())


def downloaded_ids() -> list[Entry]:
    """What has been downloaded from the hub by its id, or of another revision, and so is in no catalogue."""
    found = []
    for kind, prefix in (("models", ""), ("datasets", DATASETS)):
        for record in sorted((data_home() / kind).glob(f"*/{install.RECORD}")):
            name, _, revision = record.parent.name.replace("--", "/", 1).partition("@")
            one = _BY_NAME.get(name) or hub_entry(prefix + name)
            if one is not None and (revision or name not in _BY_NAME) and isinstance(one.source, HubFiles):
                found.append(one.at(revision.replace("--", "/") or None))
    return found


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
