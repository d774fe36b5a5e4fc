"""A static model is trained and interrupted like any other student."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from distilcse_cli.training.distill import Distillation
from distilcse_cli.training.steps import Interrupted
from tests.training.conftest import Job


@pytest.fixture
def static_job(job: Job) -> Job:
    """The job with a student of its teacher that has no layers."""
    return replace(job.to(job.out, layers=0, lr=1e-2, dropout=False), student=job.teacher)


def test_a_static_student_learns_and_stays_static(static_job: Job, tmp_path: Path) -> None:
    one = static_job.to(tmp_path / "one", loss="mse", max_steps=1).run()
    all_steps = static_job.to(static_job.out, loss="mse").run()
    assert all_steps.final_loss < one.final_loss
    student = SentenceTransformer(str(static_job.out), device="cpu")
    assert type(student[0]).__name__ == "StaticEmbedding"
    assert set(load_file(static_job.out / "model.safetensors")) == {"embedding.weight"}
    assert all_steps.kept_layers == []
    assert f"| layers kept | none of {static_job.student} |" in (static_job.out / "README.md").read_text(
        encoding="utf-8"
    )


def test_a_static_student_is_a_student_again(static_job: Job) -> None:
    first = static_job.to(static_job.out, loss="mse", max_steps=1).run()
    again = replace(static_job, student=static_job.out, out=static_job.out.with_name("again"))
    assert again.to(again.out, loss="mse", layers=None).run().num_steps == 20
    assert first.num_steps == 1


def test_an_interrupted_static_student_continues_to_the_same_weights(static_job: Job, tmp_path: Path) -> None:
    static_job.to(tmp_path / "whole").run()
    stopped = static_job
    with pytest.MonkeyPatch.context() as patch:
        take_step, seen = Distillation.backward, []

        def stop(*arguments: Any) -> torch.Tensor:
            seen.append(1)
            if len(seen) == 7:
                os.kill(os.getpid(), signal.SIGTERM)
            return take_step(*arguments)

        patch.setattr(Distillation, "backward", stop)
        with pytest.raises(Interrupted):
            stopped.run()
    stopped.run(resume=True)
    torch.testing.assert_close(
        load_file(stopped.out / "model.safetensors"),
        load_file(tmp_path / "whole" / "model.safetensors"),
        rtol=0,
        atol=0,
    )
