"""Load a bare file of weights: find the configuration and the tokenizer that it lacks."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilcse_cli import catalogue, console
from distilcse_cli.errors import ModelError, NetworkError
from distilcse_cli.files import read_json
from distilcse_cli.models.backbone import build_backbone, load_config, num_positions
from distilcse_cli.models.inferred import infer_config
from distilcse_cli.models.layout import Layout, read_layout
from distilcse_cli.models.pooling import POOLINGS
from distilcse_cli.models.reference import resolve_reference
from distilcse_cli.models.state_dict import StateDict, fill, read_state_dict
from distilcse_cli.models.tokenizer import load_tokenizer
from distilcse_cli.paths import expanded

_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of an encoder."""

    backbone: Any
    tokenizer: Any
    layout: Layout
    pooling: str | None = None
    """The pooling, unless the user names another."""


def load_weights(ref: str, path: Path, *, base: str | None, tokenizer: str | None) -> Parts:
    """Build the encoder's parts from a file of weights.

    Args:
        ref: the reference as typed, for messages.
        path: the file.
        base: model with the same configuration, tokenizer and pooling. None takes the base that the catalogue
            lists for its own files; for other files it reads the architecture from the tensors and pools by `cls`.
        tokenizer: folder or model with the same tokenizer; None takes the base's, else that of a downloaded
            model with as many tokens.

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
        build_backbone(load_config(layout.backbone, **layout.settings.config_args)),
        state,
        like=base,
        hint="name the --base it was trained from, or leave --base out",
    )
    own = Layout(
        backbone=layout.backbone,
        problem=layout.problem,
        normalize=layout.normalize,
        settings=layout.settings,
        prompts=layout.prompts,
    )
    folder = layout.backbone if tokenizer is None else _tokenizer_folder(tokenizer)
    loaded = load_tokenizer(folder, state.num_embeddings, lower_case=layout.settings.lower_case and tokenizer is None)
    if len(layout.dense) > (layout.pooling is not None and POOLINGS[layout.pooling].dense):
        console.warn(f"the dense layers of {base} are not used: {ref} has no weights for them")
    return Parts(backbone=backbone, tokenizer=loaded, layout=own, pooling=layout.pooling)


def _known_base(ref: str) -> str | None:
    """The model that a catalogue's file was trained from; None if it cannot be downloaded."""
    known = catalogue.entry(ref).base
    try:
        if known is not None:
            catalogue.fetch(known)
    except NetworkError as error:
        console.warn(f"{ref} was trained from {known}, but {error.message}: the architecture is read from the tensors")
        return None
    return known


def _without_base(ref: str, state: StateDict, tokenizer: str | None) -> Parts:
    folder, lower_case, whose = _find_tokenizer(state, tokenizer)
    loaded = load_tokenizer(folder, state.num_embeddings, lower_case=lower_case)
    config, described = infer_config(state, loaded.pad_token_id)
    backbone = fill(build_backbone(config), state, like=described, hint="it is incomplete, or needs its --base REF")
    # the tokenizer comes from another model, with another limit
    loaded.model_max_length = num_positions(backbone) or loaded.model_max_length
    console.log(f"{ref}: read as {described}; tokenizer of {whose}")
    return Parts(backbone=backbone, tokenizer=loaded, layout=Layout(backbone=folder))


def _find_tokenizer(state: StateDict, tokenizer: str | None) -> tuple[Path, bool, str]:
    """Folder of the tokenizer, whether text is lower-cased first, and the model it belongs to, for the log."""
    if tokenizer is not None:
        return _tokenizer_folder(tokenizer), False, tokenizer
    for name, folder in _models_here():
        layout = read_layout(folder)
        config = layout.backbone / "config.json"
        if config.is_file() and read_json(config).get("vocab_size") == state.num_embeddings:
            return layout.backbone, layout.settings.lower_case, f"{name}, which has as many tokens"
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
    """Folder that holds a tokenizer; unlike a model folder it needs no config.json."""
    path = expanded(ref)
    if path.is_dir() and any((path / name).is_file() for name in _TOKENIZER_FILES):
        return path
    return read_layout(resolve_reference(ref)).backbone
