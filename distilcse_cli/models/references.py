"""One resolver for every model that a user names: a local folder, a catalogue name, a hub id."""

import difflib
from pathlib import Path

from distilcse_cli import catalogue
from distilcse_cli.errors import ModelError, NetworkError, UsageError

_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")


def resolve_reference(ref: str, *, revision: str | None = None) -> Path:
    """Find the local folder that a model reference stands for.

    Tries a local folder first, then the catalogue, then a hub id (`owner/name`). A hub model is taken from the data
    home, or else from the hub client's own cache, or else downloaded into the data home. Only a download uses the
    network, and `HF_HUB_OFFLINE=1` forbids it.

    Args:
        ref: what the user typed.
        revision: branch, tag or commit of a hub model.

    Raises:
        UsageError: an empty reference, or a revision of something that has none.
        ModelError: no such model, or the folder holds no model.
        NetworkError: the hub has no such model, does not hand it out, or is out of reach.
    """
    if not ref.strip():
        raise UsageError("the model reference is empty", hint="name a folder, a hub id or one of distilcse download")
    path = Path(ref).expanduser()
    if path.is_dir():
        _no_revision(ref, revision, "a local folder")
        return _checked(ref, path)
    if path.is_file():
        raise ModelError(f"{ref} is a file, not a model folder", hint="name the folder with its config.json")
    if catalogue.is_known(ref):
        entry = catalogue.entry(ref)
        if entry.kind != "model":
            raise ModelError(f"{ref} is a data set, not a model", hint=f"models are {', '.join(_catalogue_models())}")
        return _checked(ref, entry.at(revision).fetch())
    hub_model = _hub_model(ref, revision)
    if hub_model is not None:
        return _checked(ref, hub_model)
    raise _unknown(ref)


def _no_revision(ref: str, revision: str | None, what: str) -> None:
    if revision is not None:
        raise UsageError(f"--revision {revision} does not go with {ref}, {what}", hint="only hub models have revisions")


def _checked(ref: str, folder: Path) -> Path:
    """Return `folder` if it has the files that make it a model."""
    if folder.is_file():
        raise ModelError(
            f"{ref} is a file of pickled weights, not a model folder",
            hint=f"distilcse convert {folder} --out DIR makes a folder of it",
        )
    if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
        raise ModelError(
            f"{ref} is no model folder: it has neither config.json nor modules.json",
            hint="name the folder that transformers or sentence-transformers wrote",
        )
    return folder


def _catalogue_models() -> list[str]:
    return [entry.name for entry in catalogue.ENTRIES if entry.kind == "model" and entry.file is None]


def _unknown(ref: str) -> ModelError:
    known = _catalogue_models()
    close = difflib.get_close_matches(ref.lower(), known, cutoff=0.5)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    hint = f"{meant}the catalogue has {', '.join(known)}, see distilcse download; a hub id is owner/name"
    return ModelError(f"no model {ref}: no such folder, and no such name in the catalogue", hint=hint)


def _hub_model(ref: str, revision: str | None) -> Path | None:
    """Find a hub model: downloaded before, in the hub's own cache, or downloaded now; None if `ref` is no hub id."""
    entry = catalogue.hub_entry(ref, revision=revision)
    if entry is None or entry.kind != "model":
        return None
    if entry.record() is not None:
        return entry.path
    cached = _in_hub_cache(ref, revision)
    if cached is not None:
        return cached
    try:
        return entry.fetch()
    except NetworkError as error:
        # a misspelled folder looks like a hub id
        raise NetworkError(f"there is no folder {ref}, and {error.message}", hint=error.hint) from error


def _in_hub_cache(ref: str, revision: str | None) -> Path | None:
    """Find a snapshot in the hub client's cache, left by another tool, that a model can be loaded from."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(ref, revision=revision, local_files_only=True))
    except Exception:  # missing or incomplete: the exception differs from version to version
        return None
    weights = [path for pattern in _WEIGHTS for path in (*folder.glob(pattern), *folder.glob(f"*/{pattern}"))]
    is_whole = (folder / "config.json").is_file() or (folder / "modules.json").is_file()
    return folder if is_whole and any(path.is_file() for path in weights) else None
