"""The code in a card runs as it stands, against the real packages, and gives the student's own vectors."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from distilcse_cli.models.card import Card, model_card
from distilcse_cli.models.encoder import SentenceEncoder, load_encoder
from distilcse_cli.models.folder import save_student
from distilcse_cli.models.pooling import Dense
from distilcse_cli.models.snippets import FOLDER
from distilcse_cli.models.static import static_encoder

TEXTS = ["A sentence.", "Another one."]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(folder: Path) -> list[str]:
    """The Python blocks of a folder's card, with its path in place of the one that stands for it."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    return [block.replace(FOLDER, str(folder)) for block in BLOCK.findall(text)]


def run(code: str) -> dict[str, Any]:
    """The names that a block leaves."""
    left: dict[str, Any] = {}
    exec(compile(code, "card", "exec"), left)
    return left


def own_vectors(encoder: SentenceEncoder) -> np.ndarray:
    """What the encoder makes of the card's sentences."""
    batch = encoder.tokenizer([encoder.prompts.used + text for text in TEXTS], padding=True, return_tensors="pt")
    with torch.no_grad():
        vectors = encoder(batch["input_ids"], batch["attention_mask"])
    return (nn.functional.normalize(vectors) if encoder.normalize else vectors).numpy()


def save(encoder: SentenceEncoder, folder: Path, dtype: str = "float32") -> Path:
    card = model_card(encoder, Card(title="A student", made="by hand."), folder)
    save_student(encoder, folder, card=card, settings={}, dtype=dtype)
    return folder


LINEAR = {
    "plain": [],
    "pooler": [("Tanh", True, 16)],
    "projected": [("GELU", True, 24), ("Identity", False, 8), ("ReLU", True, 8)],
}
CASES = [
    ("bert", "cls", "pooler", True),
    ("bert", "avg_layer1_last", "plain", False),
    ("roberta", "avg", "plain", True),
    ("mpnet", "avg_top2", "projected", False),
    ("distilbert", "weighted_mean", "plain", True),
    ("modernbert", "last_token", "plain", False),
    ("modernbert", "avg_first_last", "plain", True),
    ("distilbert", "cls_before_pooler", "projected", True),
]


@pytest.mark.parametrize(("architecture", "pooling", "dense", "normalize"), CASES)
def test_both_packages_give_the_students_vectors(
    tiny: Callable[..., Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    architecture: str,
    pooling: str,
    dense: str,
    normalize: bool,
) -> None:
    encoder = load_encoder(str(tiny(architecture)), pooler=pooling, prompt="the dog: " if normalize else None)
    encoder.normalize, width = normalize, 16
    torch.manual_seed(0)
    layers = []
    for activation, bias, out in LINEAR[dense]:
        layers.append(Dense(nn.Linear(width, out, bias=bias), activation))
        width = out
    encoder.dense = nn.Sequential(*layers) if layers else None
    folder = save(encoder, tmp_path / "student")
    capfd.readouterr()
    with_sentence_transformers, with_transformers, *_ = blocks(folder)
    theirs, by_hand = run(with_sentence_transformers)["embeddings"], run(with_transformers)["vectors"]
    np.testing.assert_allclose(theirs, own_vectors(encoder), atol=1e-5, rtol=0)
    np.testing.assert_allclose(by_hand.numpy(), own_vectors(encoder), atol=1e-5, rtol=0)
    said = capfd.readouterr()
    assert "MISSING" not in said.out + said.err  # no weights are made up, and nobody is told so


def test_a_static_student_has_code_for_sentence_transformers_alone(tiny: Callable[..., Path], tmp_path: Path) -> None:
    encoder = static_encoder(load_encoder(str(tiny("bert")), pooler="avg"))
    with_sentence_transformers, _ = blocks(save(encoder, tmp_path / "student"))
    rows = run(with_sentence_transformers)["embeddings"]
    assert rows.shape == (2, 16)


def test_weights_of_two_bytes_are_computed_with_in_four(tiny: Callable[..., Path], tmp_path: Path) -> None:
    encoder = load_encoder(str(tiny("bert")), pooler="cls")
    folder = save(encoder, tmp_path / "student", dtype="bfloat16")
    vectors = run(blocks(folder)[1])["vectors"]
    assert vectors.dtype == torch.float32
    np.testing.assert_allclose(vectors.numpy(), own_vectors(load_encoder(str(folder))), atol=1e-5, rtol=0)


def test_the_server_is_told_of_the_prompt_and_of_the_scaling(tiny: Callable[..., Path], tmp_path: Path) -> None:
    encoder = load_encoder(str(tiny("bert")), pooler="avg")
    encoder.prompts = replace(encoder.prompts, named={"web search": "query: "}, used="query: ")
    text = (save(encoder, tmp_path / "student") / "README.md").read_text(encoding="utf-8")
    assert "--model-id /model --default-prompt-name 'web search'\n" in text
    assert """-d '{"inputs": ["A sentence."], "normalize": false}'\n""" in text
