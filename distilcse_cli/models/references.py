"""One resolver for every model that a user names: a local folder, a catalogue name, a hub id."""

import difflib
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distilcse_cli.data import catalogue
from distilcse_cli.errors import DistilCSEError, ModelError, NetworkError, UsageError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_FILES = ("*.json", "*.txt", "*.model", "model*.safetensors", "*/model.safetensors")
_NOT_FILES = ("onnx/*", "openvino/*", "coreml/*")
_PICKLES = "pytorch_model*.bin"


def resolve_reference(ref: str, *, revision: str | None = None) -> Path:
    """Find the local folder that a model reference stands for.

    A local folder comes first, then the catalogue, then a hub id (`owner/name`), which is
    downloaded into the hub's own cache unless it is there. Only a hub id or a catalogue model not
    yet downloaded touches the network; `HF_HUB_OFFLINE=1` keeps a hub id from doing so.

    Args:
        ref: what the user typed.
        revision: branch, tag or commit of a hub model.

    Raises:
        UsageError: an empty reference, or a revision of something that has none.
        ModelError: no such model, or what is there is not one.
        NetworkError: the hub has no such model, does not hand it out, or cannot be reached.
    """
    if not ref.strip():
        raise UsageError("the model reference is empty", hint="name a folder, a catalogue model or a hub id")
    path = Path(ref).expanduser()
    if path.is_dir():
        _no_revision(ref, revision, "a local folder")
        return _checked(ref, path)
    if path.is_file():
        raise ModelError(f"{ref} is a file, not a model folder", hint="name the folder that holds config.json")
    if catalogue.is_known(ref):
        _no_revision(ref, revision, "a catalogue entry")
        return _checked(ref, catalogue.fetch(ref))
    if _HUB_ID.fullmatch(ref):
        return _checked(ref, _from_hub(ref, revision))
    raise _unknown(ref)


def _no_revision(ref: str, revision: str | None, what: str) -> None:
    if revision is not None:
        raise UsageError(f"--revision {revision} does not go with {ref}, {what}", hint="only hub models have revisions")


def _checked(ref: str, folder: Path) -> Path:
    """`folder`, if it has the files by which a model is known."""
    if not folder.is_dir():
        raise ModelError(f"{ref} is a data set, not a model", hint=f"models are {', '.join(_catalogue_models())}")
    if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
        raise ModelError(
            f"{ref} is no model folder: it has neither config.json nor modules.json",
            hint="name the folder that transformers or sentence-transformers saved the model in",
        )
    return folder


def _catalogue_models() -> list[str]:
    return [entry.name for entry in catalogue.ENTRIES if entry.kind == "model"]


def _unknown(ref: str) -> ModelError:
    known = _catalogue_models()
    close = difflib.get_close_matches(ref.lower(), known, cutoff=0.5)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    hint = f"{meant}the catalogue has {', '.join(known)}; a hub id is owner/name"
    return ModelError(f"no model {ref}: no such folder, and no such name in the catalogue", hint=hint)


def _from_hub(ref: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        with _quiet_hub():
            folder = Path(
                snapshot_download(ref, revision=revision, allow_patterns=list(_FILES), ignore_patterns=list(_NOT_FILES))
            )
            pickles = _weights_only_pickled(folder)
            if pickles:
                # the folder's name is the commit, so that both halves are of one version
                snapshot_download(ref, revision=folder.name, allow_patterns=pickles)
    except Exception as error:  # what the hub client raises differs from version to version
        raise _hub_error(ref, revision, error) from error
    return folder


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Keep the hub client's warnings, and its bars unless stderr is a terminal, off the screen."""
    from huggingface_hub import utils

    verbosity = utils.logging.get_verbosity()
    leave_bars = sys.stderr.isatty() or utils.are_progress_bars_disabled()
    utils.logging.set_verbosity_error()
    if not leave_bars:
        utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.logging.set_verbosity(verbosity)
        if not leave_bars:
            utils.enable_progress_bars()


def _weights_only_pickled(folder: Path) -> list[str]:
    """Patterns of the pickled weights that are needed because there are no safetensors in their place."""
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        places = {str(module["path"]) for module in modules if str(module["type"]).endswith((".Dense", ".Transformer"))}
    except (OSError, ValueError, TypeError, KeyError):
        places = {""}  # no modules, or broken ones, of which `read_layout` will tell
    lacking = [place for place in sorted(places) if not any((folder / place).glob("model*.safetensors"))]
    return [f"{place}/{_PICKLES}" if place else _PICKLES for place in lacking]


def _hub_error(ref: str, revision: str | None, error: Exception) -> DistilCSEError:
    from huggingface_hub import constants, errors

    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    if any(isinstance(cause, errors.RevisionNotFoundError) for cause in causes):
        return NetworkError(f"the hub's {ref} has no revision {revision}", hint="name a branch, tag or full commit")
    if any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in causes):
        return NetworkError(
            f"{ref} is neither a folder nor in the hub's cache, and HF_HUB_OFFLINE forbids to download it",
            hint="unset HF_HUB_OFFLINE for one run, or name a local folder",
        )
    statuses = [getattr(getattr(cause, "response", None), "status_code", None) for cause in causes]
    status = next((status for status in statuses if status is not None), None)
    if status == 403 or any(isinstance(cause, errors.GatedRepoError) for cause in causes):
        return NetworkError(
            f"the hub does not hand out {ref} to you ({status})",
            hint=f"accept its terms at {constants.ENDPOINT}/{ref}, then set HF_TOKEN",
        )
    if status in (401, 404):
        return NetworkError(
            f"there is no folder {ref}, and the hub has no such model, or a private one ({status})",
            hint="check the name; for a private model set HF_TOKEN",
        )
    if status is not None:
        return NetworkError(f"the hub answers {status} when asked for {ref}", hint="try again in a few minutes")
    reason = str(causes[-1]).strip().partition("\n")[0] or type(causes[-1]).__name__
    return NetworkError(
        f"there is no folder {ref}, and it cannot be had from {constants.ENDPOINT}: {reason}",
        hint="check the connection and proxy settings, or name a local folder",
    )
