"""Cut a shallow student out of a deep model: keep some of its layers, with their weights."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from distilcse_cli.errors import ModelError, UsageError

_LAYER_LISTS = ("encoder.layer", "transformer.layer", "layers")
"""Where the layers are: BERT, RoBERTa and MPNet; DistilBERT; ModernBERT."""


def cut_layers(backbone: Any, keep: Sequence[int]) -> None:
    """Keep only the layers numbered `keep` (from 0), in place, and update the configuration.

    Raises:
        UsageError: no layer, one out of range, twice, or not in increasing order.
        ModelError: an architecture whose layers we cannot find.
    """
    name, layers = _layers(backbone)
    _check(keep, len(layers), backbone.config.model_type)
    kept = nn.ModuleList([layers[index] for index in keep])
    for position, layer in enumerate(kept):
        module: Any
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = position
    parent, _, attribute = name.rpartition(".")
    setattr(backbone.get_submodule(parent), attribute, kept)
    config = backbone.config
    types = getattr(config, "layer_types", None)
    config.num_hidden_layers = len(kept)
    if types is not None:
        config.layer_types = [types[index] for index in keep]


def _layers(backbone: Any) -> tuple[str, nn.ModuleList]:
    for name in _LAYER_LISTS:
        try:
            layers = backbone.get_submodule(name)
        except AttributeError:
            continue
        if isinstance(layers, nn.ModuleList):
            return name, layers
    raise ModelError(f"do not know where a {backbone.config.model_type} has its layers, so none can be cut")


def _check(keep: Sequence[int], num_layers: int, model_type: str) -> None:
    given = ",".join(str(index) for index in keep)
    hint = f"the model has layers 0 to {num_layers - 1}; name them in increasing order, such as 0,2,4"
    if not keep:
        raise UsageError("--keep-layers names no layer", hint=hint)
    for index in keep:
        if not 0 <= index < num_layers:
            raise UsageError(f"--keep-layers {given}: there is no layer {index}", hint=hint)
    if any(second <= first for first, second in pairwise(keep)):
        raise UsageError(f"--keep-layers {given}: the numbers do not increase", hint=hint)
    if model_type == "modernbert" and keep[0] != 0:
        # only its first layer has no norm before attention, and a saved folder cannot say that of another layer
        raise UsageError(f"--keep-layers {given}: a ModernBERT has to keep its layer 0", hint=hint)
