"""What a model folder says about itself: pooling, dense layers, normalization, longest input.

Two layouts are read: sentence-transformers' (`modules.json`, one folder a module; the pooling as
one name or as the older set of flags) and plain transformers', which says nothing about pooling.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from distilcse_cli.errors import ModelError
from distilcse_cli.models.dense import ACTIVATIONS, Dense
from distilcse_cli.models.pooling import mixing_pooling
from distilcse_cli.models.state_dict import read_tensors, require_floats

_TRANSFORMER_CONFIGS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_SENTENCE = "sentence_embedding"
"""Name under which modules hand the pooled vector on."""


@dataclass(kw_only=True)
class Layout:
    """How token vectors become embeddings, according to the folder."""

    backbone: Path
    """Folder of the transformers model and its tokenizer."""
    pooling: str | None = None
    """One of `config.POOLINGS`; None where the folder does not say, or says something else."""
    problem: str | None = None
    """What the folder asks for and we cannot do, such as "max pooling"."""
    dense: tuple[Dense, ...] = ()
    """Dense layers behind the pooling."""
    normalize: bool = False
    """Whether embeddings are scaled to length 1."""
    max_length: int | None = None
    """Most tokens of a sentence; None where the folder does not say."""
    lower_case: bool = False
    """Whether text is lower-cased before the tokenizer sees it."""
    prompt: str | None = None
    """Text that sentence-transformers puts before every sentence."""


class _Unsupported(Exception):
    """The folder asks for something else than a pooling of ours, with dense layers behind it."""


def read_layout(folder: Path) -> Layout:
    """Read the modules of a sentence-transformers folder; for plain transformers all is left open.

    Raises:
        ModelError: a file that `modules.json` promises is missing or broken.
    """
    if not (folder / "modules.json").is_file():
        return Layout(backbone=folder)
    modules = _read_json(folder / "modules.json")
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise ModelError(f"{folder / 'modules.json'} should hold a list of modules", hint="the folder is damaged")
    layout = Layout(backbone=folder, prompt=_default_prompt(folder))
    for module in modules:
        kind = str(module.get("type"))
        place = folder / str(module.get("path", ""))
        try:
            if not kind.startswith("sentence_transformers."):
                raise _Unsupported(f"{kind}, which is code of its own")
            _read_module(layout, kind.rpartition(".")[2], place)
        except _Unsupported as error:
            layout.problem = layout.problem or str(error)
    if layout.pooling == "cls_before_pooler" and layout.dense and layout.dense[0].activation_name == "Tanh":
        layout.pooling = "cls"
    if layout.problem:
        layout.pooling = None
    return layout


def _read_module(layout: Layout, kind: str, place: Path) -> None:
    """Add what one module does to the layout; modules come in the order they run."""
    if kind == "Transformer":
        layout.backbone = place
        settings = _transformer_settings(place)
        length = settings.get("max_seq_length")
        if length is not None and not (isinstance(length, int) and length > 0):
            raise ModelError(f"{place} has a max_seq_length of {length!r}", hint="the model folder is damaged")
        layout.max_length = length
        layout.lower_case = bool(settings.get("do_lower_case"))
    elif kind == "WeightedLayerPooling":
        layout.pooling = _mixing_pooling(place)
    elif kind == "Pooling":
        layout.pooling = _pooling(place, layout.pooling)
    elif kind == "Dense":
        if layout.pooling is None or layout.normalize:
            raise _Unsupported("a dense layer that does not come right behind the pooling")
        layout.dense += (_read_dense(place),)
    elif kind == "Normalize":
        layout.normalize = True
    elif kind != "Dropout":
        raise _Unsupported(f"a module {kind}")


def _default_prompt(folder: Path) -> str | None:
    file = folder / "config_sentence_transformers.json"
    settings = _read_object(file) if file.is_file() else {}
    prompts, name = settings.get("prompts"), settings.get("default_prompt_name")
    prompt = prompts.get(name) if isinstance(prompts, dict) else None
    return prompt or None


def _transformer_settings(place: Path) -> dict[str, Any]:
    files = (place / f"sentence_{name}_config.json" for name in _TRANSFORMER_CONFIGS)
    return next((_read_object(file) for file in files if file.is_file()), {})


def _pooling(place: Path, mixing: str | None) -> str:
    """Our name of a Pooling module's mode; `mixing` is the pooling that a module before it has made it."""
    settings = _read_object(place / "config.json")
    modes = settings.get("pooling_mode")
    if modes is None:
        modes = [mode for flag, mode in _POOLING_FLAGS.items() if settings.get(flag)]
    modes = [modes] if isinstance(modes, str) else list(modes)
    if modes == ["mean"]:
        return mixing or "avg"
    if modes == ["cls"] and mixing is None:
        return "cls_before_pooler"
    raise _Unsupported(f"{' + '.join(map(str, modes)) or 'no'} pooling")


def _mixing_pooling(place: Path) -> str:
    """The pooling of ours that the layer weights of a WeightedLayerPooling amount to."""
    start = _read_object(place / "config.json").get("layer_start", 0)
    weights = _read_tensors(place).get("layer_weights")
    if weights is not None and weights.ndim == 1 and isinstance(start, int):
        pooling = mixing_pooling([0.0] * start + weights.tolist())
        if pooling is not None:
            return pooling
    raise _Unsupported("a mixture of layers with weights of its own")


def _read_dense(place: Path) -> Dense:
    settings = _read_object(place / "config.json")
    activation = str(settings.get("activation_function", "Tanh")).rpartition(".")[2]
    if activation not in ACTIVATIONS or settings.get("use_residual"):
        raise _Unsupported(f"a dense layer with {'a residual' if settings.get('use_residual') else activation}")
    if not settings.get("module_input_name", _SENTENCE) == settings.get("module_output_name", _SENTENCE) == _SENTENCE:
        raise _Unsupported("a dense layer on tokens")
    tensors = _read_tensors(place)
    weight, bias = tensors.get("linear.weight"), tensors.get("linear.bias")
    if weight is None or weight.ndim != 2 or not weight.numel() or (bias is None and settings.get("bias", True)):
        raise ModelError(f"{place} has no linear.weight or linear.bias", hint="the model folder is damaged")
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    try:
        linear.load_state_dict({name.removeprefix("linear."): tensor for name, tensor in tensors.items()})
    except RuntimeError as error:
        raise ModelError(f"{place} holds no plain dense layer", hint="the model folder is damaged") from error
    return Dense(linear, activation)


def _read_tensors(place: Path) -> dict[str, torch.Tensor]:
    is_safe = (place / "model.safetensors").is_file()
    try:
        tensors = read_tensors(place / ("model.safetensors" if is_safe else "pytorch_model.bin"))
    except ModelError as error:
        raise ModelError(f"cannot read the weights in {place}: {error.message}", hint=error.hint) from error
    require_floats(place, tensors)
    return tensors


def _read_object(file: Path) -> dict[str, Any]:
    value = _read_json(file)
    if not isinstance(value, dict):
        raise ModelError(f"{file} should hold a JSON object", hint="the model folder is damaged")
    return value


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"cannot read {file}: {error.strerror}", hint="the model folder is incomplete") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file} is not valid JSON: {error}", hint="the model folder is damaged") from error
