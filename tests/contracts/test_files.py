"""The files beside the weights, as programs older than ours read them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from distilcse_cli.files import read_json, write_json
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.models.folder import save_student


def test_the_tokenizer_has_one_limit_and_names_that_transformers_4_knows(
    tiny: Callable[..., Path], tmp_path: Path
) -> None:
    base = shutil.copytree(tiny("bert"), tmp_path / "base")
    # what a tokenizer that was used before it was saved may leave, and all-MiniLM-L6-v2's does
    left = {"max_length": 5, "truncation_strategy": "longest_first", "stride": 0, "pad_to_multiple_of": None}
    write_json(base / "tokenizer_config.json", read_json(base / "tokenizer_config.json") | left)
    encoder = load_encoder(str(base), pooler="avg")
    encoder.tokenizer.add_special_tokens({"extra_special_tokens": ["big"]})
    save_student(encoder, tmp_path / "student", card="", settings={})
    config = read_json(tmp_path / "student" / "tokenizer_config.json")
    assert not left.keys() & config.keys()
    assert "extra_special_tokens" not in config
    named = ("model_max_length", "tokenizer_class", "model_input_names", "additional_special_tokens")
    assert [config[name] for name in named] == [
        64,
        "PreTrainedTokenizerFast",
        ["input_ids", "attention_mask"],  # transformers 4 would add token_type_ids, which a DistilBERT does not take
        ["big"],
    ]
    special = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
    assert read_json(tmp_path / "student" / "special_tokens_map.json") == {
        f"{name}_token": token for name, token in special.items()
    }
    again = AutoTokenizer.from_pretrained(tmp_path / "student")
    text = "the big cat, 7 of 9"
    assert again(text)["input_ids"] == encoder.tokenizer(text)["input_ids"]
    assert again.extra_special_tokens == ["big"]


@pytest.mark.parametrize("num_layers", [1, 3])
def test_a_distilbert_has_its_sizes_under_the_usual_names_too(
    tiny: Callable[..., Path], tmp_path: Path, num_layers: int
) -> None:
    layers = tuple(range(num_layers))
    encoder = load_encoder(str(tiny("distilbert")), pooler="avg", keep_layers=layers)
    save_student(encoder, tmp_path / "student", card="", settings={})
    config = read_json(tmp_path / "student" / "config.json")
    assert (
        (config["hidden_size"], config["num_hidden_layers"]) == (config["dim"], config["n_layers"]) == (16, num_layers)
    )
    assert load_encoder(str(tmp_path / "student")).fingerprint == encoder.fingerprint
