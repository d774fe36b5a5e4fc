"""A model reference that is a file of weights: what it lacks, configuration and tokenizer, is found for it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilcse_cli import catalogue, console
from distilcse_cli.errors import ModelError, NetworkError, UsageError
from distilcse_cli.files import read_json
from distilcse_cli.models.backbone import build_backbone, load_config, load_tokenizer, num_positions
from distilcse_cli.models.inferred import infer_config
from distilcse_cli.models.layout import Layout, read_layout
from distilcse_cli.models.references import resolve_reference
from distilcse_cli.models.state_dict import StateDict, fill, read_state_dict

_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What an encoder is put together from."""

    backbone: Any
    tokenizer: Any
    layout: Layout
    pooling: str | None = None
    """The pooling unless another is asked for."""


def find_weights(ref: str, *, revision: str | None = None) -> Path | None:
    """The file of weights that a reference stands for; None if it is no such reference.

    That is a local file, or a catalogue name of one (`ckd-tiny-l4`), which is downloaded unless it is there.

    Raises:
        UsageError: a revision of a local file.
        ModelError: a device, or a name that no file can have.
        NetworkError: a download failed.
    """
    path = Path(ref).expanduser()
    try:
        is_folder, is_there = path.is_dir(), path.exists()
    except OSError as error:  # a name too long
        raise ModelError(f"cannot read {ref}: {error.strerror}", hint="name a folder or a file of weights") from error
    if is_folder:
        return None
    if is_there:
        if not path.is_file():
            raise ModelError(f"{ref} is neither a model folder nor a file of weights", hint="name one of these")
        if revision is not None:
            raise UsageError(f"--revision {revision} does not go with {ref}, a local file", hint="leave it out")
        return path
    if not catalogue.is_known(ref) or catalogue.entry(ref).kind != "model" or catalogue.entry(ref).file is None:
        return None
    return catalogue.entry(ref).at(revision).fetch()


def load_weights(ref: str, path: Path, *, base: str | None, tokenizer: str | None) -> Parts:
    """Build the encoder's parts around a file of weights.

    Args:
        ref: the reference as typed, for messages.
        path: what `find_weights` returned.
        base: model whose configuration, tokenizer and pooling it has; None takes the one that the catalogue
            knows for its own files, and else reads the architecture from the tensors, and pools by `cls`.
        tokenizer: folder or model whose tokenizer it has; None takes the base's, else that of a
            downloaded model with as many tokens.

    Raises:
        DistilCSEError: the file, base or tokenizer is unfit, or they do not fit each other.
    """
    state = read_state_dict(path)
    if base is None and catalogue.is_known(ref):
        base = _known_base(ref)
    if base is None:
        return _without_base(ref, state, tokenizer)
    layout = read_layout(resolve_reference(base))
    backbone = fill(
        build_backbone(load_config(layout.backbone)),
        state,
        like=base,
        hint="name the --base it was trained from, or leave --base out",
    )
    own = Layout(
        backbone=layout.backbone,
        problem=layout.problem,
        normalize=layout.normalize,
        max_length=layout.max_length,
        lower_case=layout.lower_case,
    )
    folder = layout.backbone if tokenizer is None else _tokenizer_folder(tokenizer)
    loaded = load_tokenizer(folder, state.num_embeddings, lower_case=layout.lower_case and tokenizer is None)
    if len(layout.dense) > (layout.pooling == "cls"):
        console.warn(f"the dense layers of {base} are not used: {ref} has no weights for them")
    return Parts(backbone=backbone, tokenizer=loaded, layout=own, pooling=layout.pooling)


def _known_base(ref: str) -> str | None:
    """The model that the catalogue knows a file to be trained from; None where it is not to be had."""
    known = catalogue.entry(ref).base
    try:
        if known is not None:
            catalogue.fetch(known)
    except NetworkError as error:
        console.warn(f"{ref} was trained from {known}, but {error.message}: its tensors have to do")
        return None
    return known


def _without_base(ref: str, state: StateDict, tokenizer: str | None) -> Parts:
    folder, lower_case, whose = _find_tokenizer(state, tokenizer)
    loaded = load_tokenizer(folder, state.num_embeddings, lower_case=lower_case)
    config, described = infer_config(state, loaded.pad_token_id)
    backbone = fill(
        build_backbone(config), state, like=described, hint="it is incomplete, or --base REF tells what it should hold"
    )
    # the tokenizer is another model's, whose limit is not this one's
    loaded.model_max_length = num_positions(backbone) or loaded.model_max_length
    console.log(f"{ref}: read as {described}; tokenizer of {whose}")
    return Parts(backbone=backbone, tokenizer=loaded, layout=Layout(backbone=folder))


def _find_tokenizer(state: StateDict, tokenizer: str | None) -> tuple[Path, bool, str]:
    """Folder of the tokenizer, whether text is lower-cased before it, and whose it is."""
    if tokenizer is not None:
        return _tokenizer_folder(tokenizer), False, tokenizer
    for name, folder in _models_here():
        layout = read_layout(folder)
        config = layout.backbone / "config.json"
        if config.is_file() and read_json(config).get("vocab_size") == state.num_embeddings:
            return layout.backbone, layout.lower_case, f"{name}, which has as many tokens"
    raise ModelError(
        f"no downloaded model has a tokenizer of the {state.num_embeddings:,} tokens of {state.path}",
        hint="--tokenizer REF names a model that has it, --base REF the one it was trained from",
    )


def _models_here() -> Iterator[tuple[str, Path]]:
    """Names and folders of all models in the data home."""
    for entry in (*catalogue.ENTRIES, *catalogue.downloaded_ids()):
        if entry.kind == "model" and entry.file is None and entry.record() is not None:
            yield entry.name, entry.path


def _tokenizer_folder(ref: str) -> Path:
    """The folder that holds a tokenizer; unlike a model's it needs no config.json."""
    path = Path(ref).expanduser()
    if path.is_dir() and any((path / name).is_file() for name in _TOKENIZER_FILES):
        return path
    return read_layout(resolve_reference(ref)).backbone
