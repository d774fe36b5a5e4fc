"""Read what a model folder says about itself: pooling, dense layers, normalization, longest input.

Two layouts are known. sentence-transformers' has `modules.json` and one folder a module, with the pooling as
a name or as the older set of flags. Plain transformers' says nothing about pooling.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from distilcse_cli.errors import ModelError
from distilcse_cli.models.module_settings import ModuleSettings, module_settings
from distilcse_cli.models.pooling import ACTIVATIONS, MEAN, POOLINGS, Dense, find_pooling, mixed_layer
from distilcse_cli.models.prompts import Prompts, read_prompts
from distilcse_cli.models.state_dict import read_tensors, require_floats

_TRANSFORMER_CONFIGS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
_POOLING_FLAGS = {
    **{pooling.reads.flag: pooling.reads.mode for pooling in POOLINGS.values()},
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
}
_MAX_LAYERS = 1000
_SENTENCE = "sentence_embedding"
"""Name under which modules pass the pooled vector on."""


@dataclass(kw_only=True)
class Layout:
    """How token vectors become embeddings, as the folder says."""

    backbone: Path
    """Folder of the transformers model and its tokenizer."""
    table: torch.Tensor | None = None
    """(V, H) token vectors of a static model, which has no transformer; None for the others."""
    pooling: str | None = None
    """One of `config.POOLINGS`; None if the folder names none, or one that we do not have."""
    problem: str | None = None
    """Something that the folder needs and we cannot do, such as "max pooling"."""
    dense: tuple[Dense, ...] = ()
    """Dense layers after the pooling."""
    normalize: bool = False
    """Whether embeddings are scaled to length 1."""
    settings: ModuleSettings = field(default_factory=ModuleSettings)
    """Longest input, lower-casing, and what the module sets for tokenizer and configuration."""
    prompts: Prompts = field(default_factory=Prompts)
    """Texts that may go before every sentence."""


class _Unsupported(Exception):
    """The folder describes something other than one of our poolings with dense layers after it."""


def read_layout(folder: Path) -> Layout:
    """Read the modules of a sentence-transformers folder; for plain transformers only the folder is known.

    Raises:
        ModelError: a file that `modules.json` names is missing or broken.
    """
    if not (folder / "modules.json").is_file():
        return Layout(backbone=folder)
    modules = _read_json(folder / "modules.json")
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise ModelError(f"{folder / 'modules.json'} should hold a list of modules", hint="the folder is damaged")
    layout = Layout(backbone=folder, prompts=_prompts(folder))
    for entry in modules:
        kind = str(entry.get("type"))
        try:
            if not kind.startswith("sentence_transformers."):
                raise _Unsupported(f"{kind}, which is the model's own code")
            _read_module(layout, kind.rpartition(".")[2], folder / str(entry.get("path", "")))
        except _Unsupported as error:
            layout.problem = layout.problem or str(error)
    if layout.pooling and layout.dense and layout.dense[0].activation_name == "Tanh":
        pooling = POOLINGS[layout.pooling]
        layout.pooling = find_pooling(pooling.reads.mode, mixes=pooling.mixes, dense=True)
    if layout.problem:
        layout.pooling = None
    return layout


def _read_module(layout: Layout, kind: str, module: Path) -> None:
    """Add one module to the layout. Modules come in the order in which they run."""
    if kind == "Transformer":
        layout.backbone = module
        layout.settings = _transformer_settings(module)
    elif kind == "StaticEmbedding":
        layout.backbone, layout.table, layout.pooling = module, _read_table(module), "avg"
    elif kind == "WeightedLayerPooling":
        layout.pooling = _mixing_pooling(module)
    elif kind == "Pooling":
        settings = _read_object(module / "config.json")
        if settings.get("include_prompt") is False:
            layout.prompts = replace(layout.prompts, pooled=False)
        layout.pooling = _pooling(settings, layout.pooling)
    elif kind == "Dense":
        if layout.pooling is None or layout.normalize:
            raise _Unsupported("a dense layer that does not come right after the pooling")
        layout.dense += (_read_dense(module),)
    elif kind == "Normalize":
        layout.normalize = True
    elif kind != "Dropout":
        raise _Unsupported(f"a module {kind}")


def _prompts(folder: Path) -> Prompts:
    file = folder / "config_sentence_transformers.json"
    return read_prompts(file, _read_object(file)) if file.is_file() else Prompts()


def _transformer_settings(module: Path) -> ModuleSettings:
    files = (module / f"sentence_{name}_config.json" for name in _TRANSFORMER_CONFIGS)
    return next((module_settings(file, _read_object(file)) for file in files if file.is_file()), ModuleSettings())


def _pooling(settings: dict[str, Any], mixing: str | None) -> str:
    """Our name for a Pooling module's mode; `mixing` is our name for a WeightedLayerPooling before it."""
    modes = settings.get("pooling_mode")
    if modes is None:
        modes = [mode for flag, mode in _POOLING_FLAGS.items() if settings.get(flag)]
    modes = list(modes) if isinstance(modes, list) else [modes]
    found = (
        find_pooling(modes[0], mixes=POOLINGS[mixing].mixes if mixing else None)
        if len(modes) == 1 and isinstance(modes[0], str)
        else None
    )
    if found is None:
        raise _Unsupported(f"{' + '.join(map(str, modes)) or 'no'} pooling")
    return found


