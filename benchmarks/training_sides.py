"""This project's loops and the published one, as sides of a comparison: slices of training on stored rows."""

from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.published import PublishedLoop
from benchmarks.steps import StepClock
from distilcse_cli.data.tokens import open_tokens
from distilcse_cli.models.encoder import SentenceEncoder, load_encoder
from distilcse_cli.runtime import Runtime, choose_runtime
from distilcse_cli.training.bank import MemoryBank
from distilcse_cli.training.distill import Distillation
from distilcse_cli.training.loop import train
from distilcse_cli.training.model import Scale, StudentModel
from distilcse_cli.training.settings import DistillSettings, FinetuneSettings
from distilcse_cli.training.state import TrainState
from distilcse_cli.training.teacher_rows import StoredTeacher
from distilcse_cli.training.triples import Triples


def _student(folder: str, runtime: Runtime) -> SentenceEncoder:
    """The student as `training.run` sets it up for training on this runtime."""
    encoder = load_encoder(folder)
    if runtime.device == "cpu" and runtime.dtype == "bfloat16":
        encoder.set_attention("eager")
    return encoder


def _fill(bank: MemoryBank, rows: np.ndarray) -> None:
    """Push rows until there is no room, as after the first steps of a run."""
    numbers = np.arange(bank.size) % len(rows)
    for part in np.array_split(numbers, max(1, bank.size // 4096)):
        new = functional.normalize(torch.from_numpy(rows[part].astype(np.float32)), dim=1)
        bank.push(new, np.full(len(part), -1))  # of no text in the corpus, as in a first epoch


class OursDistill:
    """The loop with stage 1's objective at its defaults, on memory-mapped tokens and stored teacher rows.

    Args:
        student: folder.
        tokens: folder of the corpus's tokens.
        rows: `.npy` file of the teacher's rows.
        batch_size, bank_size, num_warmup, num_steps: of a slice.
    """

    counts = "num_sentences"
    """Field of a step's record that is counted."""

    def __init__(
        self, *, student: str, tokens: str, rows: str, batch_size: int, bank_size: int, num_warmup: int, num_steps: int
    ) -> None:
        self.runtime = choose_runtime()
        self.settings = DistillSettings(
            batch_size=batch_size, bank_size=bank_size, max_steps=num_warmup + num_steps, epochs=1000
        )
        self.tokens = open_tokens(Path(tokens))
        self.rows = np.load(rows, mmap_mode="r", allow_pickle=False)
        self.student, self.num_warmup = student, num_warmup
        self.seeds = count(self.settings.seed)
        self.facts = {"dtype": str(self.runtime), "threads": torch.get_num_threads(), "num_rows": len(self.tokens)}

    def run(self) -> dict[str, Any]:
        """Train a slice on other batches than the last one."""
        settings = replace(self.settings, seed=next(self.seeds))
        objective = Distillation(
            settings=settings,
            runtime=self.runtime,
            student=_student(self.student, self.runtime),
            tokens=self.tokens,
            rows=np.arange(len(self.tokens)),
            teacher=StoredTeacher(self.rows, self.runtime),
        )
        clock = StepClock(self.num_warmup)
        bank = objective.new_bank()
        assert bank is not None
        _fill(bank, self.rows)
        train(
            objective,
            TrainState(objective.new_model(), bank),
            lambda step: clock.tick(getattr(step, self.counts)),
        )
        return clock.figures() | {"bank_rows": len(bank)}


class PublishedDistill:
    """The published loop, without its tokenizing, on the same corpus and a full bank.

    Args:
        teacher: folder.
        others: as for `OursDistill`; teacher and student share a tokenizer.
    """

    def __init__(
        self,
        *,
        teacher: str,
        student: str,
        tokens: str,
        rows: str,
        batch_size: int,
        bank_size: int,
        num_warmup: int,
        num_steps: int,
    ) -> None:
        settings = DistillSettings()
        embeddings = np.load(rows, mmap_mode="r", allow_pickle=False)
        numbers = np.arange(bank_size) % len(embeddings)
        bank = functional.normalize(torch.from_numpy(embeddings[numbers].astype(np.float32)), dim=1)
        encoder = load_encoder(student)
        self.loop = PublishedLoop(
            load_encoder(teacher),
            StudentModel(encoder, Scale(settings.logit_scale, settings.max_logit_scale), embeddings.shape[1]),
            bank=bank,
            bank_size=bank_size,
        )
        self.tokens, self.pad_id, self.width = open_tokens(Path(tokens)), encoder.pad_id, settings.max_length
        self.batch_size, self.num_warmup, self.num_steps = batch_size, num_warmup, num_steps
        self.generator = np.random.default_rng(0)
        self.facts = {"threads": torch.get_num_threads()}

    def run(self) -> dict[str, Any]:
        """Train a slice on other batches than the last one."""
        clock = StepClock(self.num_warmup)
        for _ in range(self.num_warmup + self.num_steps):
            rows = self.generator.choice(len(self.tokens), self.batch_size, replace=False)
            batch = self.tokens.pad(rows, self.pad_id, self.width)
            self.loop.step(batch, batch, lr=1e-4)
            clock.tick(len(rows))
        return clock.figures()


class OursFinetune:
    """`training.loop.train` with the objective of stage 2 at its defaults.

    Args:
        student: folder.
        tokens: folder of the sentences' tokens.
        triples: `.npy` file of (N, 3) numbers of sentences.
        batch_size, num_warmup, num_steps: of a slice.
    """

    def __init__(
        self, *, student: str, tokens: str, triples: str, batch_size: int, num_warmup: int, num_steps: int
    ) -> None:
        self.runtime = choose_runtime()
        self.settings = FinetuneSettings(batch_size=batch_size, max_steps=num_warmup + num_steps, epochs=1000)
        self.tokens, self.triples = open_tokens(Path(tokens)), np.load(triples, allow_pickle=False)
        self.student, self.num_warmup = student, num_warmup
        self.seeds = count(self.settings.seed)
        self.facts = {"dtype": str(self.runtime), "threads": torch.get_num_threads(), "num_triples": len(self.triples)}

    def run(self) -> dict[str, Any]:
        """Train a slice on other batches than the last one."""
        settings = replace(self.settings, seed=next(self.seeds))
        objective = Triples(
            settings=settings,
            runtime=self.runtime,
            student=_student(self.student, self.runtime),
            tokens=self.tokens,
            rows=self.triples,
        )
        clock = StepClock(self.num_warmup)
        width = self.triples.shape[1]
        train(objective, TrainState(objective.new_model()), lambda step: clock.tick(step.num_sentences // width))
        return clock.figures()
