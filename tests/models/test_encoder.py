"""The encoder: each architecture and pooling against transformers' own hidden states."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from transformers import AutoModel, BertModel

from distilcse_cli.config import POOLINGS
from distilcse_cli.models.encoder import SentenceEncoder, load_encoder
from distilcse_cli.models.pooling import Dense
from tests.tiny import ARCHITECTURES

SENTENCES = ["the cat sleeps in the house", "dog", "a big woman runs to the red market and eats", "7 of 9!"]
HAS_POOLER = ("bert", "roberta", "mpnet")
CASES = [(name, pooling) for name in ARCHITECTURES for pooling in POOLINGS if pooling != "cls" or name in HAS_POOLER]


def tokens(encoder: SentenceEncoder, sentences: list[str]) -> tuple[Tensor, Tensor]:
    batch = encoder.tokenizer(sentences, padding=True, truncation=True, max_length=64, return_tensors="pt")
    return batch["input_ids"], batch["attention_mask"]


def embed(encoder: SentenceEncoder, sentences: list[str]) -> Tensor:
    with torch.no_grad():
        return encoder(*tokens(encoder, sentences))


def by_hand(model: nn.Module, pooling: str, input_ids: Tensor) -> Tensor:
    """(H,) for one sentence without padding, straight from what transformers returns."""
    with torch.no_grad():
        output = model(input_ids=input_ids.unsqueeze(0), output_hidden_states=True)
    last, layers = output.last_hidden_state[0], output.hidden_states
    if pooling == "cls":
        return output.pooler_output[0]
    if pooling == "cls_before_pooler":
        return last[0]
    if pooling == "last_token":
        return last[-1]
    if pooling == "weighted_mean":
        weights = torch.arange(1, len(last) + 1).unsqueeze(-1)
        return (weights * last).sum(dim=0) / weights.sum()
    other = {"avg": last, "avg_top2": layers[-2][0], "avg_first_last": layers[0][0], "avg_layer1_last": layers[1][0]}
    return ((last + other[pooling]) / 2).mean(dim=0)


@pytest.mark.parametrize(("architecture", "pooling"), CASES)
def test_each_pooling_of_each_architecture_is_what_its_hidden_states_say(
    tiny: Callable[..., Path], architecture: str, pooling: str
) -> None:
    encoder = load_encoder(str(tiny(architecture)), pooler=pooling)
    model = AutoModel.from_pretrained(tiny(architecture)).eval()
    embeddings = embed(encoder, SENTENCES)
    # one row at a time and without padding, so that padding must not have mattered above
    rows = [by_hand(model, pooling, torch.tensor(encoder.tokenizer(text)["input_ids"])) for text in SENTENCES]
    torch.testing.assert_close(embeddings, torch.stack(rows), atol=1e-5, rtol=0)
    assert embeddings.shape == (4, encoder.embedding_dim) == (4, 16)
    assert torch.pdist(embeddings).min() > 0.1  # else the sentences could be mixed up unseen


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_far_beyond_the_sentence_changes_nothing(tiny: Callable[..., Path], architecture: str) -> None:
    encoder = load_encoder(str(tiny(architecture)), pooler="avg_first_last")
    ids, mask = tokens(encoder, SENTENCES)
    wide = nn.functional.pad(ids, (0, 64 - ids.shape[1]), value=encoder.pad_id)
    with torch.no_grad():
        padded = encoder(wide, nn.functional.pad(mask, (0, 64 - mask.shape[1])))
        torch.testing.assert_close(padded, encoder(ids, mask), atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_both_ways_to_compute_attention_agree(tiny: Callable[..., Path], architecture: str) -> None:
    encoder = load_encoder(str(tiny(architecture)), pooler="avg")
    fused = embed(encoder, SENTENCES)
    encoder.set_attention("eager")
    assert encoder.backbone.config._attn_implementation == "eager"
    torch.testing.assert_close(embed(encoder, SENTENCES), fused, atol=1e-5, rtol=0)
    encoder.set_attention("sdpa")
    expected = "eager" if architecture == "mpnet" else "sdpa"  # transformers has no fused MPNet
    assert encoder.backbone.config._attn_implementation == expected
    with pytest.raises(ValueError, match="sdpa or eager"):
        encoder.set_attention("flash")


def test_hidden_states_are_kept_only_where_the_pooling_needs_them(tiny: Callable[..., Path]) -> None:
    kept = {}
    for pooling in POOLINGS:
        # a BERT's own forward is not asked where the first token is all that is read
        encoder = load_encoder(str(tiny("mpnet")), pooler=pooling)
        encoder.backbone.register_forward_hook(
            lambda _module, _inputs, output, pooling=pooling: kept.update({pooling: output.hidden_states is not None})
        )
        embed(encoder, SENTENCES)
    assert tuple(kept) == POOLINGS
    keeping = [pooling for pooling, keeps in kept.items() if keeps]
    assert keeping == ["avg_top2", "avg_first_last", "avg_layer1_last"]


def test_embeddings_are_fp32_under_autocast_too(tiny: Callable[..., Path]) -> None:
    for pooling in ("cls", "avg"):
        encoder = load_encoder(str(tiny("bert")), pooler=pooling)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = embed(encoder, SENTENCES)
        assert rough.dtype == torch.float32
        torch.testing.assert_close(rough, embed(encoder, SENTENCES), atol=0.1, rtol=0)


def test_gradients_reach_every_weight(tiny: Callable[..., Path]) -> None:
    encoder = load_encoder(str(tiny("bert")), pooler="cls")
    encoder(*tokens(encoder, SENTENCES)).square().sum().backward()
    without = [name for name, parameter in encoder.named_parameters() if parameter.grad is None]
    assert without == []


def test_a_backbone_pooler_that_is_not_used_is_not_there(tiny: Callable[..., Path]) -> None:
    cls, avg = (load_encoder(str(tiny("bert")), pooler=pooling) for pooling in ("cls", "avg"))
    assert cls.num_parameters - avg.num_parameters == 16 * 16 + 16
    assert avg.dense is None


def test_dense_layers_follow_the_pooling_in_their_order(tiny: Callable[..., Path]) -> None:
    plain = load_encoder(str(tiny("bert")), pooler="avg")
    double, triple = nn.Linear(16, 2, bias=False), nn.Linear(2, 1)
    with torch.no_grad():
        double.weight.copy_(torch.eye(16)[:2] * 2)  # twice the first two numbers
        triple.weight.copy_(torch.tensor([[3.0, 3.0]]))  # three times their sum
        triple.bias.fill_(1.0)
    encoder = SentenceEncoder(
        plain.backbone,
        plain.tokenizer,
        pooling="avg",
        dense=[Dense(double, "Identity"), Dense(triple, "ReLU")],
        max_length=64,
        source="test",
    )
    assert encoder.embedding_dim == 1
    expected = (6 * embed(plain, SENTENCES)[:, :2].sum(dim=1, keepdim=True) + 1).relu()
    torch.testing.assert_close(embed(encoder, SENTENCES), expected)


def test_the_fingerprint_is_of_what_is_computed_and_not_of_where_it_lies(
    tiny: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copytree(tiny("bert"), tmp_path / "elsewhere")
    first = load_encoder(str(tiny("bert")), pooler="avg")
    assert first.fingerprint == load_encoder(str(tmp_path / "elsewhere"), pooler="avg").fingerprint
    first.set_attention("eager")
    others = [
        load_encoder(str(tiny("bert")), pooler="cls_before_pooler"),
        load_encoder(str(tiny("bert")), pooler="cls"),
        load_encoder(str(tiny("bert")), pooler="avg", keep_layers=[0, 1]),
        load_encoder(str(tiny("bert", seed=1)), pooler="avg"),
    ]
    assert len({first.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_the_fingerprint_follows_the_weights(tiny: Callable[..., Path]) -> None:
    encoder = load_encoder(str(tiny("bert")), pooler="avg")
    before = encoder.fingerprint
    assert encoder.fingerprint == before
    weight = encoder.backbone.embeddings.LayerNorm.bias
    with torch.no_grad():
        weight.add_(1.0)
    after = encoder.fingerprint
    with torch.no_grad():
        weight.sub_(1.0)
    assert after != before
    assert encoder.fingerprint == before


@pytest.mark.golden
def test_cls_of_the_golden_teacher_is_berts_pooler(golden_dir: Path) -> None:
    encoder = load_encoder(str(golden_dir / "tiny-teacher"))
    assert (encoder.pooling, encoder.normalize, encoder.max_length) == ("cls", False, 128)
    sentences = (golden_dir / "sentences.txt").read_text(encoding="utf-8").splitlines()
    ids, mask = tokens(encoder, sentences)
    with torch.no_grad():
        expected = BertModel.from_pretrained(golden_dir / "tiny-teacher").eval()(ids, mask).pooler_output
        torch.testing.assert_close(encoder(ids, mask), expected, atol=1e-5, rtol=0)


@pytest.mark.golden
@pytest.mark.parametrize("pooling", ["cls", "cls_before_pooler", "avg", "avg_top2", "avg_first_last"])
def test_cosines_on_the_sts_benchmark_rank_as_the_authors_code_ranks_them(
    golden_dir: Path, data_dir: Path, pooling: str
) -> None:
    golden = json.loads((golden_dir / "sts_tiny_teacher.json").read_text(encoding="utf-8"))
    file = data_dir / "senteval" / "downstream" / "STS" / "STSBenchmark" / "sts-test.csv"
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()]
    encoder = load_encoder(str(golden_dir / "tiny-teacher"), pooler=pooling)
    left, right = (embed(encoder, [row[column] for row in rows]) for column in (5, 6))
    cosines = nn.functional.cosine_similarity(left, right)
    expected = golden[pooling]["STSBenchmark"]["test"]
    assert len(rows) == expected["nsamples"]
    assert spearmanr(cosines, [float(row[4]) for row in rows]).statistic == pytest.approx(
        expected["spearman"], abs=1e-4
    )


@pytest.mark.real_model
def test_the_packaged_teacher_averages_and_normalizes(minilm: Path) -> None:
    encoder = load_encoder(str(minilm))
    assert (encoder.pooling, encoder.normalize, encoder.max_length) == ("avg", True, 256)
    assert (encoder.embedding_dim, encoder.num_layers, encoder.pad_id) == (384, 6, 0)
    # 22,713,216 weights in the file, of which 384 * 384 + 384 are of a pooler that avg does not use
    assert encoder.num_parameters == 22_713_216 - 147_840
    near, far = nn.functional.normalize(
        embed(encoder, ["A man plays the guitar.", "Someone plays an instrument.", "The bank fails."])
    ).split([2, 1])
    assert near[0] @ near[1] > 0.5 > near[0] @ far[0] + 0.3
