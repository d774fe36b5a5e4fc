"""Settings of a module that change embeddings, leftovers beside the weights, sizes that no file has."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from distilcse_cli.errors import ModelError
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.models.folder import save_student
from distilcse_cli.runtime import choose_runtime

SENTENCES = ["The cat sleeps", "a dog runs in the house on the river, and eats", "the", " ".join(["big child"] * 40)]
WEIGHT = "encoder.layer.0.attention.self.query.weight"


def edit(file: Path, **changes: Any) -> None:
    """Change fields of a JSON object."""
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")


@pytest.fixture
def folder(tiny: Callable[..., Path], tmp_path: Path) -> Path:
    """A plain transformers BERT to spoil."""
    return Path(shutil.copytree(tiny("bert"), tmp_path / "model"))


@pytest.fixture
def modules(tiny: Callable[..., Path], tmp_path: Path) -> Path:
    """A sentence-transformers folder to spoil: the mean."""
    save_student(load_encoder(str(tiny("bert")), pooler="avg"), tmp_path / "modules", card="", settings={})
    return tmp_path / "modules"


@pytest.mark.parametrize(
    "settings",
    [
        {"max_seq_length": 9},
        {"tokenizer_args": {"model_max_length": 7}},
        {"processor_kwargs": {"model_max_length": 7, "truncation_side": "left"}, "max_seq_length": 20},
        {"processing_kwargs": {"text": {"max_length": 8, "padding": True}}},
        {"config_args": {"hidden_act": "relu"}},
        {"config_kwargs": {"layer_norm_eps": 0.5}, "unpad_inputs": False},
        {"model_args": {"add_pooling_layer": False, "attn_implementation": "eager", "torch_dtype": "float32"}},
    ],
    ids=str,
)
def test_settings_of_a_module_are_followed(modules: Path, settings: dict[str, Any]) -> None:
    (modules / "sentence_bert_config.json").write_text(json.dumps(settings), encoding="utf-8")
    expected = SentenceTransformer(str(modules), device="cpu").encode(SENTENCES)
    rows = Embedder(load_encoder(str(modules)), choose_runtime("cpu", "float32")).sentences(SENTENCES)
    np.testing.assert_allclose(rows, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"a_new_setting": 1}, "a_new_setting to 1"),
        ({"tokenizer_args": {"padding_side": "left"}}, "tokenizer_args.padding_side to 'left'"),
        ({"processing_kwargs": {"text": {"add_special_tokens": False}}}, "text.add_special_tokens to False"),
        ({"model_args": {"torch_dtype": "float16"}}, "model_args.torch_dtype to 'float16'"),
        ({"config_args": [1]}, r"config_args to \[1\]"),
        ({"transformer_task": "fill-mask"}, "transformer_task to 'fill-mask'"),
        ({"tokenizer_name_or_path": "x"}, "tokenizer_name_or_path to 'x'"),
        ({"modality_config": {"text": {"method": "forward", "method_output_name": "logits"}}}, "modality_config to"),
    ],
)
def test_settings_that_cannot_be_followed_are_named(modules: Path, settings: dict[str, Any], named: str) -> None:
    edit(modules / "sentence_bert_config.json", **settings)
    with pytest.raises(ModelError, match=named):
        load_encoder(str(modules))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        (WEIGHT.replace(".weight", ".lora_A.default.weight"), "merge the adapter"),
        (f"base_model.model.{WEIGHT}", "merge the adapter"),
        (WEIGHT.replace(".0.", ".7."), "of different models"),
        ("embeddings.task_embeddings.weight", "of different models"),
    ],
)
def test_tensors_that_are_not_used_are_an_error(folder: Path, name: str, hint: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    heads = {"cls.predictions.bias": torch.ones(3), "embeddings.position_ids": torch.ones(1, 66)}
    save_file(tensors | heads, folder / "model.safetensors", metadata={"format": "pt"})
    load_encoder(str(folder))
    save_file(tensors | {name: torch.ones(16, 16)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"has 1 tensors that its config.json has no place for: {name}") as caught:
        load_encoder(str(folder))
    assert hint in str(caught.value.hint)


def test_an_adapter_beside_the_weights_is_not_ignored(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="has an adapter beside its weights, which is not applied"):
        load_encoder(str(folder))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"num_hidden_layers": 10**6}, "num_hidden_layers 1,000,000, but the weights have no more than 1,000 tensors"),
        ({"num_labels": 10**9}, "num_labels 1,000,000,000"),
        ({"vocab_size": 10**9}, "describes 16,000,0.* weights, but the files have"),
        ({"intermediate_size": 10**9}, "describes .* weights, but the files have"),
        ({"position_embedding_type": "relative_key"}, "has relative_key position embeddings"),
    ],
)
def test_sizes_are_compared_with_the_file_before_they_are_built(folder: Path, changes: dict, fault: str) -> None:
    edit(folder / "config.json", **changes)
    with pytest.raises(ModelError, match=fault):
        load_encoder(str(folder), pooler="avg")


def test_settings_of_how_to_compute_change_nothing(folder: Path) -> None:
    expected = load_encoder(str(folder), pooler="avg").fingerprint
    edit(folder / "config.json", chunk_size_feed_forward=7, attn_implementation="kernels-community/x")
    encoder = load_encoder(str(folder), pooler="avg")
    assert encoder.fingerprint == expected
    assert encoder.backbone.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("start", [10**10, 10**30, -1])
def test_layers_of_a_mixture_start_where_a_model_has_layers(
    tiny: Callable[..., Path], tmp_path: Path, start: int
) -> None:
    save_student(load_encoder(str(tiny("bert")), pooler="avg_top2"), tmp_path / "m", card="", settings={})
    edit(tmp_path / "m" / "1_WeightedLayerPooling" / "config.json", layer_start=start)
    with pytest.raises(ModelError, match="uses a mixture of layers with other weights"):
        load_encoder(str(tmp_path / "m"))


@pytest.mark.parametrize("mode", [5, True, {"mean": 1}, [["mean"]]])
def test_an_odd_pooling_mode_is_one_we_do_not_have(modules: Path, mode: object) -> None:
    (modules / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": mode}), encoding="utf-8")
    with pytest.raises(ModelError, match=r"uses .* pooling, which is not supported"):
        load_encoder(str(modules))
