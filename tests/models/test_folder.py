"""The student folder: sentence-transformers, plain transformers and we load the same student from it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from torch import nn
from transformers import AutoModel, AutoTokenizer

from distilcse_cli.errors import DataError
from distilcse_cli.models.encoder import SentenceEncoder, load_encoder
from distilcse_cli.models.folder import save_student
from distilcse_cli.models.pooling import Dense
from tests.models.test_encoder import CASES, SENTENCES, embed, tokens

TEXTS = [*SENTENCES, "the man eats and the dog plays in the river " * 20]  # the last one is cut at 64 tokens


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("architecture", "pooling"), CASES)
def test_sentence_transformers_encodes_as_we_do(
    tiny: Callable[..., Path], tmp_path: Path, architecture: str, pooling: str, normalize: bool
) -> None:
    encoder = load_encoder(str(tiny(architecture)), pooler=pooling, max_length=40)
    encoder.normalize = normalize
    save_student(encoder, tmp_path / "student", card="", settings={})
    theirs = SentenceTransformer(str(tmp_path / "student"), device="cpu")
    ours = embed_normalized(encoder, TEXTS)
    np.testing.assert_allclose(theirs.encode(TEXTS, batch_size=2), ours, atol=1e-5, rtol=0)
    assert theirs.max_seq_length == 40

    again = load_encoder(str(tmp_path / "student"))
    assert (again.pooling, again.normalize, again.max_length) == (pooling, normalize, 40)
    assert again.fingerprint == encoder.fingerprint
    np.testing.assert_allclose(embed_normalized(again, TEXTS), ours, atol=1e-6, rtol=0)


def embed_normalized(encoder: SentenceEncoder, texts: list[str]) -> np.ndarray:
    """What `distilcse encode` gives: truncated at the encoder's length, normalized if its folder says so."""
    batch = encoder.tokenizer(texts, padding=True, truncation=True, max_length=encoder.max_length, return_tensors="pt")
    with torch.no_grad():
        embeddings = encoder(batch["input_ids"], batch["attention_mask"])
    return (nn.functional.normalize(embeddings) if encoder.normalize else embeddings).numpy()


@pytest.fixture
def student(tiny: Callable[..., Path], tmp_path: Path) -> Path:
    """A saved `cls` student of a BERT."""
    encoder = load_encoder(str(tiny("bert")))
    save_student(encoder, tmp_path / "student", card="# Ours\n", settings={"loss": "ckd", "seed": 1})
    return tmp_path / "student"


def test_the_folder_has_all_files_and_no_others(student: Path) -> None:
    assert sorted(str(file.relative_to(student)) for file in student.rglob("*") if file.is_file()) == [
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "2_Dense/model.safetensors",
        "README.md",
        "config.json",
        "config_sentence_transformers.json",
        "distilcse.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert (student / "README.md").read_text(encoding="utf-8") == "# Ours\n"
    assert json.loads((student / "distilcse.json").read_text(encoding="utf-8")) == {"loss": "ckd", "seed": 1}
    assert [file for file in student.parent.iterdir() if file != student] == []  # no temporary folder is left


def test_plain_transformers_finds_the_pooler_of_a_cls_student(student: Path) -> None:
    model, info = AutoModel.from_pretrained(student, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    encoder = load_encoder(str(student))
    ids, mask = tokens(encoder, SENTENCES)
    with torch.no_grad():
        pooled = model.eval()(input_ids=ids, attention_mask=mask).pooler_output
    torch.testing.assert_close(pooled, embed(encoder, SENTENCES), atol=1e-6, rtol=0)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "mpnet"])
def test_sentence_transformers_makes_up_no_pooler_for_an_avg_student(
    tiny: Callable[..., Path], tmp_path: Path, architecture: str
) -> None:
    save_student(load_encoder(str(tiny(architecture)), pooler="avg"), tmp_path / "student", card="", settings={})
    model = SentenceTransformer(str(tmp_path / "student"), device="cpu")[0].model
    assert model.pooler is None


def test_a_kept_projection_is_one_more_dense_layer(tiny: Callable[..., Path], tmp_path: Path) -> None:
    plain = load_encoder(str(tiny("bert")))
    torch.manual_seed(0)
    encoder = SentenceEncoder(
        plain.backbone,
        plain.tokenizer,
        pooling="cls",
        dense=[*plain.dense, Dense(nn.Linear(16, 24, bias=False), "Identity")],
        normalize=True,
        max_length=64,
        source="test",
    )
    save_student(encoder, tmp_path / "student", card="", settings={})
    again = load_encoder(str(tmp_path / "student"))
    assert (again.pooling, len(again.dense), again.embedding_dim) == ("cls", 2, 24)
    torch.testing.assert_close(embed(again, SENTENCES), embed(encoder, SENTENCES), atol=1e-6, rtol=0)
    theirs = SentenceTransformer(str(tmp_path / "student"), device="cpu")
    np.testing.assert_allclose(theirs.encode(TEXTS), embed_normalized(encoder, TEXTS), atol=1e-5, rtol=0)


