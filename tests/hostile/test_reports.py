"""Faults that users of related projects have reported (docs/reports.md), where no other test has the same input."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

from distilcse_cli.models.encoder import load_encoder
from senteval.embedding import checked
from tests.evaluation.small import embed_one_by_one

Tiny = Callable[..., Path]


def test_roberta_with_a_large_padding_id_has_fewer_positions_for_text(tiny: Tiny, tmp_path: Path) -> None:
    config = AutoConfig.from_pretrained(tiny("roberta"))
    config.pad_token_id = 3
    AutoModel.from_config(config).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tiny("roberta"))
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(3)
    tokenizer.model_max_length = config.max_position_embeddings
    tokenizer.save_pretrained(tmp_path)
    encoder = load_encoder(str(tmp_path), pooler="avg")
    assert encoder.max_length == 66 - 3 - 1  # the first token has position 4
    assert np.isfinite(embed_one_by_one(encoder, ["the cat " * 300])).all()


def test_lower_casing_leaves_special_tokens_alone(tiny: Tiny, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny("bert"), tmp_path / "lower")
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer | {"normalizer": None}), encoding="utf-8")
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    lower = {"max_seq_length": 64, "do_lower_case": True}
    (folder / "sentence_bert_config.json").write_text(json.dumps(lower), encoding="utf-8")
    encoder = load_encoder(str(folder))
    named, unknown, upper, lower_case = embed_one_by_one(encoder, ["[UNK] " * 300, "☃ " * 300, "The CAT", "the cat"])
    assert named.tolist() == unknown.tolist()
    assert upper.tolist() == lower_case.tolist()


def test_bfloat16_rows_of_a_client_are_scored() -> None:
    rows = torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16, requires_grad=True)
    assert checked(rows, ["a"]).tolist() == [[1.0, 2.0]]
