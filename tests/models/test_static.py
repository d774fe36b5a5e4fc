"""Static students: a table of token vectors, which sentence-transformers reads as its own StaticEmbedding."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
from torch import nn

from distilcse_cli.config import EncodeSettings
from distilcse_cli.errors import ModelError
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder, load_encoder
from distilcse_cli.models.folder import save_student
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.models.static import static_encoder
from distilcse_cli.runtime import choose_runtime
from tests.tiny import tiny_tokenizer

TEXTS = ["the cat eats", "", "a Zebra, and [SEP] [PAD]", "the man eats and the dog plays in the river " * 20]


def static(folder: Path) -> SentenceEncoder:
    return ModelRef(ref=str(folder), pooler="avg", static=True).load()


def rows(encoder: SentenceEncoder, texts: list[str] = TEXTS) -> np.ndarray:
    settings = EncodeSettings(normalize=encoder.normalize)
    return Embedder(encoder, choose_runtime("cpu", "float32"), settings).sentences(texts)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "modernbert"])
def test_a_token_has_the_vector_that_the_whole_model_gives_it_alone(
    tiny: Callable[..., Path], architecture: str
) -> None:
    folder = tiny(architecture)
    encoder, whole = static(folder), load_encoder(str(folder), pooler="avg")
    np.testing.assert_allclose(rows(encoder, ["cat", "eats"]), rows(whole, ["cat", "eats"]), atol=1e-6)
    both = rows(encoder, ["cat", "eats"]).mean(axis=0)  # nothing stands around a sentence
    np.testing.assert_allclose(rows(encoder, ["cat eats"])[0], both, atol=1e-6)
    assert encoder.num_layers == 0
    assert encoder.num_parameters == whole.backbone.get_input_embeddings().weight.numel()


def test_a_tokenizer_that_pads_adds_nothing_to_a_token(tiny: Callable[..., Path]) -> None:
    whole = load_encoder(str(tiny("bert")), pooler="avg")
    plain = static_encoder(whole).backbone.embedding.weight
    whole.tokenizer.backend_tokenizer.enable_padding(length=9)
    torch.testing.assert_close(static_encoder(whole).backbone.embedding.weight, plain)


def test_the_vectors_of_a_model_that_normalizes_begin_at_length_1(tiny: Callable[..., Path], tmp_path: Path) -> None:
    whole = load_encoder(str(tiny("bert")), pooler="avg")
    whole.normalize = True
    save_student(whole, tmp_path / "whole", card="", settings={})
    table = static(tmp_path / "whole").backbone.embedding.weight
    torch.testing.assert_close(table.norm(dim=1), torch.ones(len(table)))


@pytest.mark.parametrize("normalize", [True, False])
def test_sentence_transformers_encodes_as_we_do(tiny: Callable[..., Path], tmp_path: Path, normalize: bool) -> None:
    encoder = static(tiny("bert"))
    encoder.normalize, encoder.max_length = normalize, 7  # the last text is cut
    save_student(encoder, tmp_path / "student", card="", settings={})
    files = {path.relative_to(tmp_path / "student").as_posix() for path in (tmp_path / "student").rglob("*.*")}
    assert files == {
        *("model.safetensors", "tokenizer.json", "tokenizer_config.json", "modules.json", "README.md"),
        *("config_sentence_transformers.json", "distilcse.json", "special_tokens_map.json"),
        *(("1_Normalize/config.json",) if normalize else ()),
    }
    ours = rows(encoder)
    theirs = SentenceTransformer(str(tmp_path / "student"), device="cpu").encode(TEXTS, batch_size=2)
    np.testing.assert_allclose(theirs, ours, atol=1e-6, rtol=0)
    assert not ours[1].any()  # an empty text has no token

    again = load_encoder(str(tmp_path / "student"))
    assert (again.pooling, again.normalize, again.max_length) == ("avg", normalize, 7)
    assert again.fingerprint == encoder.fingerprint
    np.testing.assert_array_equal(rows(again), ours)


def test_a_dense_layer_after_the_table_is_kept(tiny: Callable[..., Path], tmp_path: Path) -> None:
    from distilcse_cli.models.pooling import Dense

    encoder = static(tiny("bert"))
    encoder.dense = nn.Sequential(Dense(nn.Linear(16, 5), "Identity"))
    save_student(encoder, tmp_path / "student", card="", settings={})
    theirs = SentenceTransformer(str(tmp_path / "student"), device="cpu").encode(TEXTS)
    assert theirs.shape == (4, 5)
    np.testing.assert_allclose(theirs, rows(load_encoder(str(tmp_path / "student"))), atol=1e-6, rtol=0)


@pytest.mark.parametrize("limit", [None, 5])
def test_a_static_model_of_sentence_transformers_can_be_named(tmp_path: Path, limit: int | None) -> None:
    rust = tiny_tokenizer().backend_tokenizer  # puts special tokens around a sentence, which StaticEmbedding ignores
    if limit is not None:
        rust.enable_truncation(limit)
    table = torch.randn(rust.get_vocab_size(), 6, generator=torch.Generator().manual_seed(0))
    theirs = SentenceTransformer(modules=[StaticEmbedding(rust, embedding_weights=table), Normalize()], device="cpu")
    theirs.save(str(tmp_path / "theirs"))
    ours = load_encoder(str(tmp_path / "theirs"))
    assert ours.max_length == (limit or 1 << 20)
    np.testing.assert_allclose(rows(ours), theirs.encode(TEXTS), atol=1e-6, rtol=0)


def test_a_folder_without_a_table_is_called_by_name(tmp_path: Path) -> None:
    module = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.StaticEmbedding"}
    (tmp_path / "modules.json").write_text(json.dumps([module]), encoding="utf-8")
    with pytest.raises(ModelError, match=r"cannot read .*pytorch_model\.bin"):
        load_encoder(str(tmp_path))


def test_another_pooling_is_refused(tiny: Callable[..., Path], tmp_path: Path) -> None:
    save_student(static(tiny("bert")), tmp_path / "student", card="", settings={})
    with pytest.raises(ModelError, match="is static: it has no pooling cls, only avg"):
        load_encoder(str(tmp_path / "student"), pooler="cls")
