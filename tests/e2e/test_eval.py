"""`distilcse eval` as a user runs it, on SentEval's own files."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distilcse_cli.runtime import bf16_cpu_flags
from senteval import STS_TASKS

pytestmark = pytest.mark.e2e
Eval = Callable[..., subprocess.CompletedProcess[str]]

PUBLISHED = dict(zip(STS_TASKS, (72.37, 80.60, 75.59, 85.39, 78.99, 82.03, 77.15), strict=True))
PUBLISHED_AVERAGE = 78.87
HEADER = "| STS12 | STS13 | STS14 | STS15 | STS16 | STSBenchmark | SICKRelatedness |  Avg. |"


@pytest.fixture(scope="module")
def kept_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data home for all tests here, so that what one has scored the next ones re-use."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def evaluate(distilcse: Eval, kept_home: Path, data_dir: Path) -> Eval:
    environment = os.environ | {"DISTILCSE_HOME": str(kept_home), "DISTILCSE_DATA": str(data_dir)}
    return lambda *arguments, **settings: distilcse("eval", *arguments, env=environment, **settings)


@pytest.fixture
def tiny_teacher(golden_dir: Path) -> Path:
    return golden_dir / "tiny-teacher"


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def summary(golden: dict[str, Any], task: str, kind: str, aggregation: str = "all") -> float:
    """A task's score × 100 out of SentEval's nested results."""
    entry = golden[task]
    value = entry["test"][kind] if "test" in entry else entry["all"][kind][aggregation]
    return 100 * value


@pytest.mark.golden
def test_scores_are_those_of_sentevals_own_code_and_the_table_shows_them(
    evaluate: Eval, tiny_teacher: Path, golden_dir: Path
) -> None:
    golden = json.loads((golden_dir / "sts_tiny_teacher.json").read_text(encoding="utf-8"))["avg"]
    common = ("--pooler", "avg", "--compute-dtype", "float32")
    found = json.loads(evaluate("--model", tiny_teacher, *common, "--json").stdout)
    assert set(found) == {"model", "pooler", "mode", "aggregation", "tasks", "avg_sts"}
    assert list(found["tasks"]) == list(STS_TASKS)
    for task, score in found["tasks"].items():
        assert set(score) == {"spearman", "pearson", "num_pairs"}
        for kind in ("spearman", "pearson"):
            assert score[kind] == pytest.approx(summary(golden, task, kind), abs=1e-2), (task, kind)
    assert [score["num_pairs"] for score in found["tasks"].values()] == [3108, 1500, 3750, 3000, 1186, 1379, 4927]
    spearmans = [score["spearman"] for score in found["tasks"].values()]
    assert found["avg_sts"] == pytest.approx(sum(spearmans) / 7, abs=1e-12)

    # the authors' argument names; and nothing is encoded a second time
    done = evaluate("--model_name_or_path", tiny_teacher, *common, "--task_set", "sts", "--mode", "test")
    *_, lines, facts, top, header, rule, row, bottom = ["", *done.stdout.splitlines()]
    assert lines == "------ test ------"
    assert facts == (f"model {tiny_teacher}, mode test, pooler avg, aggregation all, embeddings not normalized")
    assert header == HEADER
    assert top == rule == bottom == "+-------+-------+-------+-------+-------+--------------+-----------------+-------+"
    assert cells(row) == [f"{value:.2f}" for value in (*spearmans, found["avg_sts"])]
    assert done.stderr == f"{tiny_teacher}: results of 7 of 7 tasks re-used (--overwrite runs them again)\n"

    for aggregation in ("mean", "wmean"):
        some = evaluate("--model", tiny_teacher, *common, "--tasks", "STS12", "STS15", "--aggregation", aggregation)
        assert f"aggregation {aggregation}" in some.stdout
        shown = dict(zip(STS_TASKS, cells(some.stdout.splitlines()[-2]), strict=False))
        for task in ("STS12", "STS15"):
            # to the golden values' tolerance and the table's rounding
            expected = summary(golden, task, "spearman", aggregation)
            assert float(shown.pop(task)) == pytest.approx(expected, abs=1e-2 + 5e-3)
        assert set(shown.values()) == {"-"}


def test_dev_mode_has_two_tasks_and_says_why(evaluate: Eval, tiny_teacher: Path) -> None:
    done = evaluate("--model", tiny_teacher, "--pooler", "cls", "--mode", "dev")
    lines = done.stdout.splitlines()
    assert lines[0] == "------ dev ------"
    assert cells(lines[3]) == ["STSBenchmark", "SICKRelatedness"]
    assert "STS12, STS13, STS14, STS15, STS16: not run (has no development set)" in done.stderr.splitlines()


def test_a_teacher_transfer_tasks_and_files(evaluate: Eval, tiny_teacher: Path, tmp_path: Path) -> None:
    student = tiny_teacher.with_name("tiny-student")
    command = ("--model", student, "--teacher", tiny_teacher, "--mode", "fasttest", "--tasks", "TREC,STS16")
    done = evaluate(*command, "--out", tmp_path / "results.json")
    lines = done.stdout.splitlines()
    assert "pooler cls" in lines[1]
    rows = [cells(line)[0] for line in lines if line.startswith("|")]
    assert rows == ["Model", "teacher", "tiny-student", "tiny-student - teacher"] * 2
    assert "TREC, task 1 of 2: 21 of 21 classifiers" in done.stderr

    written = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    trec = written["results"][0]["TREC"]
    assert (trec["ndev"], trec["ntest"]) == (5452, 500)
    found = json.loads(evaluate(*command, "--out", tmp_path / "mteb", "--format", "mteb", "--json").stdout)
    score, teachers = (entry["tasks"]["TREC"] for entry in (found["results"][0], found["teacher"]))
    assert (score["devacc"], score["acc"]) == (trec["devacc"], trec["acc"])
    assert found["results"][0]["difference"]["TREC"] == pytest.approx(score["acc"] - teachers["acc"])
    files = sorted(path.relative_to(tmp_path / "mteb") for path in (tmp_path / "mteb").rglob("*.json"))
    assert [str(file) for file in files] == [
        f"local__{model}/{revision.name}/{name}.json"
        for model in ("tiny-student", "tiny-teacher")
        for revision in (tmp_path / "mteb" / f"local__{model}").iterdir()
        for name in ("STS16", "TREC", "model_meta")
    ]


def test_missing_data_is_one_line_before_any_model_is_looked_for(evaluate: Eval, tmp_path: Path) -> None:
    done = evaluate("--model", "no such model", "--data", tmp_path, "--tasks", "MR", code=3)
    assert done.stdout == ""
    assert done.stderr == (
        f"error: SentEval data is missing in {tmp_path}: downstream/MR/rt-polarity.pos, downstream/MR/rt-polarity.neg"
        " (distilcse download senteval fetches it; --data DIR names another folder that holds downstream/)\n"
    )


def test_every_model_is_looked_for_before_the_first_is_run(evaluate: Eval, tiny_teacher: Path) -> None:
    done = evaluate("--model", tiny_teacher, "--model", "no-such-model", "--tasks", "STS13", "--normalize", code=4)
    assert done.stderr.startswith("error: no model no-such-model")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode", "train"], "--mode is 'train', but must be one of test, dev, fasttest"),
        (["--task-set", "na"], "--task-set na names no tasks"),
        (["--tasks", "STS21"], "there is no task 'STS21'"),
        (["--task-set", "sts", "STS12"], "Got unexpected extra argument 'STS12' (see distilcse eval --help)"),
        (["--format", "mteb"], "--format mteb needs --out"),
        (["--model", "n", "--revision", "main"], "--revision goes with one model"),
    ],
)
def test_a_usage_error_is_one_line(evaluate: Eval, arguments: list[str], message: str) -> None:
    done = evaluate("--model", "m", *arguments, code=2)
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (["--mode", "train"], 2),
        (["--tasks", "STS21"], 2),
        (["--data", "nowhere"], 3),
        # before any data is read
        (["--data", "nowhere", "--compute-dtype", "float8"], 2),
        (["--data", "nowhere", "--teacher", "t", "--teacher-pooler", "nonesuch"], 2),
    ],
)
def test_what_is_wrong_is_said_without_torch(arguments: list[str], exit_code: int) -> None:
    code = (
        "import sys\n"
        "from distilcse_cli.__main__ import run\n"
        f"sys.argv = ['distilcse', 'eval', '--model', 'm', *{arguments!r}]\n"
        "print(run(), [name for name in ('torch', 'transformers', 'scipy', 'sklearn') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{exit_code} []\n"


def test_the_authors_argument_names_are_not_in_the_help(distilcse: Eval) -> None:
    shown = distilcse("eval", "--help").stdout
    assert "--task-set" in shown
    assert "_" not in "".join(word for word in shown.split() if word.startswith("--"))


@pytest.mark.golden
@pytest.mark.real_model
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [pytest.param("float32", 0.02, marks=pytest.mark.slow), ("bfloat16", 0.05)]
)
def test_minilm_has_its_published_scores(evaluate: Eval, minilm: Path, dtype: str, tolerance: float) -> None:
    if dtype == "bfloat16" and not bf16_cpu_flags():
        pytest.skip("this CPU has no bf16 instructions, and emulates them slowly")
    command = ("--model", minilm, "--pooler", "avg", "--compute-dtype", dtype, "--device", "cpu", "--json")
    found = json.loads(evaluate(*command).stdout)
    assert {task: score["spearman"] for task, score in found["tasks"].items()} == pytest.approx(
        PUBLISHED, abs=tolerance
    )
    assert found["avg_sts"] == pytest.approx(PUBLISHED_AVERAGE, abs=tolerance)
