"""Cut a shallow student out of a deep model: keep some of its layers, with their weights. Or end it in others."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from torch import nn

from distilcse_cli.errors import ModelError, UsageError
from distilcse_cli.models.pooling import Dense

if TYPE_CHECKING:
    from distilcse_cli.models.encoder import SentenceEncoder

_LAYER_LISTS = ("encoder.layer", "transformer.layer", "layers")
"""Where the layers are: BERT, RoBERTa and MPNet; DistilBERT; ModernBERT."""

# only a ModernBERT's first layer has no norm before attention, and a saved folder cannot say that of another layer
_ALWAYS_KEPT = {"modernbert": (0,)}


def cut_layers(backbone: Any, keep: Sequence[int]) -> None:
    """Keep only the layers numbered `keep` (from 0), in place, and update the configuration.

    Raises:
        UsageError: no layer, one out of range, twice, or not in increasing order.
        ModelError: an architecture whose layers we cannot find.
    """
    name, layers = _layers(backbone)
    _check(keep, len(layers), backbone.config.model_type)
    types = getattr(backbone.config, "layer_types", None)
    _put(backbone, name, [layers[index] for index in keep], types and [types[index] for index in keep])


@contextmanager
def cut_for_a_while(backbone: Any, keep: Sequence[int]) -> Iterator[None]:
    """Keep only these layers while the block runs; raises as `cut_layers` does."""
    name, layers = _layers(backbone)
    types = getattr(backbone.config, "layer_types", None)
    cut_layers(backbone, keep)
    try:
        yield
    finally:
        _put(backbone, name, list(layers), types)


def layers_of(backbone: Any) -> nn.ModuleList:
    """The layers of a backbone, in their order.

    Raises:
        ModelError: an architecture whose layers we cannot find.
    """
    return _layers(backbone)[1]


def always_kept(backbone: Any) -> tuple[int, ...]:
    """Numbers of the layers that no student of this backbone can do without."""
    return _ALWAYS_KEPT.get(backbone.config.model_type, ())


def _put(backbone: Any, name: str, kept: Sequence[nn.Module], types: Sequence[str] | None) -> None:
    """Give a backbone these layers, under the name of its list of layers, and these types in its configuration."""
    for position, layer in enumerate(kept):
        module: Any
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = position
    parent, _, attribute = name.rpartition(".")
    setattr(backbone.get_submodule(parent), attribute, nn.ModuleList(kept))
    backbone.config.num_hidden_layers = len(kept)
    if types is not None:
        backbone.config.layer_types = list(types)


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
    hint = f"the model has layers 0 to {num_layers - 1}; name them in increasing order, such as 0,3,5"
    if not keep:
        raise UsageError("--keep-layers names no layer", hint=hint)
    for index in keep:
        if not 0 <= index < num_layers:
            raise UsageError(f"--keep-layers {given}: there is no layer {index}", hint=hint)
    if any(second <= first for first, second in pairwise(keep)):
        raise UsageError(f"--keep-layers {given}: the numbers do not increase", hint=hint)
    for index in _ALWAYS_KEPT.get(model_type, ()):
        if index not in keep:
            raise UsageError(f"--keep-layers {given}: a {model_type} has to keep its layer {index}", hint=hint)


def with_dense(encoder: "SentenceEncoder", dense: Iterable[Dense], *, normalize: bool) -> "SentenceEncoder":
    """An encoder that shares all other weights, with these dense layers after its pooling."""
    return type(encoder)(
        encoder.backbone,
        encoder.tokenizer,
        pooling=encoder.pooling,
        dense=dense,
        normalize=normalize,
        max_length=encoder.max_length,
        source=encoder.source,
        prompts=encoder.prompts,
        reads_padding=encoder.reads_padding,
    )
