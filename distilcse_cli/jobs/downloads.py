"""Models and data sets by name."""

from collections.abc import Sequence
from pathlib import Path

from distilcse_cli.models.options import Ref


def download(names: str | Sequence[str], *, revision: str | None = None, folder: Ref | None = None) -> list[Path]:
    """Download models and data sets into the data home. What is here already stays as it is.

    Args:
        names: A name or group of the catalogue, a hub id (`owner/name`, `datasets/owner/name`), or a list of them.
        revision: Branch, tag or commit, for hub sources.
        folder: Use `folder/NAME` instead of the data home.

    Returns:
        The path of each.

    Raises:
        UsageError: The catalogue has no such name.
        NetworkError: A download failed.
    """
    from distilcse_cli import catalogue

    wanted = [names] if isinstance(names, str) else list(names)
    # all names are checked before the first download
    entries = catalogue.select(wanted, revision=revision, home=None if folder is None else Path(folder))
    return [entry.fetch() for entry in entries]
