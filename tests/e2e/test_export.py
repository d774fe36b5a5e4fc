"""`distilcse export --to onnx`, as a user types it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distilcse_cli.config import EncodeSettings
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.models.folder import save_student
from distilcse_cli.runtime import Runtime
from tests.conftest import ROOT
from tests.e2e.conftest import Typed

pytestmark = pytest.mark.e2e


def test_the_command_adds_graphs_to_a_folder_and_replaces_them_only_when_asked(
    typed: Typed, tiny: Callable[..., Path], tmp_path: Path
) -> None:
    save_student(load_encoder(str(tiny("bert")), pooler="avg"), tmp_path / "student", card="", settings={})
    export = ("export", "student", "--to", "onnx")
    report = json.loads(typed(*export, "--int8", "--min-cosine", 0.5, "--json").out)
    onnx_folder = tmp_path / "student" / "onnx"
    assert {file.name: file.stat().st_size for file in onnx_folder.iterdir()} == {
        Path(report[kind]["file"]).name: report[kind]["num_bytes"] for kind in ("float32", "int8")
    }
    assert "--overwrite" in typed(*export, code=3).err
    snippet = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "export.md").read_text(encoding="utf-8"), re.DOTALL)
    named: dict[str, Any] = {}
    exec(snippet[0], named)
    texts = ["A sentence.", "Another one, a little longer."]
    cpu = Runtime(device="cpu", dtype="float32", reason="test")
    ours = Embedder(load_encoder("student"), cpu, EncodeSettings()).sentences(texts)
    np.testing.assert_allclose(named["embeddings"], ours, atol=5e-6)
    (onnx_folder / "other.onnx").write_bytes(b"kept")
    (tmp_path / "mine.txt").write_text("the cat sleeps\n\na dog runs to the river\n", encoding="utf-8")
    done = typed(*export, "--overwrite", "--sentences", "mine.txt")
    assert "MB in float32, opset 17, within" in done.out
    assert "of torch on 2 sentences" in done.out
    assert "model_quantized.onnx of an earlier export is removed" in done.err
    assert {file.name for file in onnx_folder.iterdir()} == {"model.onnx", "other.onnx"}
    assert "no folder here" in typed("export", "all-minilm-l6", "--to", "onnx", code=2).err
    assert "must be onnx" in typed("export", "student", "--to", "gguf", code=2).err
    assert "goes with --asymmetric only" in typed(*export, "--out", "x", code=2).err
    assert "goes with a graph only" in typed("export", "student", "--asymmetric", "--int8", code=2).err
    assert "name one form" in typed("export", "student", code=2).err
    assert "name one form" in typed(*export, "--web", "page", code=2).err
    assert "not empty" in typed("export", "student", "--web", "student", code=3).err
