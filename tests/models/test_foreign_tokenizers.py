"""Tokenizers as other people leave them: ids without embeddings, failures in Rust, limits that are no numbers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distilcse_cli.data.tokens import tokenize, tokenizer_errors
from distilcse_cli.errors import ModelError
from distilcse_cli.models.encoder import load_encoder

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def spoilt(tiny: Callable[..., Path], tmp_path: Path) -> Callable[[str, Change], str]:
    """`spoilt("tokenizer.json", change)`: a BERT's folder with one file changed."""

    def spoil(name: str, change: Change) -> str:
        folder = Path(shutil.copytree(tiny("bert"), tmp_path / "model"))
        fields = json.loads((folder / name).read_text(encoding="utf-8"))
        change(fields)
        (folder / name).write_text(json.dumps(fields), encoding="utf-8")
        return str(folder)

    return spoil


def special_id(fields: dict[str, Any]) -> None:
    fields["post_processor"]["special_tokens"]["[CLS]"]["ids"] = [999_999]


def growing(fields: dict[str, Any]) -> None:
    fields["normalizer"] = {"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 1_000_000}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda fields: fields["model"]["vocab"].update(the=40_000), "has the token id 40000, but the model has"),
        (lambda fields: fields["model"]["vocab"].update(the=2**31 + 5), f"has the token id {2**31 + 5}, but the model"),
        (special_id, "has the token id 999999, but the model has embeddings for"),
        (growing, "characters of 100"),
    ],
    ids=["gap", "huge", "special", "normalizer"],
)
def test_what_a_tokenizer_makes_must_fit_the_model(
    spoilt: Callable[[str, Change], str], change: Change, says: str
) -> None:
    with pytest.raises(ModelError, match=says):
        load_encoder(spoilt("tokenizer.json", change), pooler="avg")


def test_a_word_without_the_unknown_token_is_one_error(spoilt: Callable[[str, Change], str]) -> None:
    def change(fields: dict[str, Any]) -> None:
        fields["model"]["unk_token"] = "[NONE]"

    tokenizer = load_encoder(spoilt("tokenizer.json", change), pooler="avg").tokenizer
    assert tokenize(["the cat"], tokenizer, 64).lengths.tolist() == [4]
    with pytest.raises(ModelError, match=r"the tokenizer of .*model fails: .*\[UNK\]|fails"):
        tokenize(["漢"], tokenizer, 64)


def test_a_panic_is_an_error_of_the_model_and_ctrl_c_is_not() -> None:
    class PanicException(BaseException):  # as pyo3 has it
        pass

    with pytest.raises(ModelError, match="the tokenizer of x fails: index out of bounds"), tokenizer_errors("x"):
        raise PanicException("index out of bounds\nnote: run with")
    with pytest.raises(KeyboardInterrupt), tokenizer_errors("x"):
        raise KeyboardInterrupt


@pytest.mark.parametrize(("limit", "length"), [("12", 12), (12.0, 12), (10**30, 66), (None, 66)])
def test_a_longest_input_may_stand_in_quotes(spoilt: Callable[[str, Change], str], limit: Any, length: int) -> None:
    def change(fields: dict[str, Any]) -> None:
        fields.pop("model_max_length")
        fields |= {} if limit is None else {"model_max_length": limit}

    assert load_encoder(spoilt("tokenizer_config.json", change), pooler="avg").max_length == length


@pytest.mark.parametrize("limit", ["abc", [], float("nan"), True, {}])
def test_a_longest_input_that_is_no_number_is_one_error(spoilt: Callable[[str, Change], str], limit: Any) -> None:
    with pytest.raises(ModelError, match=r"model_max_length|cannot load the tokenizer"):
        load_encoder(
            spoilt("tokenizer_config.json", lambda fields: fields.update(model_max_length=limit)), pooler="avg"
        )


@pytest.mark.parametrize("limit", [0, 1, 2, -5, 1.5, "2"])
def test_a_tiny_longest_input_is_the_models_fault(spoilt: Callable[[str, Change], str], limit: Any) -> None:
    folder = spoilt("tokenizer_config.json", lambda fields: fields.update(model_max_length=limit))
    with pytest.raises(ModelError, match=r"allows sentences of .* tokens, special tokens included, of which it adds 2"):
        load_encoder(folder, pooler="avg")
    assert load_encoder(folder, pooler="avg", max_length=9).max_length == 9


@pytest.mark.parametrize("kind", ["BoW", "Router"])
def test_folders_without_a_transformer_are_called_by_name(tmp_path: Path, kind: str) -> None:
    module = {"idx": 0, "name": "0", "path": "", "type": f"sentence_transformers.models.{kind}"}
    (tmp_path / "modules.json").write_text(json.dumps([module]), encoding="utf-8")
    with pytest.raises(ModelError, match=f"uses a module {kind}, which is not supported, and has no transformer"):
        load_encoder(str(tmp_path), pooler="avg")


def test_an_adapter_alone_is_called_by_name(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="is an adapter without the model that it belongs to"):
        load_encoder(str(tmp_path))
