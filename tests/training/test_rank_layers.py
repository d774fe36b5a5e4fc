"""Which layers a student keeps: subsets that share work give the rows of real cuts, and the planted best is found."""

import gzip
import shutil
from collections.abc import Callable
from itertools import combinations, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from distilcse_cli.data.tokens import tokenize
from distilcse_cli.errors import ModelError, UsageError
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder, load_encoder
from distilcse_cli.models.layers import embed_subsets, num_passes
from distilcse_cli.models.surgery import layers_of
from distilcse_cli.runtime import Runtime
from distilcse_cli.training.layers import rank_layers
from tests.models.test_encoder import CASES, SENTENCES, embed
from tests.tiny import WORDS

FP32 = Runtime(device="cpu", dtype="float32", reason="test")
Tiny = Callable[..., Path]


def text(number: int = 120) -> list[str]:
    generator = np.random.default_rng(0)
    return [" ".join(generator.choice(WORDS, generator.integers(3, 9))) for _ in range(number)]


def rows_of(encoder: SentenceEncoder, sentences: list[str]) -> np.ndarray:
    return embed(encoder, sentences).numpy()


@pytest.mark.parametrize(
    ("architecture", "pooling"),
    [case for case in CASES if case[0] == "bert" or case[1] in ("avg", "avg_layer1_last", "cls_before_pooler")],
)
def test_subsets_that_share_layers_give_the_rows_of_real_cuts(tiny: Tiny, architecture: str, pooling: str) -> None:
    folder = str(tiny(architecture, num_layers=4))
    whole = load_encoder(folder, pooler=pooling)
    before = whole.fingerprint, rows_of(whole, SENTENCES)
    subsets = [(0, 1), (0, 3), (0,), (0, 1, 3)]
    if architecture != "modernbert":  # which has to keep its layer 0
        subsets += [(1, 2), (1, 3), (3,)]
    tokens = tokenize(SENTENCES, whole.tokenizer, 64)
    embedded = embed_subsets(whole, tokens, subsets, FP32)
    assert set(embedded) == set(subsets)
    for subset in subsets:
        cut = load_encoder(folder, pooler=pooling, keep_layers=subset)
        np.testing.assert_allclose(embedded[subset], rows_of(cut, SENTENCES), atol=1e-5, rtol=0)
    # and the model is whole again
    assert whole.fingerprint == before[0]
    assert np.array_equal(rows_of(whole, SENTENCES), before[1])


def test_layers_that_subsets_have_in_common_run_once(tiny: Tiny) -> None:
    encoder = load_encoder(str(tiny("bert", num_layers=4)), pooler="avg")
    calls = []
    for number, layer in enumerate(layers_of(encoder.backbone)):
        layer.attention.register_forward_hook(lambda *_, number=number: calls.append(number))
    embed_subsets(encoder, tokenize(SENTENCES[:1], encoder.tokenizer, 64), list(combinations(range(4), 2)), FP32)
    # after one call of the whole model: 01 02 03 run layer 0 once, 12 13 layer 1
    assert calls == [0, 1, 2, 3, *(0, 1, 2, 3), *(1, 2, 3), *(2, 3)]


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "mpnet"])
def test_the_layers_that_the_teacher_is_made_of_are_the_best(tiny: Tiny, architecture: str) -> None:
    folder = str(tiny(architecture, num_layers=4))
    teacher = load_encoder(folder, pooler="avg", keep_layers=(1, 3))
    ranking = rank_layers(load_encoder(folder, pooler="avg"), text(), rows_of(teacher, text()), 2, FP32)
    assert ranking[0].layers == (1, 3)
    assert ranking[0].shared == pytest.approx(100.0)
    assert len(ranking) == 6
    worth = [one.shared + one.shared_mapped for one in ranking]
    assert worth == sorted(worth, reverse=True)
    assert worth[1] < worth[0] - 1


