from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr

from distilcse_cli import console
from distilcse_cli.errors import ModelError
from distilcse_cli.evaluation import results_cache
from distilcse_cli.evaluation.scoring import evaluate_encoder
from distilcse_cli.evaluation.settings import EvalSettings
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder, load_encoder
from senteval import StsScore, TransferScore
from tests.evaluation.small import (
    FP32,
    PAIRS,
    SentenceCounter,
    Tiny,
    data_of,
    embed_one_by_one,
    sts,
    transfer,
    unit,
)

pytestmark = pytest.mark.usefixtures("home")


class Reused:
    """How many results of earlier runs an evaluation has used."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._count, read = 0, results_cache.read

        def counted(facts: dict[str, Any]) -> results_cache.TaskResult | None:
            found = read(facts)
            self._count += found is not None
            return found

        monkeypatch.setattr(results_cache, "read", counted)

    def take(self) -> int:
        """The results since the last call."""
        count, self._count = self._count, 0
        return count


@pytest.fixture
def reused(monkeypatch: pytest.MonkeyPatch) -> Reused:
    return Reused(monkeypatch)


@pytest.fixture
def encoder(tiny: Tiny) -> SentenceEncoder:
    return load_encoder(str(tiny()), pooler="avg")


def test_sts_scores_are_correlations_of_cosines_with_the_gold_scores(encoder: SentenceEncoder) -> None:
    evaluation = evaluate_encoder(encoder, data_of(sts()), EvalSettings(), FP32)
    first, second = (unit(embed_one_by_one(encoder, [pair[side] for pair in PAIRS])) for side in (0, 1))
    cosines, gold = (first * second).sum(axis=1), [pair[2] for pair in PAIRS]
    score = evaluation.results.scores["STSBenchmark"]
    assert isinstance(score, StsScore)
    assert score.spearman == pytest.approx(100 * spearmanr(cosines, gold).statistic, abs=1e-6)
    assert score.pearson == pytest.approx(100 * pearsonr(cosines, gold).statistic, abs=1e-4)
    assert score.num_pairs == len(PAIRS)
    assert (evaluation.pooler, evaluation.embedding_dim) == ("avg", 16)


def test_each_distinct_sentence_of_all_tasks_is_encoded_once(encoder: SentenceEncoder) -> None:
    counter = SentenceCounter(encoder)
    # the same pairs twice, and sentences of which two tasks have thirty each, all of one's among the other's
    data = data_of(sts(), sts("SICKRelatedness"), transfer("CR", 60), transfer("MR", 40))
    evaluation = evaluate_encoder(encoder, data, EvalSettings(mode="fasttest"), FP32)
    assert counter.take() == 2 * len(PAIRS) + 60 == evaluation.results.num_sentences
    assert list(evaluation.results.scores) == ["STSBenchmark", "SICKRelatedness", "CR", "MR"]


def test_results_are_reused_only_where_nothing_has_changed(
    encoder: SentenceEncoder, tiny: Tiny, monkeypatch: pytest.MonkeyPatch, reused: Reused
) -> None:
    counter = SentenceCounter(encoder)
    data, settings = data_of(sts()), EvalSettings()
    first = evaluate_encoder(encoder, data, settings, FP32)
    assert counter.take() == 2 * len(PAIRS)

    again = evaluate_encoder(encoder, data, settings, FP32)
    assert (counter.take(), reused.take()) == (0, 1)
    assert again.results.scores == first.results.scores
    assert again.results.tasks == first.results.tasks
    assert again.dates == first.dates
    # of what a score does not depend on, and of an STS task's one split `fasttest` changes nothing
    for same in (EvalSettings(batch_tokens=16), EvalSettings(mode="fasttest"), EvalSettings(exact_sequential=True)):
        evaluate_encoder(encoder, data, same, FP32)
        assert counter.take() == 0

    for other in (
        EvalSettings(overwrite=True),
        EvalSettings(aggregation="mean"),
        EvalSettings(normalize=True),
        EvalSettings(max_length=5),
    ):
        evaluate_encoder(encoder, data, other, FP32)
        assert counter.take() == 2 * len(PAIRS), other
    evaluate_encoder(encoder, data_of(sts(), fingerprint="other"), settings, FP32)
    evaluate_encoder(encoder, data, settings, replace(FP32, dtype="bfloat16"))
    assert counter.take() == 4 * len(PAIRS)
    with monkeypatch.context() as patch:
        patch.setattr("distilcse_cli.evaluation.scoring.NUMERICS", -1)
        evaluate_encoder(encoder, data, settings, FP32)
        assert counter.take() == 2 * len(PAIRS)
    with torch.no_grad():
        next(encoder.parameters()).mul_(2)
    evaluate_encoder(encoder, data, settings, FP32)
    assert counter.take() == 2 * len(PAIRS)
    reused.take()
    evaluate_encoder(load_encoder(str(tiny()), pooler="cls"), data, settings, FP32)
    assert reused.take() == 0


def test_only_the_tasks_without_a_result_are_encoded(encoder: SentenceEncoder, reused: Reused) -> None:
    counter = SentenceCounter(encoder)
    evaluate_encoder(encoder, data_of(sts()), EvalSettings(), FP32)
    counter.take()
    more = [("a red house", "a big house", 3.0), ("the child", "the market", 0.0), ("a bank", "the bank", 5.0)]
    both = evaluate_encoder(encoder, data_of(sts("SICKRelatedness", pairs=more), sts()), EvalSettings(), FP32)
    assert (counter.take(), reused.take()) == (6, 1)
    assert list(both.results.scores) == ["SICKRelatedness", "STSBenchmark"]


def test_an_interrupted_run_goes_on_from_the_tasks_that_are_finished(encoder: SentenceEncoder, reused: Reused) -> None:
    broken = transfer("MR")
    broken.splits["all"].labels[:] = 7  # the classifier refuses a class that there is not
    with pytest.raises((ValueError, IndexError)):
        evaluate_encoder(encoder, data_of(sts(), transfer("CR"), broken), EvalSettings(mode="fasttest"), FP32)
    data = data_of(sts(), transfer("CR"), transfer("MR"))
    assert reused.take() == 0
    evaluate_encoder(encoder, data, EvalSettings(mode="fasttest"), FP32)
    assert reused.take() == 2


def test_a_damaged_result_is_scored_again(encoder: SentenceEncoder, home: Path, reused: Reused) -> None:
    first = evaluate_encoder(encoder, data_of(sts()), EvalSettings(), FP32)
    (kept,) = (home / "results").glob("*.json")
    for text in ("{", "{}", '{"kind": "StsScore", "score": {"spearman": 1}}'):
        kept.write_text(text, encoding="utf-8")
        again = evaluate_encoder(encoder, data_of(sts()), EvalSettings(), FP32)
        assert (reused.take(), again.results.scores) == (0, first.results.scores)
    evaluate_encoder(encoder, data_of(sts()), EvalSettings(), FP32)
    assert reused.take() == 1


def test_a_data_home_that_cannot_be_written_costs_a_warning(
    encoder: SentenceEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DISTILCSE_HOME", str(tmp_path / "file"))
    assert evaluate_encoder(encoder, data_of(sts()), EvalSettings(), FP32).results.scores
    assert "warning: the result is not kept for later runs" in capsys.readouterr().err


def test_batched_and_sequential_classifiers_agree_and_are_kept_apart(encoder: SentenceEncoder, reused: Reused) -> None:
    batched, sequential = (
        evaluate_encoder(encoder, data_of(transfer()), EvalSettings(mode="fasttest", exact_sequential=exact), FP32)
        for exact in (False, True)
    )
    assert reused.take() == 0
    score = batched.results.scores["CR"]
    assert isinstance(score, TransferScore)
    # an average over words, even of random weights, tells a cat from a dog
    assert score.devacc > 90
    assert sequential.results.scores["CR"] == score
    # dev mode reports another number of the same classifiers
    dev = evaluate_encoder(encoder, data_of(transfer()), EvalSettings(mode="dev"), FP32)
    assert (reused.take(), dev.results.headline("CR")) == (1, score.devacc)


def test_a_task_without_development_set_is_skipped_in_dev_mode(encoder: SentenceEncoder) -> None:
    data = data_of(replace(sts("STS12", "MSRpar"), splits={}), sts(split="dev"))
    evaluation = evaluate_encoder(encoder, data, EvalSettings(mode="dev"), FP32)
    assert evaluation.results.skipped == {"STS12": "has no development set"}
    assert list(evaluation.results.scores) == ["STSBenchmark"]


def test_embeddings_are_as_pooled_even_where_the_folder_normalizes(encoder: SentenceEncoder) -> None:
    encoder.normalize = True
    sentences = [pair[0] for pair in PAIRS]
    plain = Embedder(encoder, FP32, EvalSettings().encode_settings()).longest_first(sentences)
    assert np.allclose(plain, embed_one_by_one(encoder, sentences), atol=1e-5)
    assert np.abs(np.linalg.norm(plain, axis=1) - 1).min() > 0.01
    normalized = Embedder(encoder, FP32, EvalSettings(normalize=True).encode_settings()).longest_first(sentences)
    assert np.allclose(normalized, unit(plain), atol=1e-5)


def test_rows_come_back_in_order_and_cut_sentences_are_counted(
    encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("distilcse_cli.models.embed.SORTED_WINDOW_ROWS", 5)
    sentences = ["", *(" ".join(["cat"] * (1 + 7 * number % 11)) for number in range(12)), "dog " * 70]
    embeddings = Embedder(encoder, FP32, EvalSettings(batch_tokens=40).encode_settings()).longest_first(sentences)
    assert np.allclose(embeddings, embed_one_by_one(encoder, sentences), atol=1e-5)
    assert "warning: 1 sentences were cut to the first 64 tokens" in capsys.readouterr().err


def test_an_embedding_that_is_not_finite_names_its_sentence(encoder: SentenceEncoder) -> None:
    token = encoder.tokenizer.convert_tokens_to_ids("river")
    with torch.no_grad():
        encoder.backbone.get_input_embeddings().weight[token] = torch.nan
    with pytest.raises(ModelError, match=r"'a child plays in the river'|'the river is big'"):
        evaluate_encoder(encoder, data_of(sts()), EvalSettings(), FP32)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_progress_counts_every_sentence(encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    counted = []

    class Counter(console.Progress):
        def update(self, num_units: int, facts: str = "") -> None:
            counted.append(num_units)
            super().update(num_units, facts)

    monkeypatch.setattr(console, "Progress", Counter)
    sentences = [" ".join(["cat"] * length) for length in range(1, 31)]
    settings = EvalSettings(batch_tokens=40).encode_settings()
    Embedder(encoder, replace(FP32, dtype=dtype), settings).longest_first(sentences)
    assert sum(counted) == len(sentences)
    assert len(counted) > 3, "batch by batch"
