"""What a run writes down, warns of, and stops at; which student it keeps."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from distilcse_cli.errors import UsageError
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.training import loop
from distilcse_cli.training.dev import Selection
from distilcse_cli.training.metrics import JsonLines, effective_rank, spread
from distilcse_cli.training.steps import NonFiniteLoss
from tests.training.conftest import Job


def test_spread_is_zero_when_all_is_the_same_and_one_around_a_circle() -> None:
    angles = np.linspace(0, 2 * math.pi, 8, endpoint=False)
    assert spread(np.ones((8, 3))) == pytest.approx(0.0)
    assert spread(3 * np.stack([np.cos(angles), np.sin(angles)], axis=1)) == pytest.approx(1.0)


def test_effective_rank_counts_directions() -> None:
    # four unit vectors along +x, -x, +y, -y: two equal eigenvalues; without the y pair, one
    cross = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
    assert effective_rank(cross) == pytest.approx(2.0)
    assert effective_rank(cross[:2]) == pytest.approx(1.0)
    assert effective_rank(np.ones((4, 3))) == 1.0


def test_selection_keeps_the_best_and_ends_when_patience_is_over() -> None:
    selection = Selection()
    taken = [selection.take(step, score, 20) for step, score in ((10, 50.0), (20, 60.0), (30, 60.0))]
    assert taken == [True, True, False]
    assert not selection.ended  # 10 steps without a better one
    selection.take(40, 59.0, 20)
    assert selection.ended
    assert (selection.best_step, selection.best_score) == (20, 60.0)


def test_json_lines_forget_what_came_behind_a_checkpoint(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "lines.jsonl")
    lines.write({"step": 1})
    size = lines.sync()
    lines.write({"step": 2})
    lines.close()
    JsonLines(tmp_path / "lines.jsonl", size).write({"step": 9})
    assert (tmp_path / "lines.jsonl").read_text() == '{"step": 1}\n{"step": 9}\n'


def test_each_evaluation_is_written_down_and_the_best_student_kept(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    report = job.run()
    records = [json.loads(line) for line in (job.out / "metrics.jsonl").read_text().splitlines()]
    evaluations = [record for record in records if record["kind"] == "evaluation"]
    assert [record["step"] for record in evaluations] == [5, 10, 15, 20]
    assert evaluations[0].keys() >= {"dev_score", "teacher_cosine", "spread", "effective_rank", "scale", "grad_norm"}
    best = max(evaluations, key=lambda record: record["dev_score"])
    assert (report.kept_step, report.dev_score) == (best["step"], best["dev_score"])
    assert job.out.with_name("student.last").exists() == (best["step"] != 20)
    assert (job.out / "curves.png").read_bytes().startswith(b"\x89PNG")
    speeds = [json.loads(line) for line in (job.out / "speed.jsonl").read_text().splitlines()]
    assert all(line["tokens_per_second"] > line["sentences_per_second"] > 0 for line in speeds)
    assert "effective rank" in capsys.readouterr().err


def test_the_student_of_the_best_step_is_the_one_saved(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([30.0, 70.0, 50.0, 40.0])
    monkeypatch.setattr(
        "distilcse_cli.training.dev.HeldOutDev.evaluate",
        lambda *_: (next(scores), np.eye(4, 16, dtype=np.float32)),
    )
    report = job.run()
    assert (report.kept_step, report.dev_score) == (10, 70.0)
    monkeypatch.undo()
    ten = job.to(job.out.with_name("ten"), dropout=True)
    # the schedule goes on for 20 steps, so ten steps of it are had by patience
    monkeypatch.delenv("DISTILCSE_DATA", raising=False)
    monkeypatch.setenv("DISTILCSE_HOME", str(job.corpus.with_name("home")))
    scores = iter([70.0, 1.0])
    monkeypatch.setattr(
        "distilcse_cli.training.dev.HeldOutDev.evaluate",
        lambda *_: (next(scores), np.eye(4, 16, dtype=np.float32)),
    )
    ten.to(ten.out, patience=0.2).run()
    last = load_encoder(str(ten.out.with_name("ten.last")))
    assert load_encoder(str(job.out)).fingerprint == last.fingerprint


def test_collapse_is_named(job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(
        "distilcse_cli.training.dev.HeldOutDev.evaluate", lambda *_: (0.0, np.ones((4, 16), dtype=np.float32))
    )
    job.run()
    assert capsys.readouterr().err.count("collapse: spread 0.000, effective rank 1.0") == 1


def test_a_runaway_scale_is_named(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    job.to(job.out, logit_scale=100.0).run()
    assert capsys.readouterr().err.count("runaway scale: 100 is at its limit") == 1


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_student_before(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    over_ranks = loop._over_ranks

    def break_step_4(state, sums, *others):  # type: ignore[no-untyped-def]
        return over_ranks(state, sums * torch.nan if state.step == 3 else sums, *others)

    monkeypatch.setattr(loop, "_over_ranks", break_step_4)
    with pytest.raises(NonFiniteLoss, match="step 4: the loss is nan"):
        job.run()
    assert not job.out.exists()
    load_encoder(str(job.out.with_name("student.last-good")))


def test_tensorboard_that_is_missing_is_a_usage_error(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match="--tensorboard needs a package") as refused:
        job.to(job.out, tensorboard=True).run()
    assert "pip install tensorboard" in str(refused.value.hint)


def test_a_kept_projection_puts_the_student_into_its_teachers_space(job: Job) -> None:
    job.to(job.out, space="teacher").run()
    assert load_encoder(str(job.out)).embedding_dim == 24


def test_a_live_teacher_with_dropout_trains(job: Job) -> None:
    report = job.to(job.out, teacher_dropout=True, max_steps=3).run()
    assert report.num_steps == 3
    assert math.isfinite(report.final_loss)
