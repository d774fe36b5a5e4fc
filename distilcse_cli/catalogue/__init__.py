"""Models and data sets fetched by name: sources, transfer, checks, licenses.

Downloads live in the data home: models under `models/NAME`, data sets under `datasets/NAME`. Each has its
licenses and a `source.json` beside its files.
"""

from distilcse_cli.catalogue.entries import DEFAULT_MODEL, ENTRIES, GROUPS, Entry
from distilcse_cli.catalogue.lookup import (
    downloaded_ids,
    entry,
    fetch,
    hub_entry,
    hub_id,
    is_known,
    names,
    present,
    select,
)

__all__ = [
    "DEFAULT_MODEL",
    "ENTRIES",
    "GROUPS",
    "Entry",
    "downloaded_ids",
    "entry",
    "fetch",
    "hub_entry",
    "hub_id",
    "is_known",
    "names",
    "present",
    "select",
]
