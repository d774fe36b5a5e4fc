"""A BERT loaded without transformers gives the vectors of transformers' own, to the bit, or is left to transformers."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertTokenizer

from distilcse_cli.config import POOLINGS
from distilcse_cli.errors import ModelError
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.models.folder import save_student
from distilcse_cli.models.light import LightBert, light_backbone
from distilcse_cli.models.light_tokenizer import LightTokenizer, light_tokenizer
from distilcse_cli.runtime import Runtime
from tests.tiny import tiny_tokenizer

SENTENCES = ["the cat sleeps in the house", "dog", "a big woman runs to the red market and eats", ""]
FP32 = Runtime(device="cpu", dtype="float32", reason="test")
ODD = [
    "Ünïcödé 東京 ☃ 🤖",
    "[MASK] [CLS] word",
    "tab\tand\x00null \u200b zero",
    "a" * 300,
    "don't-stop,here",
    "",
    "   ",
]
Tiny = Callable[..., Path]


@pytest.fixture
def bert(tiny: Tiny, tmp_path: Path) -> Path:
    """A tiny BERT with the tokenizer that BERTs have."""
    folder = tmp_path / "bert"
    encoder = load_encoder(str(tiny("bert")))
    save_student(encoder, folder, card="", settings={})
    vocabulary = tmp_path / "vocab.txt"
    pieces = sorted(tiny_tokenizer().get_vocab().items(), key=lambda item: item[1])
    vocabulary.write_text("".join(f"{piece}\n" for piece, _ in pieces), encoding="utf-8")
    BertTokenizer(vocab=str(vocabulary), model_max_length=64).save_pretrained(folder)
    return folder


def change(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_is_equal_to_the_bit(bert: Path, tiny: Tiny, pooling: str) -> None:
    folder = tiny("bert") if pooling == "cls" else bert  # the student of another pooling has no pooler
    light, heavy = (load_encoder(str(folder), pooler=pooling, light=light) for light in (True, False))
    assert isinstance(light.backbone, LightBert)
    assert not isinstance(heavy.backbone, LightBert)
    for sentences in (SENTENCES, ["the cat sleeps", "the dog sleeps"]):
        ours, theirs = (Embedder(encoder, FP32).sentences(sentences) for encoder in (light, heavy))
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_read_as_fp32(bert: Path, dtype: torch.dtype) -> None:
    file = bert / "model.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    light, heavy = (load_encoder(str(bert), light=light) for light in (True, False))
    assert isinstance(light.backbone, LightBert)
    assert {weight.dtype for weight in light.parameters()} == {torch.float32}
    ours, theirs = (Embedder(encoder, FP32).sentences(SENTENCES) for encoder in (light, heavy))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "roberta"},
        {"hidden_act": "relu"},
        {"position_embedding_type": "relative_key"},
        {"is_decoder": True},
        {"auto_map": {"AutoModel": "model.py"}},
        {"quantization_config": {"bits": 8}},
        {"vocab_size": 7},
        {"num_hidden_layers": 2},
        {"num_hidden_layers": 10**9},
        {"num_attention_heads": 3},
        {"hidden_size": "16"},
        {"layer_norm_eps": float("nan")},
    ],
)
def test_an_unusual_configuration_is_left_to_transformers(bert: Path, changes: dict[str, object]) -> None:
    assert light_backbone(bert) is not None
    change(bert / "config.json", **changes)
    assert light_backbone(bert) is None


@pytest.mark.parametrize("what", ["missing", "extra", "shape", "integer", "nan", "cut", "gone", "adapter"])
def test_unusual_weights_are_left_to_transformers(bert: Path, what: str) -> None:
    file = bert / "model.safetensors"
    tensors = load_file(file)
    name = "encoder.layer.0.output.dense.bias"
    if what == "missing":
        del tensors[name]
    elif what == "extra":
        tensors["encoder.layer.9.output.dense.bias"] = tensors[name].clone()
    elif what == "shape":
        tensors[name] = tensors[name][:-1].clone()
    elif what == "integer":
        tensors[name] = tensors[name].long()
    elif what == "nan":
        tensors[name][0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    if what == "cut":
        file.write_bytes(file.read_bytes()[:100])
    elif what == "gone":
        file.unlink()
    elif what == "adapter":
        (bert / "adapter_config.json").write_text("{}", encoding="utf-8")
    assert light_backbone(bert) is None
    if what == "integer":  # transformers converts them
        return
    with pytest.raises(ModelError):
        load_encoder(str(bert), light=True)


def test_a_folder_with_another_tokenizer_keeps_that(tiny: Tiny) -> None:
    assert light_tokenizer(tiny("bert")) is None
    assert isinstance(load_encoder(str(tiny("bert")), light=True).backbone, LightBert)


def test_the_tokenizer_gives_the_same_ids(bert: Path) -> None:
    light, heavy = light_tokenizer(bert), AutoTokenizer.from_pretrained(bert)
    assert light is not None
    for text in [*SENTENCES, *ODD]:
        assert light.backend_tokenizer.encode(text).ids == heavy(text)["input_ids"]
    for attribute in ("pad_token_id", "unk_token_id", "truncation_side", "model_max_length"):
        assert getattr(light, attribute) == getattr(heavy, attribute)
    assert set(light.all_special_ids) == set(heavy.all_special_ids)
    assert light.get_vocab() == heavy.get_vocab()
    assert (len(light), light.num_special_tokens_to_add()) == (len(heavy), heavy.num_special_tokens_to_add())


@pytest.mark.parametrize(
    "changes",
    [
        {"do_lower_case": False},
        {"strip_accents": True},
        {"tokenize_chinese_chars": False},
        {"unk_token": "[PAD]"},
        {"cls_token": "the"},
        {"pad_token": None},
        {"tokenizer_class": "RobertaTokenizer"},
        {"extra_special_tokens": ["<a>"]},
        {"additional_special_tokens": ["<a>"]},
        {"never_split": ["cat"]},
    ],
)
def test_a_tokenizer_that_two_files_describe_differently_is_left_to_transformers(
    bert: Path, changes: dict[str, object]
) -> None:
    assert light_tokenizer(bert) is not None
    change(bert / "tokenizer_config.json", **changes)
    assert light_tokenizer(bert) is None


def test_other_special_tokens_in_the_older_file_are_left_to_transformers(bert: Path) -> None:
    (bert / "special_tokens_map.json").write_text('{"unk_token": "[MASK]"}', encoding="utf-8")
    assert light_tokenizer(bert) is None


def test_encode_embeds_a_bert_without_importing_transformers(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the cat\n", encoding="utf-8")
    code = (
        "import sys\n"
        "from distilcse_cli.__main__ import run\n"
        f"sys.argv = ['distilcse', 'encode', 'text.txt', '--model', {str(bert)!r}, '--out', 'rows.npy']\n"
        "assert run() == 0\n"
        "print(sorted({'transformers', 'torch._dynamo', 'scipy', 'huggingface_hub'} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.real_model
def test_the_real_teacher_is_light_and_equal(minilm: Path, tmp_path: Path) -> None:
    heavy = load_encoder(str(minilm))
    save_student(heavy, tmp_path / "again", card="", settings={})
    wanted = Embedder(heavy, FP32).sentences([*SENTENCES, *ODD])
    for folder in (minilm, tmp_path / "again"):
        light = load_encoder(str(folder), light=True)
        assert isinstance(light.backbone, LightBert)
        assert isinstance(light.tokenizer, LightTokenizer)
        np.testing.assert_array_equal(Embedder(light, FP32).sentences([*SENTENCES, *ODD]), wanted)
