"""Which files a run needs, their known sizes, and the order of rows."""

import shutil
from pathlib import Path

import pytest

import senteval
from senteval.errors import DataError, UsageError
from senteval.loading import load_task
from senteval.tasks import TASKS, find_task, resolve_tasks
from tests.senteval.small import write_lines, write_sick, write_sts


@pytest.fixture(scope="session")
def senteval_dir(data_dir: Path) -> Path:
    return data_dir / "senteval"


def test_every_task_has_the_size_that_the_table_says(senteval_dir: Path) -> None:
    # load_tasks compares each file with its known size
    loaded = senteval.load_tasks(TASKS, senteval_dir, splits="all")
    assert [data.task.name for data in loaded] == list(TASKS)
    num_pairs = {data.task.name: sum(map(len, data.splits.values())) for data in loaded if data.task.kind == "sts"}
    assert num_pairs == {
        **{"STS12": 3108, "STS13": 1500, "STS14": 3750, "STS15": 3000, "STS16": 1186},
        **{"STSBenchmark": 8628, "SICKRelatedness": 9927, "STSBenchmark-raw": 8628, "MTEB-SICK-R": 9927},
    }


def test_cr_and_mpqa_hold_empty_sentences(senteval_dir: Path) -> None:
    for data, num_empty in zip(senteval.load_tasks(["CR", "MPQA"], senteval_dir), (4, 3), strict=True):
        assert data.splits["all"].sentences[:num_empty] == [""] * num_empty
        assert data.splits["all"].sentences[num_empty]


def test_a_file_of_another_size_is_refused_by_name(senteval_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(senteval_dir / "downstream" / "CR", tmp_path / "downstream" / "CR")
    file = tmp_path / "downstream" / "CR" / "custrev.pos"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes() + b"one more\n")
    with pytest.raises(DataError, match=r"custrev\.pos holds 2408 rows, but CR has 2407") as caught:
        senteval.load_tasks("CR", tmp_path)
    assert caught.value.files == (file,)


def test_missing_files_are_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"sts-test\.csv, .*SICK_test_annotated\.txt$") as caught:
        senteval.check_data(["STSBenchmark", "SICKRelatedness"], tmp_path)
    assert "\n" not in str(caught.value)
    assert "downstream/" in (caught.value.hint or "")


def test_many_missing_files_are_counted(tmp_path: Path) -> None:
    # five subsets of two files each, of which three files are named
    with pytest.raises(DataError, match=r"and 7 more$") as caught:
        senteval.load_tasks("STS16", tmp_path)
    assert len(caught.value.files) == 10


def test_only_the_splits_that_the_mode_reports_are_needed() -> None:
    def names(**options: str) -> list[str]:
        return [file.name for file in senteval.required_files("STSBenchmark", "data", **options)]  # type: ignore[arg-type]

    assert names() == names(mode="fasttest") == ["sts-test.csv"]
    assert names(mode="dev") == ["sts-dev.csv"]
    assert names(splits="all") == ["sts-train.csv", "sts-dev.csv", "sts-test.csv"]


def test_a_trained_task_needs_every_split_in_every_mode() -> None:
    assert len(senteval.required_files("SST2", "data", mode="dev")) == 3


def test_files_that_two_tasks_share_are_listed_once() -> None:
    tasks = ["SICKRelatedness", "SICKEntailment", "MTEB-SICK-R"]
    assert len(senteval.required_files(tasks, "data")) == 3


def test_the_untokenized_sts_benchmark_comes_from_its_own_folder(senteval_dir: Path) -> None:
    raw, tokenized = senteval.load_tasks(["STSBenchmark-raw", "STSBenchmark"], senteval_dir)
    assert raw.splits["test"].sentences[0] == "A girl is styling her hair."
    assert tokenized.splits["test"].sentences[0] == "a girl is styling her hair ."


def test_rows_are_sorted_by_length_of_both_sentences_then_label_and_else_stay(tmp_path: Path) -> None:
    pairs = [("b b", "b", 1.0), ("x", "y z", 3.0), ("p", "q", 2.0), ("m", "n", 2.0), ("k", "l", 1.0)]
    split = load_task(write_sts(tmp_path, {"headlines": pairs}), tmp_path).splits["headlines"]
    # lengths (1,1) with label 1, then the two of label 2 in file order, then (1,2), then (2,1)
    assert split.sentences == ["k", "p", "m", "x", "b b"]
    assert split.partners == ["l", "q", "n", "y z", "b"]
    assert split.labels.tolist() == [1.0, 2.0, 2.0, 3.0, 1.0]


def test_single_sentences_are_sorted_by_length_then_class_and_the_empty_one_has_none(tmp_path: Path) -> None:
    task = write_lines(tmp_path, "CR", all=[["two words", "good"], ["bad", "", "so so"]])
    split = load_task(task, tmp_path).splits["all"]
    assert split.sentences == ["", "bad", "good", "so so", "two words"]
    assert split.labels.tolist() == [0, 0, 1, 0, 1]
    assert split.labels.dtype == "int64"


def test_sick_pairs_stay_in_file_order_as_in_senteval(tmp_path: Path) -> None:
    task = write_sick(tmp_path, {"test": [("a b c", "d", 5.0), ("e", "f", 1.0)]})
    assert load_task(task, tmp_path).splits["test"].sentences == ["a b c", "e"]


def test_task_sets_expand_and_repeated_tasks_count_once() -> None:
    assert [task.name for task in resolve_tasks(["MR", "sts", "STS12"])] == ["MR", *senteval.STS_TASKS]


def test_a_misspelt_task_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="no task 'stsbenchmrk'") as caught:
        find_task("stsbenchmrk")
    assert caught.value.hint == "did you mean STSBenchmark?"


@pytest.mark.parametrize("options", [{"mode": "train"}, {"splits": "some"}])
def test_unknown_modes_and_splits_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        senteval.check_data("STS12", "data", **options)  # type: ignore[arg-type]


def test_every_task_names_its_source() -> None:
    assert all(task.citation for task in TASKS.values())