def test_a_teacher_of_another_width_is_met_by_the_map(tiny: Tiny) -> None:
    encoder = load_encoder(str(tiny("bert", num_layers=4)), pooler="avg")
    sentences = text()
    cut = rows_of(load_encoder(str(tiny("bert", num_layers=4)), pooler="avg", keep_layers=(0, 2)), sentences)
    teacher = 5 * cut @ np.random.default_rng(1).normal(size=(16, 24)).astype(np.float32)
    assert rank_layers(encoder, sentences, teacher, 2, FP32)[0].layers == (0, 2)


def test_of_twelve_layers_the_planted_copies_are_found_one_by_one(tiny: Tiny, tmp_path: Path) -> None:
    # a teacher of three layers, and a student of twelve random ones with copies of the teacher's at 2, 7 and 9:
    # 220 subsets are too many to try, so the layers are added one by one
    teacher = load_encoder(str(tiny("bert", num_layers=3, seed=5)), pooler="avg")
    folder = tmp_path / "student"
    shutil.copytree(tiny("bert", num_layers=12), folder)
    student = load_encoder(str(folder), pooler="avg")
    student.backbone.embeddings.load_state_dict(teacher.backbone.embeddings.state_dict())
    for position, layer in zip((2, 7, 9), layers_of(teacher.backbone), strict=True):
        layers_of(student.backbone)[position].load_state_dict(layer.state_dict())
    ranking = rank_layers(student, text(), rows_of(teacher, text()), 3, FP32)
    assert ranking[0].layers == (2, 7, 9)
    assert ranking[0].shared == pytest.approx(100.0)
    assert len(ranking) == 10, "the subsets of the last round"


def test_a_modernbert_keeps_its_first_layer(tiny: Tiny) -> None:
    encoder = load_encoder(str(tiny("modernbert", num_layers=4)), pooler="avg")
    ranking = rank_layers(encoder, text(40), rows_of(encoder, text(40)), 2, FP32)
    assert sorted(one.layers for one in ranking) == [(0, 1), (0, 2), (0, 3)]


def test_a_single_sentence_is_enough_to_rank_by(tiny: Tiny) -> None:
    encoder = load_encoder(str(tiny("bert")), pooler="avg")
    assert len(rank_layers(encoder, ["a cat"], rows_of(encoder, ["a cat"]), 1, FP32)) == 3


def test_more_layers_than_there_are_is_a_usage_error(tiny: Tiny) -> None:
    encoder = load_encoder(str(tiny("bert")), pooler="avg")
    with pytest.raises(UsageError, match=r"--layers 4: .* has 3 layers"):
        rank_layers(encoder, SENTENCES, rows_of(encoder, SENTENCES), 4, FP32)


def test_a_subset_that_gives_no_numbers_is_a_model_error_that_names_it(tiny: Tiny) -> None:
    encoder = load_encoder(str(tiny("bert")), pooler="avg")
    teacher = rows_of(encoder, SENTENCES)
    layers_of(encoder.backbone)[1].output = nn.Identity()
    layers_of(encoder.backbone)[1].forward = lambda states, *_, **__: states * torch.nan
    with pytest.raises(ModelError, match="with layers 1 gives an embedding with NaN"):
        rank_layers(encoder, SENTENCES, teacher, 1, FP32)


def test_the_passes_are_counted_by_hand() -> None:
    # of four layers two: layer 0 and 01 02 03, layer 1 and 12 13, layer 2 and 23
    assert num_passes(4, 2) == 9 / 4
    # of twelve three: 12 of one; 0 and 11 of two; of three, which keep 0 and 1: 0, 1 and 10
    assert num_passes(12, 3) == (12 + 12 + 12) / 12


@pytest.mark.real_model
def test_the_teachers_last_layer_is_among_the_best_three_of_the_real_model(minilm: Path, data_dir: Path) -> None:
    with gzip.open(data_dir / "news" / "news.en.txt.gz", "rt", encoding="utf-8") as file:
        sentences = [line.strip() for line in islice(file, 200)]
    encoder = load_encoder(str(minilm))
    teacher = Embedder(encoder, FP32).sentences(sentences)
    ranking = rank_layers(encoder, sentences, teacher, 3, FP32, max_length=64)
    # the two that come out best in training, too
    assert {one.layers for one in ranking[:2]} == {(0, 3, 5), (0, 4, 5)}
