"""Tables, JSON and files of results that are written down by hand."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distilcse_cli.errors import DataError
from distilcse_cli.evaluation.mteb import write_out
from distilcse_cli.evaluation.report import Report
from distilcse_cli.evaluation.scoring import Evaluation
from distilcse_cli.evaluation.settings import EvalSettings
from senteval import STS_TASKS, TRANSFER_TASKS, RegressorScore, Results, StsScore, TransferScore
from senteval.loading import TaskData
from senteval.results import Score
from senteval.tasks import TASKS
from tests.evaluation.small import data_of

STS = dict(zip(STS_TASKS, (72.374, 80.604, 75.594, 85.386, 78.994, 82.034, 77.154), strict=True))


def sts_score(value: float | None, reason: str | None = None) -> StsScore:
    return StsScore(spearman=value, pearson=None if value is None else value - 1, num_pairs=10, reason=reason)


def evaluation(scores: dict[str, Score], *, model: str = "m", pooler: str = "avg", **results: object) -> Evaluation:
    nested = {task: {"test": {"spearman": 0.5}} for task in scores}
    return Evaluation(
        model=model,
        revision=None,
        pooler=pooler,
        facts={"model_fingerprint": "abc", "max_length": 64, "normalize": False},
        num_parameters=1000,
        embedding_dim=16,
        results=Results(**{"mode": "test", "aggregation": "all", "tasks": nested, "scores": scores} | results),  # type: ignore[arg-type]
        dates=dict.fromkeys(scores, "2026-01-02T03:04:05+00:00"),
    )


def report(
    *evaluations: Evaluation, teacher: Evaluation | None = None, names: tuple[str, ...] = STS_TASKS, **settings: object
) -> Report:
    data = data_of(*(TaskData(TASKS[name], {}) for name in names))
    return Report(evaluations=evaluations, teacher=teacher, data=data, settings=EvalSettings(**settings))  # type: ignore[arg-type]


ALL_STS = {task: sts_score(value) for task, value in STS.items()}


def test_one_models_table_is_that_of_the_papers() -> None:
    # 552.14 / 7 = 78.877, while the rounded ones would come to 552.12 / 7 = 78.874
    assert report(evaluation(ALL_STS)).text() == "\n".join(
        [
            "------ test ------",
            "model m, mode test, pooler avg, aggregation all, embeddings not normalized",
            "+-------+-------+-------+-------+-------+--------------+-----------------+-------+",
            "| STS12 | STS13 | STS14 | STS15 | STS16 | STSBenchmark | SICKRelatedness |  Avg. |",
            "+-------+-------+-------+-------+-------+--------------+-----------------+-------+",
            "| 72.37 | 80.60 | 75.59 | 85.39 | 78.99 |    82.03     |      77.15      | 78.88 |",
            "+-------+-------+-------+-------+-------+--------------+-----------------+-------+",
        ]
    )


def test_a_task_not_run_is_a_dash_and_so_is_the_average() -> None:
    text = report(evaluation({"STS12": ALL_STS["STS12"]}), names=("STS12",)).text()
    assert "| 72.37 |   -   |   -   |   -   |   -   |      -       |        -        |  -   |" in text
    assert "TREC" not in text


def test_each_table_is_shown_only_if_one_of_its_tasks_was_asked_for() -> None:
    accuracy = TransferScore(devacc=80.0, acc=81.5, num_dev=10, num_test=10)
    transfer = dict.fromkeys(TRANSFER_TASKS, accuracy)
    text = report(evaluation(transfer), names=TRANSFER_TASKS).text()
    assert "STS12" not in text
    assert [cell.strip() for cell in text.splitlines()[3].split("|")[1:-1]] == [*TRANSFER_TASKS, "Avg."]
    assert text.splitlines()[5].split("|")[1:-1] == [" 81.50 "] * 8
    other = report(evaluation({"SST5": accuracy, "STS12": ALL_STS["STS12"]}), names=("SST5", "STS12")).text()
    headers = [line.split("|")[1].strip() for line in other.splitlines() if line.startswith("|")][::2]
    assert headers == ["STS12", "SST5"]


def test_several_models_and_a_teacher_have_a_row_each_and_differences() -> None:
    student = evaluation({"STS12": sts_score(70.0)}, model="s", pooler="cls")
    teacher = evaluation({"STS12": sts_score(72.5)}, model="big/one")
    text = report(student, teacher=teacher, names=("STS12",)).text()
    assert text.splitlines()[1] == (
        "teacher big/one, mode test, pooler avg (teacher), cls (s), aggregation all, embeddings not normalized"
    )
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in text.splitlines() if line.startswith("|")]
    assert rows == [["Model", "STS12"], ["teacher", "72.50"], ["s", "70.00"], ["s - teacher", "-2.50"]]


def test_models_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    places = [tmp_path / part / "student" for part in ("a", "b")] + [tmp_path / "teacher", tmp_path / "other"]
    for place in places:
        place.mkdir(parents=True)
    models = [evaluation(ALL_STS, model=str(place)) for place in places]
    labels = list(report(*models, teacher=evaluation(ALL_STS)).by_label)
    assert labels == ["teacher", str(places[0]), str(places[1]), str(places[2]), "other"]
    poolings = report(evaluation(ALL_STS, pooler="avg"), evaluation(ALL_STS, pooler="cls"))
    assert list(poolings.by_label) == ["m", "m (cls)"]


def test_the_json_of_one_model() -> None:
    assert report(evaluation(ALL_STS)).as_dict() == {
        "model": "m",
        "pooler": "avg",
        "mode": "test",
        "aggregation": "all",
        "tasks": {task: {"spearman": value, "pearson": value - 1, "num_pairs": 10} for task, value in STS.items()},
        "avg_sts": sum(STS.values()) / 7,
    }


def test_the_json_of_transfer_and_other_tasks() -> None:
    scores: dict[str, Score] = {
        "MRPC": TransferScore(devacc=70.0, acc=71.0, num_dev=5, num_test=6, f1=80.0),
        "TREC": TransferScore(devacc=60.0, acc=61.0, num_dev=7, num_test=8),
        "STSBenchmark-finetune": RegressorScore(
            dev_spearman=50.0, spearman=None, pearson=None, mse=1.5, num_pairs=9, reason="why"
        ),
    }
    found = report(evaluation(scores), names=tuple(scores), normalize=True, stsb_text="tokenized").as_dict()
    assert found["normalize"] is True
    assert "stsb_text" not in found
    assert found["tasks"] == {
        "MRPC": {"devacc": 70.0, "acc": 71.0, "num_dev": 5, "num_test": 6, "f1": 80.0},
        "TREC": {"devacc": 60.0, "acc": 61.0, "num_dev": 7, "num_test": 8},
        "STSBenchmark-finetune": {
            "dev_spearman": 50.0, "spearman": None, "pearson": None, "mse": 1.5, "num_pairs": 9, "reason": "why"
        },
    }  # fmt: skip
    assert found["avg_transfer"] is None
    assert "avg_sts" not in found


def test_the_json_of_several_models() -> None:
    students = [evaluation({"STS12": sts_score(value)}, model=f"s{value}") for value in (70.0, 71.0)]
    teacher = evaluation({"STS12": sts_score(72.5)}, model="t")
    assert list(report(*students, names=("STS12",)).as_dict()) == ["results"]
    found = report(*students, teacher=teacher, names=("STS12",)).as_dict()
    assert found["teacher"]["tasks"]["STS12"]["spearman"] == 72.5
    assert [one["model"] for one in found["results"]] == ["s70.0", "s71.0"]
    assert [one["difference"] for one in found["results"]] == [
        {"STS12": -2.5, "avg_sts": None},
        {"STS12": -1.5, "avg_sts": None},
    ]


def test_remarks_say_why_a_number_is_missing() -> None:
    constant = evaluation(
        ALL_STS | {"STS16": sts_score(None, "the model gives every pair the same similarity")},
        skipped={"STS12": "has no development set", "STS13": "has no development set"},
    )
    assert report(constant).remarks() == [
        "STS12, STS13: not run (has no development set)",
        "STS16: undefined for m (the model gives every pair the same similarity)",
    ]
    assert report(constant).text().splitlines()[-2].split("|")[5].strip() == "-"


def test_the_result_file_has_sentevals_results_and_our_settings(tmp_path: Path) -> None:
    one = report(evaluation(ALL_STS))
    write_out(one, tmp_path / "new" / "results.json", "senteval")
    written = json.loads((tmp_path / "new" / "results.json").read_text(encoding="utf-8"))
    assert list(written) == [*STS_TASKS, "settings"]
    assert written["STS12"] == {"test": {"spearman": 0.5}}
    settings = written["settings"]
    assert settings["model_fingerprint"] == "abc"
    assert settings["seed"] == 1111
    assert settings["data_fingerprints"]["STS12"] == "f STS12"
    assert settings["versions"]["torch"]
    two = report(evaluation(ALL_STS), teacher=evaluation(ALL_STS, model="t")).senteval_dict()
    assert (two["teacher"]["settings"]["model"], two["results"][0]["settings"]["model"]) == ("t", "m")


def test_mteb_files_have_a_split_of_scores_below_one(tmp_path: Path) -> None:
    scores: dict[str, Score] = {
        "STS12": sts_score(72.5),
        "MTEB-SICK-R": sts_score(77.0),
        "CR": TransferScore(devacc=80.0, acc=82.0, num_dev=10, num_test=10),
        "STS13": sts_score(None, "why"),
    }
    hub = replace(evaluation(scores, model="org/model"), revision="c0ffee")
    write_out(report(hub, evaluation(scores, model="m"), names=tuple(scores)), tmp_path, "mteb")
    (local,) = (tmp_path / "local__m").iterdir()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.json")) == sorted(
        f"{folder}/{name}.json"
        for folder in ("org__model/c0ffee", f"local__m/{local.name}")
        for name in ("STS12", "SICK-R", "CR", "model_meta")
    )
    folder = tmp_path / "org__model" / "c0ffee"
    # 2026-01-02 03:04:05 UTC is 1,767,323,045 seconds after 1970
    assert json.loads((folder / "STS12.json").read_text(encoding="utf-8")) == {
        "dataset_revision": "senteval-f STS12",
        "task_name": "STS12",
        "mteb_version": None,
        "scores": {
            "test": [
                {
                    "pearson": 0.715,
                    "spearman": 0.725,
                    "cosine_pearson": 0.715,
                    "cosine_spearman": 0.725,
                    "main_score": 0.725,
                    "hf_subset": "default",
                    "languages": ["eng-Latn"],
                }
            ]
        },
        "evaluation_time": None,
        "kg_co2_emissions": None,
        "date": 1767323045.0,
    }
    meta = json.loads((folder / "model_meta.json").read_text(encoding="utf-8"))
    assert (meta["name"], meta["revision"], meta["embed_dim"], meta["max_tokens"]) == ("org/model", "c0ffee", 16, 64)


def test_mteb_calls_the_development_split_validation(tmp_path: Path) -> None:
    scores: dict[str, Score] = {"CR": TransferScore(devacc=80.0, acc=82.0, num_dev=10, num_test=10)}
    write_out(report(evaluation(scores, mode="dev"), names=("CR",), mode="dev"), tmp_path, "mteb")
    (file,) = tmp_path.rglob("CR.json")
    assert json.loads(file.read_text(encoding="utf-8"))["scores"]["validation"][0]["main_score"] == 0.8


def mteb_scores(folder: Path) -> dict[tuple[str, str, str], float]:
    """Main scores by name, revision and task, read by the rules of MTEB's `ResultCache` and `TaskResult`."""
    found = {}
    for path in folder.glob("*/*/*.json"):
        if path.name == "model_meta.json":
            continue
        meta: dict[str, Any] = json.loads((path.parent / "model_meta.json").read_text(encoding="utf-8"))
        place = meta["name"].replace("/", "__").replace(" ", "_"), meta["revision"]
        assert (path.parent.parent.name, path.parent.name) == place
        result = json.loads(path.read_text(encoding="utf-8"))
        assert result["task_name"] == path.stem
        assert "mteb_version" in result  # a file without it is read as one of the years before 2024
        ((split, (entry,)),) = result["scores"].items()
        assert split in ("test", "validation")
        assert isinstance(entry["hf_subset"], str)
        assert isinstance(entry["languages"], list)
        found[meta["name"], meta["revision"], path.stem] = entry["main_score"]
    return found