def test_a_student_of_a_folder_that_keeps_all_layers_may_use_fewer(tiny: Callable[..., Path], tmp_path: Path) -> None:
    save_student(load_encoder(str(tiny("bert")), pooler="avg_top2"), tmp_path / "a", card="", settings={})
    save_student(load_encoder(str(tmp_path / "a"), pooler="avg"), tmp_path / "b", card="", settings={})
    assert json.loads((tmp_path / "a" / "config.json").read_text(encoding="utf-8"))["output_hidden_states"] is True
    assert "output_hidden_states" not in json.loads((tmp_path / "b" / "config.json").read_text(encoding="utf-8"))


def test_what_was_last_tokenized_leaves_no_trace_in_the_saved_tokenizer(
    tiny: Callable[..., Path], tmp_path: Path
) -> None:
    encoder = load_encoder(str(tiny("bert")), max_length=40)
    encoder.tokenizer.backend_tokenizer.enable_truncation(5)
    encoder.tokenizer.backend_tokenizer.enable_padding(length=9)
    save_student(encoder, tmp_path / "student", card="", settings={})
    saved = AutoTokenizer.from_pretrained(tmp_path / "student")
    assert saved.model_max_length == 40
    assert saved.backend_tokenizer.truncation is None
    assert saved.backend_tokenizer.padding is None
    assert encoder.tokenizer.backend_tokenizer.truncation is not None  # the caller's own is left alone


def test_what_lower_cased_before_lower_cases_in_the_student_too(tiny: Callable[..., Path], tmp_path: Path) -> None:
    encoder = load_encoder(str(cased(tiny, tmp_path / "teacher")))
    save_student(encoder, tmp_path / "student", card="", settings={})
    again = load_encoder(str(tmp_path / "student"))
    torch.testing.assert_close(embed(again, ["THE CAT"]), embed(again, ["the cat"]))
    theirs = SentenceTransformer(str(tmp_path / "student"), device="cpu")
    np.testing.assert_allclose(theirs.encode(["THE CAT"]), embed(encoder, ["the cat"]).numpy(), atol=1e-5, rtol=0)


def cased(tiny: Callable[..., Path], folder: Path) -> Path:
    """A folder whose tokenizer keeps case, but whose sentence-transformers settings lower it."""
    save_student(load_encoder(str(tiny("bert")), pooler="avg"), folder, card="", settings={})
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    settings = json.loads((folder / "sentence_bert_config.json").read_text(encoding="utf-8"))
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings | {"do_lower_case": True}), encoding="utf-8")
    return folder


def test_nothing_is_written_over_a_folder_that_is_in_use(tiny: Callable[..., Path], student: Path) -> None:
    before = (student / "model.safetensors").read_bytes()
    with pytest.raises(DataError, match="is not empty"):
        save_student(load_encoder(str(tiny("bert", seed=1))), student, card="", settings={})
    assert (student / "model.safetensors").read_bytes() == before


def test_settings_that_are_no_json_leave_no_half_folder(tiny: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        save_student(load_encoder(str(tiny("bert"))), tmp_path / "student", card="", settings={"lr": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_whoever_may_read_the_folder_may_read_its_weights(student: Path) -> None:
    modes = {file.stat().st_mode & 0o777 for file in student.rglob("*") if file.is_file()}
    assert len(modes) == 1


FULL_DISK = """
import resource, sys
from pathlib import Path
from distilcse_cli.errors import DataError
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.models.folder import save_student

encoder = load_encoder(sys.argv[1], pooler="cls")
encoder.tokenizer.add_tokens([f"word{number}" for number in range(1000)])  # about 200 kB, the weights are 50
for most_bytes in map(int, sys.argv[3:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
    try:
        save_student(encoder, Path(sys.argv[2]), card="", settings={})
    except DataError as error:
        print(error.message)
"""


def test_a_full_disk_is_one_line_and_leaves_nothing(tiny: Callable[..., Path], tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, tiny("bert"), tmp_path / "student", "1000", "100000", "1000000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    weights, tokenizer = done.stdout.splitlines()  # and the third limit lets it pass
    assert weights == f"cannot write {tmp_path / 'student'}: File too large"
    assert tokenizer.startswith("cannot write the tokenizer: File too large")
    assert [file.name for file in tmp_path.iterdir()] == ["student"]
    assert load_file(tmp_path / "student" / "model.safetensors")
