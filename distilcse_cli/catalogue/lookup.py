"""From what a user types to catalogue entries: names, groups, ids of the hub, revisions."""

import dataclasses
import difflib
from pathlib import Path

from distilcse_cli.catalogue import install
from distilcse_cli.catalogue.entries import DATASETS, ENTRIES, GROUPS, Entry
from distilcse_cli.catalogue.hub import HubFiles
from distilcse_cli.config import HUB_ID, data_home
from distilcse_cli.errors import UsageError
from distilcse_cli.paths import expanded

_BY_NAME = {entry.name: entry for entry in ENTRIES}
_ALSO_ON_THE_HUB = {
    "all-minilm-l6": "sentence-transformers/all-MiniLM-L6-v2",
    "all-mpnet-base-v2": "sentence-transformers/all-mpnet-base-v2",
}
"""Ids of the hub for entries that come from elsewhere."""


def names() -> list[str]:
    """Names of all entries, in the catalogue's order."""
    return list(_BY_NAME)


def is_known(name: str) -> bool:
    """Whether the catalogue has an entry of that name."""
    return name in _BY_NAME


def entry(name: str) -> Entry:
    """Return the entry of that name.

    Raises:
        UsageError: there is none. The hint has similar names, or all of them.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    close = difflib.get_close_matches(name.lower(), [*names(), *GROUPS], cutoff=0.5)
    known = f"it has {', '.join(names())}; groups {', '.join(GROUPS)}; a hub id is owner/name"
    hint = f"did you mean {' or '.join(close)}?" if close else f"{known};"
    raise UsageError(f"the catalogue has no {name!r}", hint=f"{hint} to see all: distilcse download")


def hub_entry(name: str, *, revision: str | None = None) -> Entry | None:
    """Make an entry for a hub id, `owner/name` or `datasets/owner/name`; None if `name` is no such id.

    Raises:
        UsageError: the revision is malformed.
    """
    is_dataset = name.startswith(DATASETS) and name.count("/") == 2
    repo = name.removeprefix(DATASETS) if is_dataset else name
    if not HUB_ID.fullmatch(repo) or "--" in repo or ".." in repo:
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
    """Turn names, groups and hub ids into entries, each once.

    Args:
        wanted: what the user typed. `NAME@REV` brings its own revision.
        revision: for all others. They must come from the hub then.
        home: parent of their folders; None takes the data home.

    Raises:
        UsageError: an unknown name, or a revision of something that has none.
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
    """List the downloads in the data home that are no catalogue entries: hub ids and other revisions."""
    found = []
    for kind, prefix in (("models", ""), ("datasets", DATASETS)):
        for record in sorted((data_home() / kind).glob(f"*/{install.RECORD}")):
            name, _, revision = record.parent.name.replace("--", "/", 1).partition("@")
            one = _BY_NAME.get(name) or hub_entry(prefix + name)
            if one is not None and (revision or name not in _BY_NAME) and isinstance(one.source, HubFiles):
                found.append(one.at(revision.replace("--", "/") or None))
    return found


def hub_id(ref: str) -> str | None:
    """The hub's id, `owner/name`, of what is named by a catalogue name, an id or a path; None if it has none."""
    path = expanded(ref).absolute()
    for one in (*ENTRIES, *downloaded_ids()):
        if ref == one.name or path in (one.folder.absolute(), one.path.absolute()):
            return one.source.repo if isinstance(one.source, HubFiles) else _ALSO_ON_THE_HUB.get(one.name)
    found = None if path.exists() else hub_entry(ref)
    return found.source.repo if found and isinstance(found.source, HubFiles) else None


def present(name: str) -> Path | None:
    """Where a catalogue entry is; None if it has not been downloaded. Needs no network.

    Raises:
        UsageError: no such name.
    """
    found = entry(name)
    return found.path if found.record() is not None else None


def fetch(name: str, *, quiet: bool = False) -> Path:
    """Download a catalogue entry unless it is present; see `Entry.fetch`.

    Raises:
        UsageError: no such name.
    """
    return entry(name).fetch(quiet=quiet)
