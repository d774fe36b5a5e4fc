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

from distilcse_cli.models.folder import save_student
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.training.distill import Distillation
from distilcse_cli.training.steps import Interrupted
from tests.training.conftest import Job


@pytest.fixture
def static_job(job: Job, tmp_path: Path) -> Job:
    """The job with a static student of its student."""
    encoder = ModelRef(ref=str(job.student), pooler="avg", keep_layers=()).load()
    save_student(encoder, tmp_path / "static", card="", settings={})
    return replace(job, student=tmp_path / "static")


def test_a_static_student_learns_and_stays_static(static_job: Job, tmp_path: Path) -> None:
    one = static_job.to(tmp_path / "one", loss="mse", lr=1e-2, max_steps=1, dropout=False).run()
    all_steps = static_job.to(static_job.out, loss="mse", lr=1e-2, dropout=False).run()
    assert all_steps.final_loss < one.final_loss
    student = SentenceTransformer(str(static_job.out), device="cpu")
    assert type(student[0]).__name__ == "StaticEmbedding"
    assert set(load_file(static_job.out / "model.safetensors")) == {"embedding.weight"}


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
