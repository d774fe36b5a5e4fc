"""Whole runs of stage 2: what they leave, how they are selected, interrupted, resumed and shared out."""

import json
import os
import signal
import tomllib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from distilcse_cli.config import TripletSettings
from distilcse_cli.errors import DataError, UsageError
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.runtime import Runtime
from distilcse_cli.teacher import extract as teacher_extract
from distilcse_cli.teacher import partial as partial_store
from distilcse_cli.training import teacher_rows
from distilcse_cli.training.dev import accuracy, hold_out
from distilcse_cli.training.metrics import read_json_lines
from distilcse_cli.training.report import FinetuneReport
from distilcse_cli.training.run_folder import RunFolder
from distilcse_cli.training.settings import FinetuneSettings
from distilcse_cli.training.steps import Interrupted, NonFiniteLoss
from distilcse_cli.training.triples import FinetuneSources, Triples, run
from tests.tiny import WORDS
from tests.training.processes import FileEvents, run_all, start, start_group

FP32 = Runtime(device="cpu", dtype="float32", reason="test")


@dataclass(frozen=True)
class Job:
    """Arguments of `run`, so that another process can run them."""

    student: Path
    triplets: Path
    out: Path
    settings: FinetuneSettings
    teacher: Path | None = None

    def run(self, **options: Any) -> Any:
        sources = FinetuneSources(
            student=ModelRef(ref=str(self.student), pooler="avg"),
            triplets=(str(self.triplets),),
            teacher=None if self.teacher is None else ModelRef(ref=str(self.teacher), pooler="avg"),
        )
        return run(
            sources,
            self.out,
            self.settings,
            triplet_settings=TripletSettings(),
            device="cpu",
            compute_dtype="float32",
            **options,
        )

    def to(self, out: Path, **changes: Any) -> "Job":
        """The same job with another folder and other settings."""
        return replace(self, out=out, settings=replace(self.settings, **changes))


