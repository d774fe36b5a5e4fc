"""A small job of stage 1 that runs in a second, for tests of whole runs."""

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distilcse_cli.config import CorpusSettings
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.training.distillation import Distillation
from distilcse_cli.training.settings import DistillSettings
from distilcse_cli.training.steps import Interrupted
from tests.tiny import WORDS


@dataclass(frozen=True)
class Job:
    """Arguments of `distill.run`, so that another process can run them."""

    teacher: Path
    student: Path
    corpus: Path
    out: Path
    settings: DistillSettings

    def run(self, *, keep_layers: tuple[int, ...] | None = None, **options: Any) -> Any:
        from distilcse_cli.training.distill import DistillSources, run

        sources = DistillSources(
            teacher=ModelRef(ref=str(self.teacher), pooler="avg"),
            student=ModelRef(ref=str(self.student), pooler="avg", keep_layers=keep_layers),
            corpus=(str(self.corpus),),
        )
        return run(
            sources,
            self.out,
            self.settings,
            corpus_settings=CorpusSettings(),
            device="cpu",
            compute_dtype="float32",
            **options,
        )

    def command(self) -> list[str]:
        """The command line of the same job, as far as tests change it."""
        settings = self.settings
        options = {
            "teacher": self.teacher,
            "student": self.student,
            "corpus": self.corpus,
            "out": self.out,
            "batch-size": settings.batch_size,
            "bank-size": settings.bank_size,
            "held-out": settings.num_held_out,
            "epochs": settings.epochs,
            "max-steps": settings.max_steps,
            "eval-every": settings.eval_every,
            "save-every": settings.save_every,
            "pooler": "avg",
            "teacher-pooler": "avg",
            "device": "cpu",
            "compute-dtype": "float32",
        }
        arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        return ["distill", *arguments, "--dropout" if settings.dropout else "--no-dropout"]

    def to(self, out: Path, **changes: Any) -> "Job":
        """The same job with another folder and other settings."""
        return replace(self, out=out, settings=replace(self.settings, **changes))


def write_corpus(path: Path, num_sentences: int) -> None:
    generator = np.random.default_rng(0)
    sentences = (" ".join(generator.choice(WORDS, size=generator.integers(3, 14))) for _ in range(num_sentences))
    path.write_text("".join(f"{number} {sentence}\n" for number, sentence in enumerate(sentences)), encoding="utf-8")


@pytest.fixture
def job(tiny: Any, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Twenty steps of eight sentences, dropout on, in a data home of its own."""
    monkeypatch.delenv("DISTILCSE_DATA", raising=False)
    assert not home.exists()
    write_corpus(tmp_path / "corpus.txt", 88)
    settings = DistillSettings(
        epochs=2, batch_size=8, bank_size=50, num_held_out=4, dropout=True, eval_every=5, save_every=3, max_steps=20
    )
    teacher = tiny("bert", width=24, num_layers=2, seed=1)
    student = tiny("bert", width=16, num_layers=2, seed=2, dropout=0.1)
    return Job(teacher, student, tmp_path / "corpus.txt", tmp_path / "student", settings)


@pytest.fixture
def interrupted(job: Job, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job that was stopped after its first step."""
    with monkeypatch.context() as patch:
        take_step = Distillation.backward

        def stop(*arguments: Any) -> torch.Tensor:
            os.kill(os.getpid(), signal.SIGTERM)
            return take_step(*arguments)

        patch.setattr(Distillation, "backward", stop)
        with pytest.raises(Interrupted) as stopped:
            job.run()
    assert stopped.value.exit_code == 143
    return job
