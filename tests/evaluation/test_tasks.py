from pathlib import Path

import pytest

from distilcse_cli.errors import DataError, ModelError, UsageError
from distilcse_cli.evaluation.boundary import senteval_errors
from distilcse_cli.evaluation.settings import EvalSettings, check_out
from distilcse_cli.evaluation.tasks import choose_tasks, data_folder, load_data
from senteval import STS_TASKS, TRANSFER_TASKS, EncodingError
from tests.evaluation.small import PAIRS, write_sts16


@pytest.mark.parametrize(
    ("task_set", "names", "expected"),
    [
        (None, [], STS_TASKS),
        ("transfer", [], TRANSFER_TASKS),
        ("full", [], (*STS_TASKS, *TRANSFER_TASKS)),
        (None, ["TREC,STS12"], ("TREC", "STS12")),
        ("na", ["MR", "CR, MR"], ("MR", "CR")),
        (None, ["transfer,SST5"], (*TRANSFER_TASKS, "SST5")),
    ],
)
def test_tasks_come_from_a_set_or_by_name(task_set: str | None, names: list[str], expected: tuple[str, ...]) -> None:
    assert choose_tasks(task_set, names) == expected


def test_a_task_set_overrides_names_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert choose_tasks("sts", ["MR"]) == STS_TASKS
    assert capsys.readouterr().err == "warning: --tasks is not used, since --task-set sts overrides it\n"


@pytest.mark.parametrize(
    ("task_set", "names", "message"),
    [
        ("na", [], "--task-set na names no tasks"),
        ("na", [" , "], "--task-set na names no tasks"),
        ("glue", [], "--task-set is 'glue', but must be one of sts, transfer, full, na"),
        (None, ["STS21"], "there is no task 'STS21'"),
    ],
)
def test_no_such_task_is_a_usage_error(task_set: str | None, names: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose_tasks(task_set, names)


def test_data_is_looked_for_where_it_is_said_then_in_the_variable_then_at_home(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTILCSE_DATA", str(tmp_path / "data"))
    assert data_folder(Path("there")) == Path("there")
    # neither is there, so the first place is the one that a message names
    assert data_folder() == tmp_path / "data" / "senteval"
    (home / "datasets" / "senteval" / "downstream").mkdir(parents=True)
    assert data_folder() == home / "datasets" / "senteval"
    (tmp_path / "data" / "senteval" / "downstream").mkdir(parents=True)
    assert data_folder() == tmp_path / "data" / "senteval"
    monkeypatch.delenv("DISTILCSE_DATA")
    assert data_folder() == home / "datasets" / "senteval"


def test_missing_files_are_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"missing in .*: downstream/STS/STS16-en-test/STS\.input\.answer-answer"
    ) as caught:
        load_data(["STS16"], tmp_path, EvalSettings())
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("distilcse download senteval fetches it; --data DIR names another folder")


def test_a_file_of_another_size_keeps_its_own_hint(tmp_path: Path) -> None:
    write_sts16(tmp_path)
    gold = tmp_path / "downstream/STS/STS16-en-test/STS.gs.headlines.txt"
    gold.write_text(gold.read_text()[:-4], encoding="utf-8")
    with pytest.raises(DataError, match=r"STS\.gs\.headlines\.txt") as caught:
        load_data(["STS16"], tmp_path, EvalSettings())
    assert "--data" not in (caught.value.hint or "")


def test_fingerprints_follow_the_bytes_of_a_tasks_own_files(tmp_path: Path) -> None:
    write_sts16(tmp_path)
    before = load_data(["STS16"], tmp_path, EvalSettings())
    assert before.names == ("STS16",)
    assert sum(len(split) for split in before.tasks[0].splits.values()) == 1186
    assert load_data(["STS16"], tmp_path, EvalSettings()).fingerprints == before.fingerprints
    changed = tmp_path / "downstream/STS/STS16-en-test/STS.gs.headlines.txt"
    text = changed.read_text(encoding="utf-8")
    changed.write_text(text.replace(f"{PAIRS[0][2]}", "4.4", 1), encoding="utf-8")
    assert load_data(["STS16"], tmp_path, EvalSettings()).fingerprints != before.fingerprints


def test_raw_stsb_text_stands_in_for_the_task_under_its_own_name(data_dir: Path) -> None:
    folder = data_dir / "senteval"
    raw, usual = (load_data(["STSBenchmark"], folder, EvalSettings(stsb_text=text)) for text in ("raw", "tokenized"))
    assert raw.names == usual.names == ("STSBenchmark",)
    assert raw.fingerprints != usual.fingerprints
    raw_sentences, sentences = set(raw.tasks[0].sentences()), set(usual.tasks[0].sentences())
    assert "a girl is styling her hair ." in sentences
    assert "A girl is styling her hair." in raw_sentences
    with pytest.raises(UsageError, match="raw is of no use without the task STSBenchmark"):
        load_data(["STS12"], folder, EvalSettings(stsb_text="raw"))


def test_unusable_embeddings_are_the_models_fault() -> None:
    with pytest.raises(ModelError, match="not finite") as caught, senteval_errors():
        raise EncodingError("the embedding of 'x' is not finite", hint="encode in float32")
    assert (caught.value.exit_code, caught.value.hint) == (4, "encode in float32")


@pytest.mark.parametrize(
    ("field", "value", "option"),
    [
        ("mode", "train", "--mode"),
        ("aggregation", "sum", "--aggregation"),
        ("stsb_text", "cased", "--stsb-text"),
        ("batch_tokens", 0, "--batch-tokens"),
        ("max_length", 2, "--max-length"),
    ],
)
def test_a_setting_out_of_range_names_the_option(field: str, value: object, option: str) -> None:
    with pytest.raises(UsageError, match=option):
        EvalSettings(**{field: value})  # type: ignore[arg-type]


def test_where_results_go_is_checked_beforehand(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    check_out(None, "senteval", EvalSettings())
    check_out(file, "senteval", EvalSettings())
    check_out(tmp_path, "mteb", EvalSettings())
    for out, out_format, settings, message in (
        (tmp_path, "senteval", EvalSettings(), "is a folder"),
        (file, "mteb", EvalSettings(), "is a file"),
        (None, "mteb", EvalSettings(), "--format mteb needs --out"),
        (tmp_path, "mteb", EvalSettings(aggregation="mean"), "does not go with --aggregation mean"),
        (file, "csv", EvalSettings(), "--format is 'csv'"),
    ):
        with pytest.raises(UsageError, match=message):
            check_out(out, out_format, settings)
