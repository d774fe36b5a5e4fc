"""Files of weights with tensors that no model computes with: each is one error that names it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from distilcse_cli.errors import ModelError
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.models.state_dict import read_state_dict

QUERY = "encoder.layer.0.attention.self.query.weight"


def odd(tensor: Callable[[torch.Tensor], torch.Tensor], name: str = QUERY) -> Callable[[dict[str, Any]], object]:
    return lambda tensors: tensors.update({name: tensor(tensors[name])})


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (odd(lambda one: one.to_sparse()), f"{QUERY} in .* is a sparse tensor"),
        (odd(lambda one: one.to_sparse_csr()), f"{QUERY} in .* is a sparse tensor"),
        (odd(lambda one: one.to("meta")), f"{QUERY} in .* is a meta tensor"),
        (odd(lambda one: torch.nested.nested_tensor([one, one[:3]])), f"{QUERY} in .* is a nested tensor"),
        (odd(lambda one: one.to(torch.float8_e4m3fn)), f"{QUERY} in .* is float8_e4m3fn"),
        (odd(lambda one: one.sum(), "embeddings.word_embeddings.weight"), "word_embeddings.weight in .* is no table"),
        (odd(lambda one: one.sum()), f"the shape of {QUERY} is"),
        (odd(lambda one: one.sum(), "embeddings.position_embeddings.weight"), "shape|positions|cannot"),
    ],
)
@pytest.mark.parametrize("with_base", [False, True])
def test_tensors_of_odd_kinds_are_named(
    tiny: Callable[..., Path], tmp_path: Path, spoil: Callable[[dict[str, Any]], object], says: str, with_base: bool
) -> None:
    model = tiny("bert", width=64)
    tensors: dict[str, Any] = dict(load_file(model / "model.safetensors"))
    spoil(tensors)
    torch.save(tensors, tmp_path / "weights.pth")
    other = {"base": str(model)} if with_base else {"tokenizer": str(model)}
    with pytest.raises(ModelError, match=says if not with_base else f"{says}|the shape of"):
        load_encoder(str(tmp_path / "weights.pth"), pooler="avg", **other)


def test_a_dict_that_holds_itself_is_no_model(tmp_path: Path) -> None:
    endless: dict[str, Any] = {}
    endless["model"] = endless
    torch.save(endless, tmp_path / "weights.pth")
    with pytest.raises(ModelError, match="holds no tensors with names"):
        read_state_dict(tmp_path / "weights.pth")