def write_triplets(path: Path, num_triples: int) -> None:
    generator = np.random.default_rng(0)
    lines = ["sent0,sent1,hard_neg"]
    for number in range(num_triples):
        topic, other = generator.choice(WORDS, size=2, replace=False)
        lines.append(f"{number} the {topic} runs,{topic} {number},{other} sleeps {number}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def job(tiny: Any, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Twenty steps of eight triples, dropout on, kept near a wider teacher, in a data home of its own."""
    monkeypatch.delenv("DISTILCSE_DATA", raising=False)
    assert not home.exists()
    write_triplets(tmp_path / "triplets.csv", 88)
    settings = FinetuneSettings(
        epochs=2,
        batch_size=8,
        lr=1e-3,
        keep_teacher=0.5,
        dropout=True,
        micro_batch_tokens=90,
        eval_every=5,
        save_every=3,
        max_steps=20,
    )
    teacher = tiny("bert", width=24, num_layers=2, seed=1)
    student = tiny("bert", width=16, num_layers=2, seed=2, dropout=0.1)
    return Job(student, tmp_path / "triplets.csv", tmp_path / "student", settings, teacher)


def _run_without_cleaning(job: Job, kill_at: int | None = None, **options: Any) -> None:
    RunFolder.remove_work = lambda _: None  # type: ignore[method-assign]  # leaves the last checkpoint to compare
    if kill_at and os.environ.get("RANK", "0") == "0":
        FileEvents(kill_at)
    job.run(**options)


def _run_rank(job: Job, kill_at: int | None, options: dict[str, Any]) -> None:
    _run_without_cleaning(job, kill_at, **options)


def _everything(out: Path) -> dict[str, bytes]:
    """The bytes of all that a run leaves and that the clock has no part in."""
    checkpoint = sorted((out.with_name(out.name + ".run") / "checkpoints").glob("step-*"))[-1]
    files = [out / "model.safetensors", out / "metrics.jsonl", *checkpoint.glob("*.safetensors")]
    return {path.name: path.read_bytes() for path in files}


def test_a_run_leaves_a_whole_student_and_says_what_it_is_worth(job: Job) -> None:
    report = job.run()
    assert (report.num_triples, report.num_steps, report.dev_set) == (84, 20, "held-out triples")
    assert report.start_score is not None
    assert report.dev_score == report.held_out_accuracy
    assert report.agreement is not None

    facts = json.loads((job.out / "distilcse.json").read_text())
    assert (facts["stage"], facts["triplets"]["num_triples"], facts["settings"]["lr"]) == ("finetune", 88, 1e-3)
    assert type(report).from_dict(facts["result"]) == report
    repeats = tomllib.loads((job.out / "distilcse.toml").read_text(encoding="utf-8"))
    assert (repeats["triplets"], repeats["teacher"]) == ([str(job.triplets)], str(job.teacher))
    assert (repeats["student"], repeats["out"], repeats["keep_teacher"]) == (str(job.student), str(job.out), 0.5)
    card = (job.out / "README.md").read_text()
    assert "| triples | 84 |" in card
    assert f"(before: {report.start_score:.2f})" in card
    assert (job.out / "curves.png").stat().st_size > 0
    kinds = [record["kind"] for record in read_json_lines(job.out / "metrics.jsonl")]
    # a line a step, and one after steps 5, 10, 15 and 20
    assert (kinds.count("step"), kinds.count("evaluation")) == (20, 4)

    # the projection to the wider teacher is gone, and what is saved is the very student that was scored
    student = load_encoder(str(job.out))
    assert (student.embedding_dim, student.pooling) == (16, "avg")
    lines = job.triplets.read_text().splitlines()[1:]
    held_out = ",".join(lines[number] for number in hold_out(88, job.settings)[1]).split(",")
    embeddings = Embedder(student, FP32).sentences(held_out)
    assert 100 * accuracy(embeddings, np.arange(12).reshape(4, 3)) == report.held_out_accuracy


def test_a_student_of_stage_1_is_not_taken_for_a_finished_one(job: Job) -> None:
    job.out.mkdir()
    (job.out / "distilcse.json").write_text('{"stage": "distill", "settings": {"lr": 1.0}}')
    with pytest.raises(UsageError, match=r"other settings: stage was 'distill', is 'finetune'$"):
        job.run(resume=True)


def test_accuracy_by_hand() -> None:
    embeddings = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [1.0, 0.1]])
    # anchor 0 to its positive 2: cosine 0.6; to 1: 0; to the negative 1: 0 -> right
    # anchor 3 to its positive 1: about 0.1; to 2: about 0.68 -> wrong
    assert accuracy(embeddings, np.array([[0, 2, 1], [3, 1, 1]])) == 0.5
    # with 2 as a copy of its own positive, and 0 as its anchor's, nothing is left to beat it
    assert accuracy(embeddings, np.array([[0, 2], [0, 2]])) == 1.0


def test_without_a_teacher_and_without_held_out_triples_the_last_student_is_kept(job: Job) -> None:
    plain = replace(job.to(job.out, keep_teacher=0.0, num_held_out=0, dropout=False), teacher=None)
    report = plain.run()
    assert (report.dev_set, report.dev_score, report.held_out_accuracy, report.agreement) == (None,) * 4
    assert (report.num_triples, report.kept_step) == (88, 20)
    steps = read_json_lines(job.out / "metrics.jsonl")
    assert all("teacher_cosine" not in step and -1 <= step["positive_cosine"] <= 1 for step in steps)


def test_a_score_below_the_one_at_the_start_is_a_setback(tmp_path: Path) -> None:
    numbers = {"num_triples": 9, "num_steps": 9, "seconds": 1.0, "final_loss": 1.0, "logit_scale": 20.0, "kept_step": 9}
    report = FinetuneReport(
        folder=tmp_path,
        **numbers,  # type: ignore[arg-type]
        dev_set="STS-B dev",
        dev_score=80.0,
        start_score=81.5,
        held_out_accuracy=None,
        agreement=None,
    )
    assert report.setback == "fine-tuning has made the student worse: STS-B dev 81.50 before, 80.00 now"
    assert replace(report, dev_score=82.0).setback is None
    assert replace(report, dev_score=None, start_score=None).setback is None


