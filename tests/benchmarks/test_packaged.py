"""The ONNX file of a BERT becomes a folder with the same weights."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import packaged
from distilcse_cli.errors import ModelError
from distilcse_cli.models.folder import save_student
from distilcse_cli.models.reference import ModelRef


def _stand_in(monkeypatch: pytest.MonkeyPatch, tensors: dict[str, Tensor]) -> None:
    """An `onnx` package whose every file holds these tensors, as torch exports them: products lose their names."""
    graph = SimpleNamespace(initializer=[], node=[])
    for number, (name, tensor) in enumerate(tensors.items()):
        is_product = name.startswith("encoder") and tensor.ndim == 2
        stored = f"onnx::MatMul_{number}" if is_product else f"model.0.auto_model.{name}"
        graph.initializer.append(SimpleNamespace(name=stored, array=(tensor.T if is_product else tensor).numpy()))
        if is_product:
            # as torch names it: the layers of a list keep their dot
            path = name.removesuffix("weight").replace(".", "/").replace("layer/", "layer.")
            node = f"/model/model.0/auto_model/{path}MatMul"
            graph.node.append(SimpleNamespace(op_type="MatMul", name=node, input=["states", stored]))
    # a product of two computed matrices has no weights
    graph.node.append(SimpleNamespace(op_type="MatMul", name="/model/model.0/auto_model/MatMul", input=["a", "b"]))
    onnx: Any = ModuleType("onnx")
    onnx.load = lambda _file: SimpleNamespace(graph=graph)
    helper: Any = ModuleType("onnx.numpy_helper")
    helper.to_array = lambda tensor: tensor.array
    monkeypatch.setitem(sys.modules, "onnx", onnx)
    monkeypatch.setitem(sys.modules, "onnx.numpy_helper", helper)


def _run(monkeypatch: pytest.MonkeyPatch, like: Path, out: Path) -> None:
    arguments = ["packaged", "file.onnx", "--like", str(like), "--max-length", "32", "--out", str(out)]
    monkeypatch.setattr("sys.argv", arguments)
    packaged.main()


def test_the_folder_has_the_weights_of_the_file_and_does_not_normalize(
    tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ModelRef(ref=str(tiny("bert", num_layers=2, seed=1)), pooler="avg").load()
    tensors = dict(source.backbone.state_dict())
    _stand_in(monkeypatch, tensors)
    like = ModelRef(ref=str(tiny("bert", num_layers=3)), pooler="avg").load()
    like.normalize = True
    save_student(like, tmp_path / "like", card="", settings={})
    _run(monkeypatch, tmp_path / "like", tmp_path / "out")
    made = ModelRef(ref=str(tmp_path / "out")).load()
    assert (made.num_layers, made.max_length, made.normalize) == (2, 32, False)
    for name, tensor in made.backbone.state_dict().items():
        assert torch.equal(tensor, tensors[name]), name
    modules = json.loads((tmp_path / "out" / "modules.json").read_text(encoding="utf-8"))
    assert [module["path"] for module in modules] == ["", "1_Pooling"]


def test_another_architecture_is_refused_and_nothing_is_written(
    tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ModelRef(ref=str(tiny("bert", num_layers=2, width=32))).load()
    _stand_in(monkeypatch, dict(source.backbone.state_dict()))
    with pytest.raises(ModelError, match=r"file\.onnx is no .* of 2 layers"):
        _run(monkeypatch, tiny("bert", num_layers=3), tmp_path / "out")
    assert not (tmp_path / "out").exists()
