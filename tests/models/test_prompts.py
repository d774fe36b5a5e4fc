"""Prompts: applied as sentence-transformers does, told apart wherever rows are kept, and passed on to students."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from distilcse_cli.data.tokens import tokenize
from distilcse_cli.errors import DistilCSEError, ModelError, UsageError
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.models.folder import save_student
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.runtime import choose_runtime
from tests.server import Server

SENTENCES = ["The cat sleeps", "", "a dog runs in the house"]
PROMPTS = {"query": "query: ", "none": "", "long": "the man plays in "}
SAYS = {"prompts": PROMPTS, "default_prompt_name": "query", "similarity_fn_name": "dot"}


@pytest.fixture
def folder(tiny: Callable[..., Path], tmp_path: Path) -> Path:
    """A sentence-transformers folder with prompts."""
    save_student(load_encoder(str(tiny("bert")), pooler="avg"), tmp_path / "model", card="", settings={})
    (tmp_path / "model" / "config_sentence_transformers.json").write_text(json.dumps(SAYS), encoding="utf-8")
    return tmp_path / "model"


def rows(model: ModelRef) -> np.ndarray:
    return Embedder(model.load(), choose_runtime("cpu", "float32")).sentences(SENTENCES)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({}, "'query: ', its default prompt, is put before every sentence"),
        ({"prompt_name": "long"}, "'the man plays in ' is put before every sentence"),
        ({"prompt": "a red "}, "'a red ' is put before every sentence"),
        ({"prompt": ""}, ""),
        ({"prompt_name": "none"}, ""),
    ],
    ids=str,
)
def test_rows_with_a_prompt_are_those_of_sentence_transformers(
    folder: Path, asked: dict[str, str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = SentenceTransformer(str(folder), device="cpu").encode(SENTENCES, **asked)  # type: ignore[call-overload]
    capsys.readouterr()
    np.testing.assert_allclose(rows(ModelRef(ref=str(folder), **asked)), expected, atol=1e-5, rtol=1e-5)
    assert capsys.readouterr().err == (f"{folder}: {says}\n" if says else "")


def test_a_prompt_is_part_of_the_fingerprint_and_none_is_not(tiny: Callable[..., Path], folder: Path) -> None:
    plain = load_encoder(str(tiny("bert")), pooler="avg").fingerprint
    assert ModelRef(ref=str(folder), prompt="").load().fingerprint == plain
    assert len({plain, *(ModelRef(ref=str(folder), prompt=text).load().fingerprint for text in ("a", "b"))}) == 3


def test_a_prompt_counts_as_tokens(folder: Path) -> None:
    tokenizer = load_encoder(str(folder)).tokenizer
    with_prompt, typed = tokenize(["cat"], tokenizer, 64, "the big "), tokenize(["the big cat"], tokenizer, 64)
    np.testing.assert_array_equal(with_prompt.ids, typed.ids)


@pytest.mark.parametrize(
    ("asked", "default", "prompts"),
    [
        ({}, "query", PROMPTS),
        ({"prompt_name": "long"}, "long", PROMPTS),
        ({"prompt": "a red "}, "default", {**PROMPTS, "default": "a red "}),
        ({"prompt": ""}, "none", PROMPTS),
    ],
    ids=str,
)
def test_a_student_keeps_the_prompts_and_begins_with_the_one_it_was_made_with(
    folder: Path, tmp_path: Path, asked: dict[str, str], default: str, prompts: dict[str, str]
) -> None:
    encoder = ModelRef(ref=str(folder), **asked).load()
    save_student(encoder, tmp_path / "student", card="", settings={})
    kept = json.loads((tmp_path / "student" / "config_sentence_transformers.json").read_text(encoding="utf-8"))
    assert (kept["default_prompt_name"], kept["prompts"], kept["similarity_fn_name"]) == (default, prompts, "dot")
    np.testing.assert_array_equal(
        rows(ModelRef(ref=str(tmp_path / "student"))), rows(ModelRef(ref=str(folder), **asked))
    )


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        ({"prompt_name": "passage"}, UsageError, "has no prompt named 'passage'"),
        ({"prompt": "a", "prompt_name": "query"}, UsageError, "as a text and by a name"),
    ],
)
def test_a_prompt_that_is_not_there_is_a_usage_error(
    folder: Path, asked: dict[str, str], error: type[DistilCSEError], says: str
) -> None:
    with pytest.raises(error, match=says):
        ModelRef(ref=str(folder), **asked).load()


@pytest.mark.parametrize(
    "damage", [{"default_prompt_name": []}, {"default_prompt_name": "x"}, {"prompts": [1]}, {"prompts": {"query": 1}}]
)
def test_prompts_that_are_no_texts_are_a_model_error(folder: Path, damage: dict[str, object]) -> None:
    (folder / "config_sentence_transformers.json").write_text(json.dumps(SAYS | damage), encoding="utf-8")
    with pytest.raises(ModelError, match="prompts"):
        load_encoder(str(folder))


def test_a_pooling_without_the_prompt_goes_only_without_a_prompt(folder: Path) -> None:
    file = folder / "1_Pooling" / "config.json"
    file.write_text(json.dumps({"pooling_mode": "mean", "include_prompt": False}), encoding="utf-8")
    with pytest.raises(ModelError, match="leaves prompts out of its pooling"):
        load_encoder(str(folder))
    assert load_encoder(str(folder), prompt="").prompts.used == ""


def test_each_command_takes_prompts_and_keeps_their_rows_apart(server: Server, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("the cat sleeps\na dog runs\nthe man eats\nthe red house\n" * 3, encoding="utf-8")
    environment = server.environment | {"DISTILCSE_HOME": str(tmp_path / "home")}

    def run(line: str) -> dict[str, object]:
        return server.run(line.format(m=folder).split(), tmp_path, environment)

    distill = "distill --teacher {m} --student {m} --corpus s.txt --max-steps 1 --batch-size 2 --keep-layers 0,2"
    for line in (
        "encode s.txt --model {m} --prompt x --out e.npy",
        "encode s.txt --model {m} --prompt-name long --out f.npy",
        "extract --teacher {m} --corpus s.txt --out rows --prompt x",
        f"{distill} --out one --teacher-prompt x --prompt y",
        f"{distill} --out two",
    ):
        ended = run(line)
        assert ended["code"] == 0, ended["err"]
    assert len(list((tmp_path / "home" / "embeddings").iterdir())) == 2
    assert len(list((tmp_path / "home" / "tokens").glob("[!.]*"))) == 2
    assert json.loads((tmp_path / "rows" / "manifest.json").read_text())["prompt"] == "x"
    ended = run(f"{distill} --out three --embeddings rows")
    assert (ended["code"], "prompt is x there, query:  here" in str(ended["err"])) == (3, True), ended["err"]
    assert (
        json.loads((tmp_path / "one" / "config_sentence_transformers.json").read_text())["default_prompt_name"]
        == "default"
    )
