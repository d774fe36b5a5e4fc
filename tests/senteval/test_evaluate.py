"""`evaluate`: one encoding of distinct sentences, modes, refusals, results."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import senteval
from senteval.embedding import Embeddings, checked, encode_distinct
from senteval.errors import EncodingError, UsageError
from senteval.loading import load_task
from tests.senteval.small import letter_counts, write_sick, write_sts

PAIRS = [("a cat", "a cat", 5.0), ("a cat", "the dog", 1.0), ("zebra", "abc", 0.5), ("ab", "ba", 4.0)]


class Recorder:
    """An encoder that keeps what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, sentences: list[str]) -> np.ndarray:
        self.calls.append(sentences)
        return letter_counts(sentences)


def test_each_distinct_sentence_of_all_tasks_is_encoded_once_in_one_call(tmp_path: Path) -> None:
    sts = write_sts(tmp_path, {"headlines": PAIRS, "plagiarism": [("ab", "new", 1.0), ("x", "zebra", 2.0)]})
    sick = write_sick(tmp_path, {"test": [("a cat", "zebra", 1.0), ("ab", "ab", 5.0)]})
    encode = Recorder()
    results = senteval.evaluate_loaded(encode, [load_task(task, tmp_path) for task in (sts, sick)])
    [sentences] = encode.calls
    assert sorted(sentences) == sorted({"a cat", "the dog", "zebra", "abc", "ab", "ba", "new", "x"})
    assert results.num_sentences == 8


def test_train_splits_are_not_encoded_for_a_test_score(data_dir: Path) -> None:
    encode = Recorder()
    senteval.evaluate(encode, "STSBenchmark", data=data_dir / "senteval")
    [test] = senteval.load_tasks("STSBenchmark", data_dir / "senteval")
    assert set(encode.calls[0]) == set(test.sentences())
    assert len(test.splits["test"]) == 1379


def test_scores_do_not_depend_on_the_length_of_embeddings_and_they_come_as_they_are(tmp_path: Path) -> None:
    task = load_task(write_sts(tmp_path, {"headlines": PAIRS}), tmp_path)
    seen = encode_distinct(lambda sentences: 7 * letter_counts(sentences), task.sentences())
    assert np.array_equal(seen.of(["zebra"]), 7 * letter_counts(["zebra"]))
    plain, longer = (
        senteval.evaluate_loaded(encode, [task]).scores["STS16"]
        for encode in (letter_counts, lambda sentences: 4 * letter_counts(sentences))
    )
    assert plain == longer


def test_the_summary_is_the_nested_result_times_a_hundred(tmp_path: Path) -> None:
    task = write_sts(tmp_path, {"headlines": PAIRS, "plagiarism": PAIRS[1:]})
    loaded = [load_task(task, tmp_path)]
    for aggregation in ("all", "mean", "wmean"):
        results = senteval.evaluate_loaded(letter_counts, loaded, aggregation=aggregation)  # type: ignore[arg-type]
        score, summary = results.scores["STS16"], results.tasks["STS16"]["all"]
        assert isinstance(score, senteval.StsScore)
        assert score.spearman == 100 * summary["spearman"][aggregation]
        assert score.pearson == 100 * summary["pearson"][aggregation]
        assert score.num_pairs == 7


def test_a_task_scored_in_part_has_no_summary_under_sentevals_name(tmp_path: Path) -> None:
    task = write_sick(tmp_path, {"train": PAIRS, "dev": PAIRS, "test": PAIRS})
    only_test = senteval.evaluate_loaded(letter_counts, [load_task(task, tmp_path)])
    everything = senteval.evaluate_loaded(letter_counts, [load_task(task, tmp_path, splits="all")])
    assert list(only_test.tasks["SICKRelatedness"]) == ["test"]
    assert list(everything.tasks["SICKRelatedness"]) == ["train", "dev", "test", "all"]
    assert only_test.scores == everything.scores


def test_dev_mode_reports_the_dev_split_and_skips_tasks_without_one(tmp_path: Path) -> None:
    sick = write_sick(tmp_path, {"train": PAIRS, "dev": PAIRS[1:], "test": PAIRS})
    sts = write_sts(tmp_path, {"headlines": PAIRS})
    encode = Recorder()
    loaded = [load_task(task, tmp_path, mode="dev") for task in (sts, sick)]
    results = senteval.evaluate_loaded(encode, loaded, mode="dev")
    assert results.skipped == {"STS16": "has no development set"}
    assert list(results.tasks) == ["SICKRelatedness"]
    score = results.scores["SICKRelatedness"]
    assert isinstance(score, senteval.StsScore)
    assert score.num_pairs == 3
    assert "a cat a cat" not in encode.calls[0]


def test_tasks_loaded_in_another_mode_are_the_callers_bug(tmp_path: Path) -> None:
    sick = write_sick(tmp_path, {"train": PAIRS, "dev": PAIRS, "test": PAIRS})
    with pytest.raises(ValueError, match="SICKRelatedness was loaded without dev, which mode 'dev' reports"):
        senteval.evaluate_loaded(letter_counts, [load_task(sick, tmp_path, mode="test")], mode="dev")