def test_killed_twice_and_resumed_it_ends_bit_for_bit_the_same(job: Job, tmp_path: Path) -> None:
    whole, broken = job.to(tmp_path / "whole"), job.to(tmp_path / "broken")
    assert run_all([start(_run_without_cleaning, whole)]) == [0]
    for kill_at in (60, 110):
        assert run_all([start(_run_resuming, broken, kill_at)]) == [-signal.SIGKILL]
    assert run_all([start(_run_resuming, broken, None)]) == [0]
    assert _everything(broken.out) == _everything(whole.out)


def _run_resuming(job: Job, kill_at: int | None) -> None:
    _run_without_cleaning(job, kill_at, resume=True)


def test_two_processes_killed_and_resumed_end_bit_for_bit_the_same(job: Job, tmp_path: Path) -> None:
    whole, broken = job.to(tmp_path / "whole", batch_size=4), job.to(tmp_path / "broken", batch_size=4)
    assert run_all(start_group(2, _run_rank, whole, None, {})) == [0, 0]
    assert -signal.SIGKILL in run_all(start_group(2, _run_rank, broken, 110, {}))
    assert run_all(start_group(2, _run_rank, broken, None, {"resume": True})) == [0, 0]
    assert _everything(broken.out) == _everything(whole.out)


def test_two_processes_share_the_teachers_work_and_make_the_store_of_one(job: Job, tmp_path: Path) -> None:
    stores = []
    for size in (1, 2):
        home = tmp_path / f"home-{size}"
        short = job.to(tmp_path / f"out-{size}", max_steps=1, batch_size=8 // size)
        assert run_all(start_group(size, _run_noting_rows, short, home)) == [0] * size
        stores += home.glob("embeddings/*/embeddings.npy")
    assert stores[0].read_bytes() == stores[1].read_bytes()
    # 264 distinct sentences in windows of 64: three rounds of two windows, the last one being of one
    assert [(tmp_path / "home-2" / f"rows-{rank}").read_text() for rank in (0, 1)] == ["136", "128"]


def _run_noting_rows(job: Job, home: Path) -> None:
    os.environ["DISTILCSE_HOME"] = str(home)
    write = partial_store.write
    num_rows = [0]

    def note(file: Any, position: int, rows: Any) -> None:
        num_rows[0] += len(rows) if isinstance(rows, np.ndarray) else 0
        write(file, position, rows)

    partial_store.write = note
    teacher_rows.extract = partial(teacher_extract.extract, window_rows=64)  # type: ignore[assignment]
    job.run()
    (home / f"rows-{os.environ['RANK']}").write_text(str(num_rows[0]))


def test_interrupted_it_saves_after_the_step_and_resumes(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = job.to(tmp_path / "whole")
    whole.run()
    take_step, steps = Triples.backward, []

    def press_ctrl_c(*arguments: Any) -> torch.Tensor:
        steps.append(1)
        if len(steps) == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return take_step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Triples, "backward", press_ctrl_c)
        with pytest.raises(Interrupted, match="after step 7 of 20") as stopped:
            job.run()
    assert stopped.value.exit_code == 130

    with pytest.raises(DataError, match="interrupted at step 7"):
        job.run()
    with pytest.raises(UsageError, match=r"keep_teacher was 0\.5, is 0\.25"):
        job.to(job.out, keep_teacher=0.25).run(resume=True)
    job.run(resume=True)
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (job.out / name).read_bytes() == (whole.out / name).read_bytes()
    assert not job.out.with_name("student.run").exists()


def test_a_run_whose_loss_is_lost_keeps_its_last_good_student(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    take_step, steps = Triples.backward, []

    def overflow(*arguments: Any) -> torch.Tensor:
        steps.append(1)
        return take_step(*arguments) + (torch.inf if len(steps) == 4 else 0.0)

    monkeypatch.setattr(Triples, "backward", overflow)
    with pytest.raises(NonFiniteLoss, match=r"step 4: the loss is inf.*student\.last-good"):
        job.run()
    weights = load_file(job.out.with_name("student.last-good") / "model.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
