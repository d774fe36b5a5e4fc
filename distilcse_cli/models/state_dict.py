"""Read a state dict from a file, as tensors and nothing else.

Such files (the authors' `.pth`) carry no configuration and no tokenizer. Their names begin with the encoder's name
in its author's program. Loading one with `strict=False`, as is usual, silently turns a wrong file into a model
with other weights. Here every tensor of the encoder must be found.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distilcse_cli import console
from distilcse_cli.errors import ModelError
from distilcse_cli.models.backbone import drop_pooler, require_finite

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
"""Keys under which training programs put the state dict itself."""
_ANCHORS = ("embeddings.word_embeddings.weight", "embeddings.tok_embeddings.weight")
"""The tensor that every encoder has; the text before its name is the prefix."""
_KNOWN = re.compile(
    r"(?:(?:model|module|bert|roberta|distilbert|mpnet|student|student_model|encoder|backbone|auto_model"
    r"|base_model|_orig_mod|\d+)\.)*"
)
"""Prefixes, in any combination. If a file has several encoders, the one with such a prefix is taken."""
_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
"""Constants that older versions of transformers also saved."""
_OLD_NAMES = ((".gamma", ".weight"), (".beta", ".bias"))
_SIMCSE_POOLER = "mlp.dense."
"""SimCSE's name for the dense layer of `cls`."""
_NAMES_SHOWN = 3
_LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")


@dataclass(frozen=True)
class StateDict:
    """The tensors of one encoder, under transformers' names."""

    path: Path
    """The file, for messages."""
    tensors: dict[str, Tensor]
    """Names without the prefix. Heads of a language model may be among them."""
    prefix: str
    """The text before the names, with its last dot."""
    others: tuple[str, ...]
    """Full names of the file's tensors that do not begin with the prefix."""

    @property
    def num_layers(self) -> int:
        """Transformer layers, by the largest number in a name."""
        found = (_LAYER.search(name) for name in self.tensors)
        return max((int(match[1]) + 1 for match in found if match), default=0)

    def rows(self, name: str) -> int:
        """Rows of a tensor; 0 if there is none of that name."""
        return self.tensors[name].shape[0] if name in self.tensors else 0

    @property
    def num_embeddings(self) -> int:
        """Rows of the token embedding table."""
        return next(self.rows(anchor) for anchor in _ANCHORS if anchor in self.tensors)


