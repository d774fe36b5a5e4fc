"""SentEval's own interface: what batcher and prepare get, and what comes back."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from senteval import engine, tasks
from senteval.errors import DataError, EncodingError, UsageError
from tests.senteval.small import letter_counts, write_lines, write_sick, write_sts

PAIRS = [("a cat", "a cat", 5.0), ("a cat", "the dog", 1.0), ("zebra", "abc", 0.5), ("ab", "ba", 4.0)]


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, tasks.Task]:
    """The table of tasks, to be filled with small ones of the same names."""
    table = dict(tasks.TASKS)
    monkeypatch.setattr(tasks, "TASKS", table)
    return table


def batcher(params: engine.Params, batch: list[list[str]]) -> torch.Tensor:  # noqa: ARG001
    """As in SimCSE's evaluation: tokens joined by blanks, a tensor back."""
    return torch.from_numpy(letter_counts([" ".join(tokens) for tokens in batch]))


def test_params_are_attributes_and_a_missing_one_is_none() -> None:
    params = engine.Params({"kfold": 5})
    params.word2id = {"a": 0}
    assert params.kfold == 5
    assert params["word2id"] == {"a": 0}
    assert params.nothing is None
    assert "word2id" in params
    del params.word2id
    assert "word2id" not in params


def test_the_batcher_gets_sentevals_batches_of_token_lists(tmp_path: Path, known: dict[str, tasks.Task]) -> None:
    known["STS16"] = write_sts(tmp_path, {"headlines": PAIRS})
    batches: list[list[list[str]]] = []

    def recording(params: engine.Params, batch: list[list[str]]) -> torch.Tensor:
        assert params.current_task == "STS16"
        batches.append(batch)
        return batcher(params, batch)

    engine.SE({"task_path": str(tmp_path), "batch_size": 3}, recording).eval("STS16")
    # sorted by both lengths and the score: (zebra, abc), (ab, ba), (a cat, the dog), (a cat, a cat)
    assert batches == [
        [["zebra"], ["ab"], ["a", "cat"]],
        [["a", "cat"]],
        [["abc"], ["ba"], ["the", "dog"]],
        [["a", "cat"]],
    ]


def test_prepare_gets_all_samples_and_what_it_leaves_in_params_reaches_the_batcher(
    tmp_path: Path, known: dict[str, tasks.Task]
) -> None:
    known["SICKRelatedness"] = write_sick(tmp_path, {"train": PAIRS, "dev": PAIRS[:2], "test": PAIRS[1:]})

    def prepare(params: engine.Params, samples: list[list[str]]) -> None:
        params.num_samples = len(samples)

    def counting(params: engine.Params, batch: list[list[str]]) -> torch.Tensor:
        assert params.num_samples == 2 * (4 + 2 + 3)
        return batcher(params, batch)

    results = engine.SE({"task_path": tmp_path}, counting, prepare).eval("SICKRelatedness")
    assert list(results) == ["train", "dev", "test", "all"]
    assert results["test"]["nsamples"] == 3


def test_correlations_read_as_scipys_do(tmp_path: Path, known: dict[str, tasks.Task]) -> None:
    known["STS16"] = write_sts(tmp_path, {"headlines": PAIRS})
    spearman = engine.SE({"task_path": tmp_path}, batcher).eval("STS16")["headlines"]["spearman"]
    assert spearman[0] == spearman.correlation == spearman.statistic
    assert 0 <= spearman[1] == spearman.pvalue <= 1


def test_a_list_of_tasks_gives_a_dict_of_results(tmp_path: Path, known: dict[str, tasks.Task]) -> None:
    known["STS16"] = write_sts(tmp_path, {"headlines": PAIRS})
    known["SICKRelatedness"] = write_sick(tmp_path, {"train": PAIRS, "dev": PAIRS, "test": PAIRS})
    evaluator = engine.SE({"task_path": tmp_path}, batcher)
    results = evaluator.eval(["STS16", "SICKRelatedness"])
    assert list(results) == ["STS16", "SICKRelatedness"]
    assert results["STS16"] == engine.SE({"task_path": tmp_path}, batcher).eval("STS16")
    assert evaluator.results == results


def test_a_classifier_task_takes_folds_and_settings_from_params(tmp_path: Path, known: dict[str, tasks.Task]) -> None:
    lines = [letter * (1 + n % 9) for letter in "az" for n in range(20)]
    known["MR"] = write_lines(tmp_path, "MR", all=[lines[:20], lines[20:]])
    classifier = {"nhid": 0, "optim": "rmsprop", "batch_size": 8, "tenacity": 3, "epoch_size": 2}
    evaluator = engine.SE({"task_path": tmp_path, "kfold": 4, "classifier": classifier}, batcher)
    assert evaluator.eval("MR") == {"devacc": 100.0, "acc": 100.0, "ndev": 40, "ntest": 40}


