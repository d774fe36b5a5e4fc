import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

pytestmark = pytest.mark.e2e
Command = Callable[..., subprocess.CompletedProcess[str]]
TEXT = "the cat sleeps\na dog runs to the big red river\n"


@pytest.fixture
def weights(tiny: Callable[..., Path], tmp_path: Path) -> Path:
    """A student's weights as the authors publish theirs."""
    tensors = load_file(tiny("bert", seed=1) / "model.safetensors")
    torch.save({f"model.{name}": tensor for name, tensor in tensors.items()}, tmp_path / "weights.pth")
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path / "weights.pth"


def rows(distilcse: Command, folder: Path, model: object, *further: object) -> np.ndarray:
    distilcse("encode", "text.txt", "--out", "rows.npy", "--compute-dtype", "float32", "--model", model, *further)
    return np.load(folder / "rows.npy")


def test_a_converted_file_is_a_model_of_the_same_embeddings(
    distilcse: Command, tmp_path: Path, tiny: Callable[..., Path], weights: Path
) -> None:
    base = tiny("bert")
    done = distilcse("convert", weights, "--out", "student", "--base", base, "--json")
    report = json.loads(done.stdout)
    assert (report["architecture"], report["num_layers"], report["pooling"]) == ("bert", 3, "cls")
    embeddings = rows(distilcse, tmp_path, "student")
    np.testing.assert_array_equal(embeddings, rows(distilcse, tmp_path, weights, "--base", base))
    np.testing.assert_array_equal(embeddings, rows(distilcse, tmp_path, tiny("bert", seed=1)))
    elsewhere = SentenceTransformer(str(tmp_path / "student"), device="cpu").encode(TEXT.splitlines())
    np.testing.assert_allclose(elsewhere, embeddings, atol=1e-5)
    settings = json.loads((tmp_path / "student" / "distilcse.json").read_text(encoding="utf-8"))
    assert (settings["stage"], settings["base"]) == ("convert", str(base))
    assert report["sha256"] in (tmp_path / "student" / "README.md").read_text(encoding="utf-8")


def test_a_file_of_weights_teaches_and_learns(
    distilcse: Command,
    tmp_path: Path,
    tiny: Callable[..., Path],
    weights: Path,
    home: Path,  # noqa: ARG001
) -> None:
    base = tiny("bert")
    distilcse("extract", "--teacher", weights, "--base", base, "--corpus", "text.txt", "--out", "rows", "--json")
    common = ("--corpus", "text.txt", "--batch-size", 2, "--bank-size", 2, "--device", "cpu")
    distilcse("distill", "--teacher", base, "--student", weights, "--base", base, "--out", "student", *common)
    settings = json.loads((tmp_path / "student" / "distilcse.json").read_text(encoding="utf-8"))
    named = {"reference": str(weights), "base": str(base)}
    assert settings["student"].items() >= (named | {"keep_layers": None}).items()
    (tmp_path / "pairs.csv").write_text("anchor,positive\nthe cat,a cat\na dog,the dog\n", encoding="utf-8")
    distilcse("finetune", "--student", weights, "--base", base, "--triplets", "pairs.csv", "--out", "better")
    settings = json.loads((tmp_path / "better" / "distilcse.json").read_text(encoding="utf-8"))
    assert settings["student"].items() >= named.items()


def test_each_refusal_is_one_line(distilcse: Command, tmp_path: Path, tiny: Callable[..., Path], weights: Path) -> None:
    base = tiny("bert")
    done = distilcse("convert", base, "--out", "student", code=2)
    hint = "a model folder or hub model needs no conversion"
    assert done.stderr == f"error: {base} is no file of weights ({hint})\n"
    done = distilcse("convert", weights, "--out", "student", "--base", tiny("bert", num_layers=2), code=4)
    assert "16 are unexpected (encoder.layer.2." in done.stderr
    assert done.stderr.count("\n") == 1
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    done = distilcse("convert", weights, "--out", "taken", "--base", base, code=3)
    assert done.stderr == "error: taken is not empty (choose another --out, or remove it first)\n"
    done = distilcse("convert", weights, "--out", "student", "--base", base, "--max-length", 0, code=2)
    assert done.stderr.startswith("error: --max-length is 0")
    assert not (tmp_path / "student").exists()


def test_a_model_folder_is_made_smaller(distilcse: Command, tmp_path: Path, tiny: Callable[..., Path]) -> None:
    (tmp_path / "corpus.txt").write_text("the cat\nthe dog\nthe cat eats\n", encoding="utf-8")
    smaller = ("--vocab-size", 144, "--corpus", "corpus.txt", "--save-dtype", "float16")
    done = distilcse("convert", tiny(), "--pooler", "avg", "--out", "small", *smaller, "--json")
    report = json.loads(done.stdout)
    assert (report["sha256"], report["vocab_size"], report["save_dtype"]) == (None, 144, "float16")
    # 141 entries have to stay; the corpus has "the" three times, "cat" twice, and of the others "dog" comes first
    (tmp_path / "text.txt").write_text("the cat\na dog\n", encoding="utf-8")
    before, after = (rows(distilcse, tmp_path, model, "--pooler", "avg") for model in (tiny(), "small"))
    np.testing.assert_allclose(after, before, atol=2e-2, rtol=0)
    table = load_file(tmp_path / "small" / "model.safetensors")["embeddings.word_embeddings.weight"]
    assert (len(table), table.dtype) == (144, torch.float16)
    assert "\nVocabulary: 144 of 164 entries" in (tmp_path / "small" / "README.md").read_text(encoding="utf-8")


def test_a_vocabulary_that_cannot_be_is_one_line(distilcse: Command, tmp_path: Path, tiny: Callable[..., Path]) -> None:
    done = distilcse("convert", tiny(), "--out", "small", "--vocab-size", 144, code=2)
    hint = "such as --vocab-size 16000 --corpus FILE"
    assert done.stderr == f"error: --vocab-size and --corpus go together ({hint})\n"
    (tmp_path / "corpus.txt").write_text("the cat\n", encoding="utf-8")
    done = distilcse("convert", tiny(), "--out", "small", "--vocab-size", 9, "--corpus", "corpus.txt", code=2)
    assert done.stderr.splitlines()[-1] == (
        "error: --vocab-size 9 is too small: single characters and special tokens have to stay"
        f" (the smallest possible number for {tiny()} is 141)"
    )
    assert not (tmp_path / "small").exists()
