"""What a run does once: load its models, plan its steps, warn."""

from pathlib import Path
from typing import Any

import pytest

from distilcse_cli.models import encoder
from distilcse_cli.training import steps
from tests.training.conftest import Job
from tests.training.processes import run_all, start_group


def _count_loads(patch: pytest.MonkeyPatch) -> list[str]:
    loaded: list[str] = []
    load = encoder.load_encoder

    def counting(ref: str, **options: Any) -> Any:
        loaded.append(ref)
        return load(ref, **options)

    patch.setattr(encoder, "load_encoder", counting)
    return loaded


def test_student_and_teacher_are_loaded_once_and_the_steps_planned_once(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[int] = []
    make = steps.epoch_batches

    def noting(*arguments: Any, epoch: int, **options: Any) -> Any:
        planned.append(epoch)
        return make(*arguments, epoch=epoch, **options)

    monkeypatch.setattr(steps, "epoch_batches", noting)
    loaded = _count_loads(monkeypatch)
    job.run()
    assert loaded == [str(job.student), str(job.teacher)]
    assert planned == [0, 1]


def test_a_teacher_with_dropout_is_loaded_once_too(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = _count_loads(monkeypatch)
    job.to(job.out, teacher_dropout=True, max_steps=1).run()
    assert loaded == [str(job.student), str(job.teacher)]


def _note_loads(job: Job, notes: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        loaded = _count_loads(patch)
        job.run()
    notes.with_suffix(f".{len(loaded)}").touch()


def test_each_of_two_processes_loads_a_model_once(job: Job, tmp_path: Path) -> None:
    short = job.to(tmp_path / "out", batch_size=4, max_steps=1)
    assert run_all(start_group(2, _note_loads, short, tmp_path / "loads")) == [0, 0]
    # student and teacher on both: the second process extracts its share of the rows
    assert [path.name for path in tmp_path.glob("loads.*")] == ["loads.2"]