def test_the_trained_regressor_returns_its_predictions(tmp_path: Path, known: dict[str, tasks.Task]) -> None:
    name = "SICKRelatedness-finetune"
    known[name] = write_sick(tmp_path, {"train": 8 * PAIRS, "dev": PAIRS, "test": PAIRS}, name)
    results = engine.SE({"task_path": tmp_path}, batcher).eval(name)
    assert results["yhat"].shape == (4,)
    assert results["ntest"] == 4


def test_a_similarity_in_params_replaces_the_cosine(tmp_path: Path, known: dict[str, tasks.Task]) -> None:
    known["STS16"] = write_sts(tmp_path, {"headlines": PAIRS})

    def distance(u: np.ndarray, v: np.ndarray) -> float:
        return float(np.abs(u - v).sum())

    params = {"task_path": tmp_path, "similarity": distance}
    results = engine.SE(params, batcher).eval("STS16")["headlines"]
    # distances: the same 0; a cat / the dog: counts of a a c t against t h e d o g, 2 + 1 + 5 = 8;
    # zebra / abc: z e r against c, 4; ab / ba 0. Ranks 1.5 4 3 1.5 against gold ranks 4 2 1 3:
    # centred (-1, 1.5, .5, -1) and (1.5, -.5, -1.5, .5): -3.5 / sqrt(4.5 * 5)
    assert results["spearman"][0] == pytest.approx(-3.5 / math.sqrt(4.5 * 5))


def test_constant_embeddings_are_nan_as_in_senteval_with_a_warning(
    tmp_path: Path, known: dict[str, tasks.Task]
) -> None:
    known["STS16"] = write_sts(tmp_path, {"headlines": PAIRS})

    def constant(params: engine.Params, batch: list[list[str]]) -> np.ndarray:  # noqa: ARG001
        return np.ones((len(batch), 3))

    with pytest.warns(UserWarning, match="STS16 has undefined correlations .headlines: the model gives every pair"):
        results = engine.SE({"task_path": tmp_path}, constant).eval("STS16")
    assert math.isnan(results["headlines"]["spearman"][0])
    assert math.isnan(results["all"]["spearman"]["all"])


def test_an_embedding_that_is_not_finite_is_refused_by_its_sentence(
    tmp_path: Path, known: dict[str, tasks.Task]
) -> None:
    known["STS16"] = write_sts(tmp_path, {"headlines": PAIRS})

    def broken(params: engine.Params, batch: list[list[str]]) -> torch.Tensor:
        return torch.where(
            torch.tensor([[tokens == ["a", "cat"]] for tokens in batch]), torch.nan, batcher(params, batch)
        )

    with pytest.raises(EncodingError, match="'a cat'"):
        engine.SE({"task_path": tmp_path}, broken).eval("STS16")


def test_a_batcher_that_drops_a_sentence_is_refused(tmp_path: Path, known: dict[str, tasks.Task]) -> None:
    known["STS16"] = write_sts(tmp_path, {"headlines": PAIRS})
    with pytest.raises(ValueError, match="4 sentences were encoded to shape"):
        engine.SE({"task_path": tmp_path}, lambda params, batch: batcher(params, batch[1:])).eval("STS16")