def test_plain_results_are_json(tmp_path: Path) -> None:
    task = write_sts(tmp_path, {"headlines": PAIRS})
    results = senteval.evaluate_loaded(letter_counts, [load_task(task, tmp_path)])
    assert json.loads(json.dumps(results.tasks)) == results.tasks


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_embedding_that_is_not_finite_is_refused_by_its_sentence(tmp_path: Path, value: float) -> None:
    task = load_task(write_sts(tmp_path, {"headlines": PAIRS}), tmp_path)

    def encode(sentences: list[str]) -> np.ndarray:
        vectors = letter_counts(sentences)
        vectors[sentences.index("zebra"), 3] = value
        return vectors

    with pytest.raises(EncodingError, match=r"embedding of 'zebra' is not finite$"):
        senteval.evaluate_loaded(encode, [task])


def test_constant_embeddings_give_a_reason_and_never_nan(tmp_path: Path) -> None:
    task = load_task(write_sts(tmp_path, {"headlines": PAIRS}), tmp_path)
    vector = np.random.default_rng(0).normal(size=300).astype(np.float32)
    results = senteval.evaluate_loaded(lambda sentences: np.tile(vector, (len(sentences), 1)), [task])
    score = results.scores["STS16"]
    assert isinstance(score, senteval.StsScore)
    assert score.spearman is None
    assert score.reason == "the model gives every pair the same similarity"
    assert results.tasks["STS16"]["all"]["spearman"] == {"all": None, "mean": None, "wmean": None}
    assert "NaN" not in json.dumps(results.tasks)


@pytest.mark.parametrize("shape", [(3, 4), (6,), (6, 0)])
def test_a_wrong_shape_is_the_callers_bug(tmp_path: Path, shape: Sequence[int]) -> None:
    task = load_task(write_sts(tmp_path, {"headlines": PAIRS}), tmp_path)
    with pytest.raises(ValueError, match="6 sentences were encoded to shape"):
        senteval.evaluate_loaded(lambda _: np.zeros(shape), [task])


def test_torch_tensors_of_any_format_are_taken(tmp_path: Path) -> None:
    task = load_task(write_sts(tmp_path, {"headlines": PAIRS}), tmp_path)

    def encode(sentences: list[str]) -> torch.Tensor:
        # small counts are exact in bfloat16
        return torch.from_numpy(letter_counts(sentences)).bfloat16().requires_grad_()

    assert senteval.evaluate_loaded(encode, [task]).scores == senteval.evaluate_loaded(letter_counts, [task]).scores


def test_embeddings_made_before_are_taken_in_place_of_an_encoder(tmp_path: Path) -> None:
    task = load_task(write_sts(tmp_path, {"headlines": PAIRS}), tmp_path)
    sentences = sorted(set(task.sentences()))
    embeddings = Embeddings(sentences, letter_counts(sentences))
    assert senteval.evaluate_loaded(embeddings, [task]).scores == senteval.evaluate_loaded(letter_counts, [task]).scores


def test_progress_tells_the_task_and_its_steps(tmp_path: Path) -> None:
    task = load_task(write_sts(tmp_path, {"headlines": PAIRS}), tmp_path)
    told: list[tuple[str, int, int]] = []
    senteval.evaluate_loaded(letter_counts, [task], progress=lambda *step: told.append(step))
    assert told == [("STS16", 0, 1), ("STS16", 1, 1)]


def test_an_unknown_aggregation_is_refused_before_encoding() -> None:
    encode = Recorder()
    with pytest.raises(UsageError, match="median"):
        senteval.evaluate_loaded(encode, [], aggregation="median")  # type: ignore[arg-type]
    assert not encode.calls


def test_missing_data_is_found_before_encoding(tmp_path: Path) -> None:
    encode = Recorder()
    with pytest.raises(senteval.DataError):
        senteval.evaluate(encode, "sts", data=tmp_path)
    assert not encode.calls


def test_importing_senteval_loads_no_heavy_library() -> None:
    code = "import senteval, sys; print({'torch', 'scipy', 'sklearn', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("given", "kept"),
    [("float32", "float32"), ("float64", "float64"), ("float16", "float32"), ("int8", "float32"), ("int64", "float64")],
)
def test_embeddings_keep_their_number_format_unless_it_is_too_narrow(given: str, kept: str) -> None:
    rows = np.array([[1, 2], [3, 4]], dtype=given)
    for vectors in (rows, torch.from_numpy(rows)):
        array = checked(vectors, ["a", "b"])
        assert (array.dtype, array.tolist()) == (np.dtype(kept), [[1, 2], [3, 4]])
    assert checked(torch.ones(2, 3, dtype=torch.bfloat16), ["a", "b"]).dtype == np.float32
    large = np.array([[1e300, 0.0]])
    assert checked(large, ["a"]).tolist() == large.tolist()  # infinite in float32


def test_a_float32_array_is_not_copied() -> None:
    rows = letter_counts(["a", "b"])
    assert np.shares_memory(checked(rows, ["a", "b"]), rows)
