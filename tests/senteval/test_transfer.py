"""Transfer tasks on small separable data: features, protocols, what is reported."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import senteval
from senteval.embedding import Vectors
from senteval.loading import TaskData, load_task
from senteval.transfer import f1_percent, features, protocol_of, score_transfer
from tests.senteval.small import letter_counts, write_lines, write_mrpc, write_sts

# classes that the number of one letter gives away
GOOD = ["a" * (1 + n % 9) + " film" for n in range(40)]
BAD = ["z" * (1 + n % 9) + " film" for n in range(40)]


def binary(data: Path) -> TaskData:
    return load_task(write_lines(data, "CR", all=[GOOD, BAD]), data)


def sst2(data: Path) -> TaskData:
    lines = [f"{text}\t{label}" for text, label in [*((text, 1) for text in GOOD), *((text, 0) for text in BAD)]]
    return load_task(write_lines(data, "SST2", train=[lines], dev=[lines[20:60]], test=[lines[30:60]]), data)


def test_features_of_single_sentences_are_their_embeddings() -> None:
    vectors = np.array([[1, -2]], dtype=np.float32)
    assert features(Vectors(vectors, None)).tolist() == [[1, -2]]


def test_features_of_pairs_are_absolute_difference_and_product() -> None:
    u, v = np.array([[1, -2]], dtype=np.float32), np.array([[3, 5]], dtype=np.float32)
    assert features(Vectors(u, v)).tolist() == [[2, 7, 3, -10]]


def test_f1_by_hand() -> None:
    # one hit, one miss, one false claim: 2 / (2 + 1 + 1)
    assert f1_percent(np.array([1, 1, 0, 0]), np.array([1, 0, 1, 0])) == 50.0
    assert f1_percent(np.array([0, 0]), np.array([0, 0])) == 0.0


def test_test_mode_is_thorough_and_the_others_are_quick() -> None:
    test, dev = protocol_of("test"), protocol_of("dev")
    assert (test.num_folds, test.settings.optim, test.settings.batch_size) == (10, "adam", 64)
    assert (dev.num_folds, dev.settings.optim, dev.settings.batch_size) == (5, "rmsprop", 128)
    assert protocol_of("fasttest") == dev
    assert not test.sequential


def test_a_nested_k_fold_task_reports_all_rows_as_dev_and_test(tmp_path: Path) -> None:
    results = senteval.evaluate_loaded(letter_counts, [binary(tmp_path)], mode="fasttest")
    assert results.tasks["CR"] == {"devacc": 100.0, "acc": 100.0, "ndev": 80, "ntest": 80}
    assert results.scores["CR"] == senteval.TransferScore(devacc=100.0, acc=100.0, num_dev=80, num_test=80)


def test_a_split_task_reports_its_dev_and_test_rows(tmp_path: Path) -> None:
    results = senteval.evaluate_loaded(letter_counts, [sst2(tmp_path)], mode="fasttest")
    assert results.tasks["SST2"] == {"devacc": 100.0, "acc": 100.0, "ndev": 40, "ntest": 30}


def test_mrpc_reports_f1_too(tmp_path: Path) -> None:
    # paraphrases are anagrams
    rows = [("abc film", "film cba", 1.0), ("abc film", "zzzz qqqq", 0.0)]
    task = write_mrpc(tmp_path, train=20 * rows, test=5 * rows)
    results = senteval.evaluate_loaded(letter_counts, [load_task(task, tmp_path)], mode="fasttest")
    assert results.tasks["MRPC"] == {"devacc": 100.0, "acc": 100.0, "ndev": 40, "ntest": 10, "f1": 100.0}


def test_dev_mode_shows_the_dev_accuracy(tmp_path: Path) -> None:
    # the classes of the test rows are swapped, so that dev and test accuracy differ
    data = sst2(tmp_path)
    swapped = replace(data.splits["test"], labels=1 - data.splits["test"].labels)
    data = replace(data, splits=data.splits | {"test": swapped})
    shown = {mode: senteval.evaluate_loaded(letter_counts, [data], mode=mode) for mode in ("dev", "fasttest")}
    assert shown["dev"].headline("SST2") == 100.0
    assert shown["fasttest"].headline("SST2") == 0.0


def test_sequential_training_gives_the_same_scores(tmp_path: Path) -> None:
    batched, sequential = (
        senteval.evaluate_loaded(
            letter_counts, [sst2(tmp_path)], mode="fasttest", protocol=protocol_of("fasttest", sequential=one_by_one)
        )
        for one_by_one in (False, True)
    )
    assert batched.tasks == sequential.tasks


def test_progress_counts_the_classifiers(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    loaded = [binary(tmp_path), sst2(tmp_path)]
    senteval.evaluate_loaded(letter_counts, loaded, mode="fasttest", progress=lambda *step: told.append(step))
    # 5 outer folds of 5 inner folds of 4 l2 strengths, and one more classifier each
    assert told[0] == ("CR", 0, 105)
    assert ("CR", 105, 105) in told
    assert told[-1] == ("SST2", 4, 4)


def test_an_sts_task_is_no_transfer_task(tmp_path: Path) -> None:
    data = load_task(write_sts(tmp_path, {"headlines": [("a", "b", 1.0)]}), tmp_path)
    with pytest.raises(ValueError, match="STS16 is a task of kind sts"):
        score_transfer(data, lambda _: Vectors(np.zeros((1, 2), np.float32), None), protocol_of("dev"))
