"""One resolver for every model that a user names: a local folder, a catalogue name, a hub id."""

from pathlib import Path

from distilcse_cli.errors import ModelError, UsageError


def resolve_reference(ref: str, *, revision: str | None = None) -> Path:
    """Find the local folder a model reference stands for; a catalogue or hub model is downloaded once."""
    from distilcse_cli.data import catalogue

    folder = Path(ref).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise UsageError(f"--revision {revision} with the local folder {ref}")
        return folder
    if catalogue.is_known(ref):
        return catalogue.fetch(ref)
    raise ModelError(f"no model {ref}")