def read_state_dict(path: Path) -> StateDict:
    """Read a `.safetensors` file, or one of `torch.save`, and remove the prefix from its names.

    Raises:
        ModelError: the file is unreadable or damaged, or holds other things than tensors, no encoder or several.
    """
    tensors = read_tensors(path)
    prefix = _prefix(path, tensors)
    own = {_today(name.removeprefix(prefix)): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    others = {name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}
    if not any(name.startswith("pooler.") for name in own):
        for names in (own, others):
            for name in [name for name in names if name.startswith(_SIMCSE_POOLER)]:
                own["pooler.dense." + name.removeprefix(_SIMCSE_POOLER)] = names.pop(name)
    return StateDict(path, own, prefix, tuple(others))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the named tensors of a `.safetensors` file, or of one of `torch.save`.

    Raises:
        ModelError: the file is unreadable or damaged, or holds other things than tensors, or none with names.
    """
    return _tensors(path, _load(path))


def require_floats(source: object, tensors: Mapping[str, Tensor]) -> None:
    """Check that weights are floating-point numbers, and finite.

    Raises:
        ModelError: naming the first tensor of `source` that is not.
    """
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ModelError(f"{name} in {source} is {kind}", hint="quantized weights cannot be used")
    require_finite(source, tensors)


def _load(path: Path) -> Any:
    from safetensors.torch import load_file

    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}", hint="check the path") from error
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the parsers say about a foreign file
        text = str(error)
        if code := re.search(r"GLOBAL ([\w.]+)", text):
            raise ModelError(
                f"{path} would run {code[1]} when it is loaded: refused", hint="ask its author for safetensors"
            ) from error
        if "weights_only" in text.lower() or "weights only" in text.lower():
            raise ModelError(f"{path} holds more than tensors: refused", hint="ask for safetensors") from error
        raise ModelError(
            f"{path} is damaged, cut short, or no file of weights", hint="fetch or make it again"
        ) from error


def _tensors(path: Path, loaded: Any) -> dict[str, Tensor]:
    """The tensors by name, without the wrappers of a training program."""
    while isinstance(loaded, Mapping) and not any(isinstance(value, Tensor) for value in loaded.values()):
        inner = next((loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), Mapping)), None)
        if inner is None:
            break
        loaded = inner
    entries = loaded.items() if isinstance(loaded, Mapping) else ()
    tensors = {name: value for name, value in entries if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise ModelError(f"{path} holds no tensors with names", hint="name a file that has a model's state_dict")
    return tensors


def _prefix(path: Path, tensors: Mapping[str, Tensor]) -> str:
    prefixes = [
        name.removesuffix(anchor)
        for name in tensors
        for anchor in _ANCHORS
        if name == anchor or name.endswith(f".{anchor}")
    ]
    if not prefixes:
        raise ModelError(
            f"{path} holds no token embeddings, so no encoder: it has {_some(list(tensors))}",
            hint="name a file that has an encoder's state_dict",
        )
    if len(prefixes) > 1:
        prefixes = [prefix for prefix in prefixes if _KNOWN.fullmatch(prefix)] or prefixes
    if len(prefixes) > 1:
        shown = ", ".join(prefix or "no prefix" for prefix in prefixes)
        raise ModelError(f"{path} holds {len(prefixes)} encoders: {shown}", hint="save one of them alone")
    return prefixes[0]


def _today(name: str) -> str:
    for old, new in _OLD_NAMES:
        if name.endswith(f"LayerNorm{old}"):
            return name.removesuffix(old) + new
    return name


def fill(backbone: Any, state: StateDict, *, like: str, hint: str) -> Any:
    """Put the tensors into a new backbone, all of them or none.

    Its `pooler` has no weights afterwards if the file has no weights for it.

    Args:
        backbone: a transformers encoder; its weights are replaced.
        state: the tensors of the file.
        like: the model or description that the backbone was built from, for messages.
        hint: what to do if they do not fit.

    Returns:
        `backbone`, in eval mode.

    Raises:
        ModelError: tensors are missing, unexpected, of another shape, not floating-point numbers or not finite.
    """
    expected = backbone.state_dict()
    tensors = {name: tensor for name, tensor in state.tensors.items() if name in expected}
    if getattr(backbone, "pooler", None) is not None and not any(name.startswith("pooler.") for name in tensors):
        expected = {name: tensor for name, tensor in expected.items() if not name.startswith("pooler.")}
        drop_pooler(backbone)
    _check_names(state, expected, like, hint)
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)} in {state.path} and {tuple(expected[name].shape)} in {like}"
            raise ModelError(f"the shape of {name} is {shapes}", hint=hint)
    require_floats(state.path, tensors)
    backbone.load_state_dict(tensors)
    return backbone.eval()


def _check_names(state: StateDict, expected: Mapping[str, Tensor], like: str, hint: str) -> None:
    roots = {name.partition(".")[0] for name in expected}
    rest = [name for name in state.tensors if name not in expected and name not in _BUFFERS]
    unexpected = [name for name in rest if name.partition(".")[0] in roots]
    missing = [name for name in expected if name not in state.tensors]
    if missing or unexpected:
        what = []
        if missing:
            what.append(f"{len(missing)} of {len(expected)} tensors are missing ({_some(missing)})")
        if unexpected:
            what.append(f"{len(unexpected)} are unexpected ({_some(unexpected)})")
        depth = f", and it has {state.num_layers} layers" if state.num_layers else ""
        raise ModelError(f"{state.path} does not fit {like}: {', '.join(what)}{depth}", hint=hint)
    heads = [*(name for name in rest if name not in unexpected), *state.others]
    if heads:
        console.log(f"{state.path}: leaving out {len(heads)} tensors that are not the encoder's: {_some(heads)}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMES_SHOWN]) + (", …" if len(names) > _NAMES_SHOWN else "")