def test_mteb_keeps_models_of_one_folder_name_apart(tmp_path: Path) -> None:
    one = evaluation({"STS12": sts_score(70.0), "STS13": sts_score(71.0)})
    other = replace(evaluation({"STS12": sts_score(30.0)}), facts=one.facts | {"model_fingerprint": "def"})
    cls = replace(one, facts=one.facts | {"pooling": "cls"})
    for each in (one, other, cls):
        write_out(report(each, names=tuple(each.results.scores)), tmp_path, "mteb")
    scores = mteb_scores(tmp_path)
    assert sorted(scores.values()) == [0.3, 0.7, 0.7, 0.71, 0.71]
    assert {name for name, _, _ in scores} == {"local/m"}

    again = replace(evaluation({"STS12": sts_score(70.1)}), facts=one.facts | {"torch_version": "3"})
    write_out(report(again, names=("STS12",)), tmp_path, "mteb")
    assert sorted(mteb_scores(tmp_path).values()) == [0.3, 0.7, pytest.approx(0.701), 0.71, 0.71]


@pytest.mark.parametrize("change", ["pooling", "mode", "not ours", "damaged"])
def test_mteb_files_of_another_model_are_replaced_only_on_demand(tmp_path: Path, change: str) -> None:
    first = replace(evaluation({"STS12": sts_score(70.0)}, model="org/model"), revision="c0ffee")
    write_out(report(first, names=("STS12",)), tmp_path, "mteb")
    folder = tmp_path / "org__model" / "c0ffee"
    match change:
        case "not ours":
            (folder / "model_meta.json").unlink()
        case "damaged":
            (folder / "model_meta.json").write_text("[]", encoding="utf-8")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    second = replace(first, facts=first.facts | {"pooling": "cls"} if change == "pooling" else first.facts)
    mode = "fasttest" if change == "mode" else "test"
    with pytest.raises(DataError, match="c0ffee holds results of another model or of other settings"):
        write_out(report(second, names=("STS12",), mode=mode), tmp_path, "mteb")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    write_out(report(second, names=("STS12",), overwrite=True, mode=mode), tmp_path, "mteb")
    assert list(mteb_scores(tmp_path).values()) == [0.7]
