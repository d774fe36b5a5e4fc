"""A model as the user names it: one object, checked when it is made, found once, loaded from there.

A name is a local folder, a file of weights, a catalogue name or a hub id. Importing this loads no torch.
"""

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from distilcse_cli import catalogue
from distilcse_cli.config import POOLINGS
from distilcse_cli.errors import ModelError, NetworkError, UsageError
from distilcse_cli.paths import expanded

if TYPE_CHECKING:
    from distilcse_cli.models.encoder import SentenceEncoder

_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """A reference to a model, and all that the user says about how to load it."""

    ref: str
    """Local folder, catalogue name, hub id, or file of weights."""
    pooler: str | None = None
    """One of `config.POOLINGS`; None takes the folder's own, else `cls`."""
    revision: str | None = None
    """Branch, tag or commit of a hub model."""
    base: str | None = None
    """For a file of weights: the model it was trained from. None reads the architecture from the tensors."""
    tokenizer: str | None = None
    """For a file of weights: the model whose tokenizer it has. None takes the base's."""
    keep_layers: tuple[int, ...] | None = None
    """Numbers of the layers to keep, in increasing order; None keeps all."""
    prompt: str | None = None
    """Text put before every sentence; None takes that of `prompt_name`, else the folder's default."""
    prompt_name: str | None = None
    """Name of one of the folder's prompts."""
    static: bool = False
    """Whether only a table of its token vectors is wanted, without any layer."""
    path: Path | None = field(default=None, compare=False, repr=False)
    """Where the model is, once it is found."""

    def __post_init__(self) -> None:
        if self.prompt is not None and self.prompt_name is not None:
            raise UsageError("a prompt is given as a text and by a name", hint="leave one of the two out")
        if self.pooler is not None and self.pooler not in POOLINGS:
            raise UsageError(f"unknown pooling {self.pooler!r}", hint=f"one of {', '.join(POOLINGS)}")

    def locate(self) -> Path:
        """Find the model's folder or file of weights, and download it if need be. Later calls return the same path.

        Raises:
            UsageError: an empty reference, or a revision of something that has none.
            ModelError: there is no such model, or the folder holds no model.
            NetworkError: the hub has no such model, does not hand it out, or cannot be reached.
        """
        if self.path is None:
            found = find_weights(self.ref, self.revision) or resolve_reference(self.ref, self.revision)
            object.__setattr__(self, "path", found)
        return self.path  # type: ignore[return-value]

    def load(self, *, max_length: int | None = None, light: bool = False) -> "SentenceEncoder":
        """Load the encoder: fp32, eval mode, on the CPU.

        Args:
            max_length: most tokens of a sentence; None takes the model's own limit.
            light: it will only embed, not be trained, cut or saved. Then most BERTs load in half the time.

        Raises:
            UsageError: a layer or length that the model does not have; a base of a folder.
            ModelError: the model cannot be found, loaded, or pooled that way.
            NetworkError: a download failed.
        """
        from distilcse_cli.models.encoder import load_encoder

        return load_encoder(
            self.ref,
            path=self.locate(),
            pooler=self.pooler,
            keep_layers=self.keep_layers,
            max_length=max_length,
            base=self.base,
            tokenizer=self.tokenizer,
            prompt=self.prompt,
            prompt_name=self.prompt_name,
            light=light,
            static=self.static,
        )


def find_weights(ref: str, revision: str | None = None) -> Path | None:
    """Find the file of weights that a reference stands for; None if it stands for something else.

    A file of weights is a local file, or a catalogue name of one (`ckd-tiny-l4`), which is downloaded if need be.

    Raises:
        UsageError: a revision of a local file.
        ModelError: the name of a device, or a name that no file can have.
        NetworkError: a download failed.
    """
    path = expanded(ref)
    try:
        is_folder, is_there = path.is_dir(), path.exists()
    except OSError as error:  # a name too long
        raise ModelError(f"cannot read {ref}: {error.strerror}", hint="name a folder or a file of weights") from error
    if is_folder:
        return None
    if is_there:
        if not path.is_file():
            raise ModelError(f"{ref} is neither a model folder nor a file of weights", hint="name one of these")
        _no_revision(ref, revision, "a local file")
        return path
    if not catalogue.is_known(ref) or catalogue.entry(ref).kind != "model" or catalogue.entry(ref).file is None:
        return None
    return catalogue.entry(ref).at(revision).fetch()


def resolve_reference(ref: str, revision: str | None = None) -> Path:
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
    path = expanded(ref)
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
    if (folder / "embeddings.npy").is_file() and (folder / "manifest.json").is_file():
        raise ModelError(
            f"{ref} is a store of embeddings, not a model: it has rows, and no weights",
            hint="name a model; distilcse distill takes a store as --embeddings",
        )
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise ModelError(
            f"{ref} is an adapter without the model that it belongs to",
            hint="merge the two (peft: merge_and_unload), and name the folder that this writes",
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
