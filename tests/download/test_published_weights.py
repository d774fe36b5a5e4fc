"""The authors' published weights: fetched by name, with the model they were trained from, made a folder of."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.download.conftest import Client
from tests.download.fake_hub import FakeHub, Repo
from tests.download.test_hub_models import files_of

BASE = "nreimers/TinyBERT_L-4_H-312_v2"


@pytest.fixture
def base(tiny: Callable[..., Path]) -> Path:
    """Stands for TinyBERT, 16 wide: a width that does not tell the heads, so the base is needed."""
    return tiny("bert")


@pytest.fixture
def published(hub: FakeHub, tiny: Callable[..., Path]) -> dict[str, torch.Tensor]:
    """Weights as the authors publish theirs; returns them under transformers' names."""
    tensors = load_file(tiny("bert", seed=1) / "model.safetensors")
    file = io.BytesIO()
    torch.save({f"model.{name}": tensor for name, tensor in tensors.items()}, file)
    hub.repos["ffgcc/DistilCSE"] = Repo({"CKD-Tiny-L4.pth": file.getvalue(), "README.md": b"# CKD\n"})
    return tensors


def test_a_name_becomes_a_student_folder_with_the_tokenizer_of_its_base(
    client: Client, hub: FakeHub, tmp_path: Path, base: Path, published: dict[str, torch.Tensor]
) -> None:
    hub.repos[BASE] = Repo(files_of(base))
    client("convert", "ckd-tiny-l4", "--out", tmp_path / "student")
    made = load_file(tmp_path / "student" / "model.safetensors")
    assert all(torch.equal(made[name], published[name]) for name in made)
    vocabularies = [
        json.loads((folder / "tokenizer.json").read_text())["model"] for folder in (tmp_path / "student", base)
    ]
    assert vocabularies[0] == vocabularies[1]
    hub.requests.clear()
    text = tmp_path / "text.txt"
    text.write_text("the cat\n", encoding="utf-8")
    for model in ("ckd-tiny-l4", tmp_path / "student"):
        client("encode", text, "--model", model, "--out", tmp_path / f"{Path(model).name}.npy")
    by_name, by_folder = (np.load(tmp_path / f"{name}.npy") for name in ("ckd-tiny-l4", "student"))
    # the weights lie at other addresses, on which the last digit of a product of one row depends (seen with AVX2)
    np.testing.assert_allclose(by_name, by_folder, atol=1e-6, rtol=0)
    assert hub.requests == []


@pytest.mark.usefixtures("published")
def test_a_base_that_is_not_to_be_had_is_said_and_the_tensors_are_read_instead(client: Client, tmp_path: Path) -> None:
    done = client("convert", "ckd-tiny-l4", "--out", tmp_path / "student", code=4)
    said = "warning: ckd-tiny-l4 was trained from tinybert-l4, but the hub has no model nreimers/TinyBERT_L-4_H-312_v2"
    assert said in done.err
    assert "--tokenizer REF" in done.error
    assert "--base REF" in done.error
    assert not (tmp_path / "student").exists()
