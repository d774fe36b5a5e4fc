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

_TRANSFORMER_CONFIGS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How token vectors become embeddings, according to the folder."""

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


def read_layout(folder: Path) -> Layout:
    """Read the modules of a sentence-transformers folder; an empty `Layout` for plain transformers.

    Raises:
        ModelError: a file that `modules.json` promises is missing or broken.
    """
    if not (folder / "modules.json").is_file():
        return Layout()
    modules = _read_json(folder / "modules.json")
    if not isinstance(modules, list) or not all(isinstance(m, dict) and "type" in m for m in modules):
        raise ModelError(f"{folder / 'modules.json'} should hold a list of modules")
    settings = _transformer_settings(folder)
    pooling: str | None = None
    problem: str | None = None
    mixed: str | None = None
    dense: list[Dense] = []
    normalize = False
    for module in modules:
        kind = str(module["type"]).rsplit(".", 1)[-1]
        place = folder / str(module.get("path", ""))
        if not str(module["type"]).startswith("sentence_transformers."):
            problem = problem or f"the module {module['type']}, which is code of the model's own"
        elif kind == "WeightedLayerPooling":
            mixed, problem = _mixed_pooling(place, problem)
        elif kind == "Pooling":
            pooling, problem = _pooling(place, mixed, problem)
        elif kind == "Dense":
            dense.append(_read_dense(place))
        elif kind == "Normalize":
            normalize = True
        elif kind not in ("Transformer", "Dropout"):
            problem = problem or f"the module {kind}"
    if pooling == "cls_before_pooler" and dense and dense[0].activation_name == "Tanh":
        pooling = "cls"
    return Layout(
        pooling=None if problem else pooling,
        problem=problem,
        dense=tuple(dense),
        normalize=normalize,
        max_length=settings.get("max_seq_length"),
        lower_case=bool(settings.get("do_lower_case")),
    )


def _transformer_settings(folder: Path) -> dict[str, Any]:
    for name in _TRANSFORMER_CONFIGS:
        file = folder / f"sentence_{name}_config.json"
        if file.is_file():
            settings = _read_json(file)
            return settings if isinstance(settings, dict) else {}
    return {}


def _pooling(place: Path, mixed: str | None, problem: str | None) -> tuple[str | None, str | None]:
    """Our name of a Pooling module's mode, or the problem with it."""
    settings = _read_json(place / "config.json")
    modes = settings.get("pooling_mode")
    if modes is None:
        modes = [mode for flag, mode in _POOLING_FLAGS.items() if settings.get(flag)]
    elif isinstance(modes, str):
        modes = [modes]
    if modes == ["mean"]:
        return mixed or "avg", problem
    if modes == ["cls"] and mixed is None:
        return "cls_before_pooler", problem
    return None, problem or f"{' + '.join(modes) or 'no'} pooling"


def _mixed_pooling(place: Path, problem: str | None) -> tuple[str | None, str | None]:
    """Which of our layer-mixing poolings the layer weights of a WeightedLayerPooling amount to."""
    settings = _read_json(place / "config.json")
    weights = _read_tensors(place).get("layer_weights")
    start = settings.get("layer_start", 4)
    if weights is not None and weights.ndim == 1:
        last = start + len(weights) - 1
        used = [start + int(index) for index in weights.nonzero().flatten()]
        names = {0: "avg_first_last", 1: "avg_layer1_last", last - 1: "avg_top2"}
        even = len({float(weight) for weight in weights if weight}) == 1
        if even and len(used) == 2 and used[1] == last and used[0] in names:
            return names[used[0]], problem
    return None, problem or "a mixture of layers with weights of its own"


def _read_dense(place: Path) -> Dense:
    settings = _read_json(place / "config.json")
    activation = str(settings.get("activation_function", "Tanh")).rsplit(".", 1)[-1]
    if activation not in ACTIVATIONS or settings.get("use_residual"):
        raise ModelError(f"{place} has a dense layer with {activation}, which is not supported")
    tensors = _read_tensors(place)
    weight, bias = tensors.get("linear.weight"), tensors.get("linear.bias")
    if weight is None or (bias is None and settings.get("bias", True)):
        raise ModelError(f"{place} has no linear.weight or linear.bias in its weights file")
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        linear.weight.copy_(weight)
        if bias is not None:
            linear.bias.copy_(bias)
    return Dense(linear, activation)


def _read_tensors(place: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    try:
        if (place / "model.safetensors").is_file():
            return load_file(place / "model.safetensors")
        return torch.load(place / "pytorch_model.bin", map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(f"cannot read the weights in {place}: {str(error).splitlines()[0]}") from error


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"cannot read {file}: {error.strerror}", hint="the model folder is incomplete") from error
    except ValueError as error:
        raise ModelError(f"{file} is not valid JSON: {error}", hint="the model folder is damaged") from error
