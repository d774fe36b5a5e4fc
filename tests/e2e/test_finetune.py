"""`distilcse finetune` as a user types it: tables in, a student out, and what it refuses."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from tests.tiny import WORDS

pytestmark = pytest.mark.e2e
Command = Callable[..., CompletedProcess[str]]

SMALL = ("--batch-size", 8, "--epochs", 1, "--eval-every", 0, "--device", "cpu", "--compute-dtype", "float32")


@pytest.fixture
def triplets(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    rows = ["negative\tanchor\tpositive"]
    for number in range(60):
        topic, other = generator.choice(WORDS, size=2, replace=False)
        rows.append(f"{other} sleeps {number}\t{number} the {topic} runs\t{topic} {number}")
    path = tmp_path / "triplets.tsv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def without_data() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "DISTILCSE_DATA"}


def test_triples_make_a_student_that_loads_anywhere(
    distilcse: Command,
    tmp_path: Path,
    home: Path,  # noqa: ARG001
    tiny: Callable[..., Path],
    triplets: Path,
) -> None:
    done = distilcse(
        "finetune", "--student", tiny("bert"), "--pooler", "avg", "--triplets", triplets, "--out", "student", *SMALL,
        "--json", env=without_data(),
    )  # fmt: skip
    result = json.loads(done.stdout)
    # a twentieth of 60 is held out; the other 57 make seven batches of 8 and one of one
    assert (result["num_triples"], result["num_steps"], result["kept_step"]) == (57, 8, 8)
    assert result["dev_set"] == "held-out triples"
    assert f"{result['held_out_accuracy']:.2f}" in (tmp_path / "student" / "README.md").read_text()
    assert "60 triples of 180 distinct sentences" in done.stderr

    from sentence_transformers import SentenceTransformer

    embeddings = SentenceTransformer(str(tmp_path / "student"), device="cpu").encode(["the cat sleeps"])
    distilcse(
        "encode", "--model", "student", "--out", "rows.npy", "--compute-dtype", "float32", input="the cat sleeps\n"
    )
    np.testing.assert_allclose(np.load(tmp_path / "rows.npy"), embeddings, atol=1e-5)

    again = distilcse("finetune", "--student", tiny("bert"), "--triplets", triplets, "--out", "student", code=3)
    assert again.stderr.endswith("(choose another --out, or --overwrite)\n")


def test_two_processes_kept_near_a_teacher_end_with_the_student_of_one(
    distilcse: Command,
    home: Path,  # noqa: ARG001
    tiny: Callable[..., Path],
    triplets: Path,
    tmp_path: Path,
) -> None:
    shared = (
        "finetune", "--student", tiny("bert"), "--pooler", "avg", "--triplets", triplets,
        "--columns", "anchor,positive", "--teacher", tiny("bert", width=24, seed=1), "--teacher-pooler", "avg",
        "--keep-teacher", 0.5, *SMALL, "--json",
    )  # fmt: skip
    one = json.loads(distilcse(*shared, "--out", "one", env=without_data()).stdout)
    two = json.loads(distilcse(*shared, "--out", "two", "--batch-size", 4, "--nproc", 2, env=without_data()).stdout)
    assert two["final_loss"] == pytest.approx(one["final_loss"], rel=1e-4)
    assert two["num_steps"] == one["num_steps"]
    settings = json.loads((tmp_path / "two" / "distilcse.json").read_text())
    assert settings["runtime"]["num_processes"] == 2
    assert settings["triplets"]["have_hard_negatives"] is False


def test_the_papers_preset_and_the_authors_names(
    distilcse: Command,
    home: Path,  # noqa: ARG001
    tiny: Callable[..., Path],
    triplets: Path,
    tmp_path: Path,
) -> None:
    done = distilcse(
        "finetune", "--start_model", tiny("bert"), "--data_path", triplets, "--save_path", "student",
        "--preset", "paper", "--pooler_type", "cls_before_pooler", "--temp", 15, "--batch_size=8", "--max-steps", 2,
        env=without_data(),
    )  # fmt: skip
    shown = {tuple(cell.strip() for cell in row.split("|")[1:4]) for row in done.stderr.splitlines() if row[:1] == "|"}
    assert {("epochs", "5", "preset"), ("lr", "5e-05", "preset"), ("dropout", "True", "preset")} <= shown
    assert {("logit-scale", "15.0", "as typed"), ("batch-size", "8", "as typed")} <= shown
    settings = json.loads((tmp_path / "student" / "distilcse.json").read_text())["settings"]
    assert (settings["logit_scale"], settings["num_held_out"], settings["mask_same_text"]) == (15.0, 0, False)
    assert "no development scores" in done.stderr


USAGE_ERRORS = {
    "no triplets": (["--student", "s", "--out", "o"], "run: distilcse download nli"),
    "weight without teacher": (["--keep-teacher", "0.5"], "--teacher and --keep-teacher go together"),
    "teacher without weight": (["--teacher", "t"], "--teacher and --keep-teacher go together"),
    "negative weight": (["--teacher", "t", "--keep-teacher", "-1"], "--keep-teacher is -1.0, but must be at least 0.0"),
    "one column": (["--columns", "anchor"], "--columns is 'anchor', but must be two or more different names"),
    "columns without header": (["--columns", "a,b", "--no-header"], "--columns needs the header"),
    "unknown preset": (["--preset", "mine"], "--preset is 'mine', but must be paper"),
    "no scale": (["--logit-scale", "0"], "--logit-scale is 0.0, but must be a positive number"),
    "no tokens": (["--micro-batch-tokens", "0"], "--micro-batch-tokens is 0, but must be at least 1"),
    "no process": (["--nproc", "0"], "--nproc is 0, but must be at least 1"),
}


@pytest.mark.parametrize("case", USAGE_ERRORS)
@pytest.mark.usefixtures("home")
def test_a_usage_error_is_one_line(distilcse: Command, case: str) -> None:
    arguments, message = USAGE_ERRORS[case]
    required = [] if case == "no triplets" else ["--student", "s", "--triplets", "t.csv", "--out", "o"]
    done = distilcse("finetune", *required, *arguments, code=2)
    assert message in done.stderr
    assert (done.stderr.count("\n"), done.stdout) == (1, "")


def test_a_bad_row_is_named_before_any_model_is_loaded(distilcse: Command, tmp_path: Path, home: Path) -> None:  # noqa: ARG001
    (tmp_path / "triplets.csv").write_text("a cat,a dog,a man\na cat,a dog\n", encoding="utf-8")
    done = distilcse("finetune", "--student", "nobody/knows", "--triplets", "triplets.csv", "--out", "o", code=3)
    assert "triplets.csv, line 2 has 2 columns, but the first row 3" in done.stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.real_model
@pytest.mark.slow
def test_a_real_model_gains_on_real_triples(
    distilcse: Command,
    tmp_path: Path,
    home: Path,  # noqa: ARG001
    data_dir: Path,
    minilm: Path,
) -> None:
    lines = (data_dir / "nli" / "nli_triplets.csv").read_text(encoding="utf-8").splitlines()[:481]
    (tmp_path / "triplets.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = distilcse(
        "finetune", "--student", minilm, "--triplets", "triplets.csv", "--out", "student", "--batch-size", 64,
        "--epochs", 1, "--json", env=os.environ | {"DISTILCSE_DATA": str(data_dir)},
    )  # fmt: skip
    result = json.loads(done.stdout)
    assert (result["dev_set"], result["num_triples"]) == ("STS-B dev", 456)
    assert result["dev_score"] > result["start_score"] > 86