@pytest.mark.parametrize(
    ("params", "message"),
    [({}, "no task_path"), ({"task_path": "data", "classifier": {"optim": "adam"}}, "no nhid")],
)
def test_params_that_lack_something_are_refused_at_once(params: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        engine.SE(params, batcher)


def test_unknown_tasks_and_missing_data_are_refused(tmp_path: Path) -> None:
    evaluator = engine.SE({"task_path": tmp_path}, batcher)
    with pytest.raises(UsageError, match="no task 'SNLI'"):
        evaluator.eval("SNLI")
    with pytest.raises(DataError, match="is missing in"):
        evaluator.eval("STS12")


def test_names_settings_and_files_are_checked_before_the_first_sentence_is_encoded(
    tmp_path: Path, known: dict[str, tasks.Task]
) -> None:
    known["STS16"] = write_sts(tmp_path, {"headlines": PAIRS})
    known["MR"] = write_lines(tmp_path, "MR", all=[["a"] * 20, ["z"] * 20])

    def never(params: engine.Params, batch: list[list[str]]) -> torch.Tensor:  # noqa: ARG001
        raise AssertionError("encoded")

    def refuse(names: list[str], message: str, error: type[Exception] = UsageError, **params: object) -> None:
        with pytest.raises(error, match=message):
            engine.SE({"task_path": tmp_path} | params, never).eval(names)

    refuse(["STS16", "Length"], "no task 'Length'")
    refuse(["STS16", "CR"], "is missing in", DataError)
    refuse(["STS16", "MR"], "classifier'.: optim must be one of", classifier={"nhid": 0, "optim": "lion"})
    refuse(["STS16", "MR"], "classifier'.: ", classifier={"nhid": "50"})
    refuse(["STS16", "MR"], "usepytorch=False", usepytorch=False)
    refuse(["STS16"], "params.'batch_size'. must be a whole number of at least 1, not 0", batch_size=0)
    refuse(["STS16"], "params.'kfold'. must be a whole number of at least 2, not 2.5", kfold=2.5)
    refuse(["STS16"], "must be a function", similarity="dot")


def test_what_is_finished_when_a_batcher_fails_is_kept(tmp_path: Path, known: dict[str, tasks.Task]) -> None:
    known["STS16"] = write_sts(tmp_path, {"headlines": PAIRS})
    known["SICKRelatedness"] = write_sick(tmp_path, {"train": PAIRS, "dev": PAIRS, "test": PAIRS})

    def failing(params: engine.Params, batch: list[list[str]]) -> torch.Tensor:
        if params.current_task == "SICKRelatedness":
            raise RuntimeError("out of memory")
        return batcher(params, batch)

    evaluator = engine.SE({"task_path": tmp_path}, failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        evaluator.eval(["STS16", "SICKRelatedness"])
    assert list(evaluator.results) == ["STS16"]


def test_sgd_in_sentevals_own_syntax_trains(tmp_path: Path, known: dict[str, tasks.Task]) -> None:
    lines = [letter * (1 + n % 9) for letter in "az" for n in range(20)]
    known["MR"] = write_lines(tmp_path, "MR", all=[lines[:20], lines[20:]])
    params = {"task_path": tmp_path, "kfold": 2, "classifier": {"nhid": 0, "optim": "sgd,lr=0.1"}}
    assert engine.SE(params, batcher).eval("MR")["acc"] == 100.0


def test_facebooks_keys_of_relatedness_read_as_those_of_the_cosines(
    tmp_path: Path, known: dict[str, tasks.Task]
) -> None:
    known["SICKRelatedness"] = write_sick(tmp_path, {"train": PAIRS, "dev": PAIRS, "test": PAIRS[::-1]})
    results = engine.SE({"task_path": tmp_path}, batcher).eval("SICKRelatedness")
    for key, split, kind in (("pearson", "test", "pearson"), ("devpearson", "dev", "pearson")):
        with pytest.warns(UserWarning, match="is of cosines; the tasks STSBenchmark-finetune"):
            assert results[key] == results[split][kind][0]
    with pytest.raises(KeyError, match="mse"):
        results["mse"]
    name = "SICKRelatedness-finetune"
    known[name] = write_sick(tmp_path, {"train": 8 * PAIRS, "dev": PAIRS, "test": PAIRS}, name)
    trained = engine.SE({"task_path": tmp_path}, batcher).eval(name)
    assert -1 <= trained["devpearson"] <= 1


def test_tasks_and_subsets_are_logged(
    tmp_path: Path, known: dict[str, tasks.Task], caplog: pytest.LogCaptureFixture
) -> None:
    known["STS16"] = write_sts(tmp_path, {"headlines": PAIRS, "plagiarism": PAIRS})
    with caplog.at_level("DEBUG", "senteval"):
        engine.SE({"task_path": tmp_path}, batcher).eval("STS16")
    found = [record.getMessage().split(" : ")[0] for record in caplog.records]
    assert found == [
        "***** Transfer task",
        "headlines",
        "plagiarism",
        "ALL",
        "ALL (weighted average)",
        "ALL (average)",
    ]
    assert caplog.records[0].getMessage() == "***** Transfer task : STS16 *****"


def test_scikit_learns_classifier_is_refused_and_unknown_settings_are_warned_of(
    tmp_path: Path, known: dict[str, tasks.Task]
) -> None:
    lines = [letter * (1 + n % 9) for letter in "az" for n in range(20)]
    known["MR"] = write_lines(tmp_path, "MR", all=[lines[:20], lines[20:]])
    with pytest.raises(UsageError, match="usepytorch=False"):
        engine.SE({"task_path": tmp_path, "usepytorch": False}, batcher).eval("MR")
    params = {"task_path": tmp_path, "kfold": 2, "classifier": {"nhid": 0, "noreg": True}}
    with pytest.warns(UserWarning, match="noreg has no effect"):
        engine.SE(params, batcher).eval("MR")