def _mixing_pooling(module: Path) -> str:
    """Our pooling with the layer weights of a WeightedLayerPooling; the Pooling after it takes the mean."""
    start = _read_object(module / "config.json").get("layer_start", 0)
    weights = _read_tensors(module).get("layer_weights")
    if weights is not None and weights.ndim == 1 and isinstance(start, int) and 0 <= start <= _MAX_LAYERS:
        mixes = mixed_layer([0.0] * start + weights.tolist())
        pooling = None if mixes is None else find_pooling(MEAN.mode, mixes=mixes)
        if pooling is not None:
            return pooling
    raise _Unsupported("a mixture of layers with other weights")


def _read_table(module: Path) -> torch.Tensor:
    table = _read_tensors(module).get("embedding.weight")
    if table is None or table.ndim != 2 or not table.numel():
        raise _Unsupported("a StaticEmbedding without a table embedding.weight")
    return table


def _read_dense(module: Path) -> Dense:
    settings = _read_object(module / "config.json")
    activation = str(settings.get("activation_function", "Tanh")).rpartition(".")[2]
    if activation not in ACTIVATIONS or settings.get("use_residual"):
        raise _Unsupported(f"a dense layer with {'a residual' if settings.get('use_residual') else activation}")
    if not settings.get("module_input_name", _SENTENCE) == settings.get("module_output_name", _SENTENCE) == _SENTENCE:
        raise _Unsupported("a dense layer on tokens")
    tensors = _read_tensors(module)
    weight, bias = tensors.get("linear.weight"), tensors.get("linear.bias")
    if weight is None or weight.ndim != 2 or not weight.numel() or (bias is None and settings.get("bias", True)):
        raise ModelError(f"{module} has no linear.weight or linear.bias", hint="the model folder is damaged")
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    try:
        linear.load_state_dict({name.removeprefix("linear."): tensor for name, tensor in tensors.items()})
    except RuntimeError as error:
        raise ModelError(f"{module} holds no plain dense layer", hint="the model folder is damaged") from error
    return Dense(linear, activation)


def _read_tensors(module: Path) -> dict[str, torch.Tensor]:
    is_safe = (module / "model.safetensors").is_file()
    try:
        tensors = read_tensors(module / ("model.safetensors" if is_safe else "pytorch_model.bin"))
    except ModelError as error:
        raise ModelError(f"cannot read the weights in {module}: {error.message}", hint=error.hint) from error
    require_floats(module, tensors)
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
