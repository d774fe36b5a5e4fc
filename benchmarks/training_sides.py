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
from distilcse_cli.training import loop
from distilcse_cli.training.finetune import loop as finetune_loop
from distilcse_cli.training.finetune.model import FinetuneModel
from distilcse_cli.training.model import DistillModel
from distilcse_cli.training.settings import DistillSettings, FinetuneSettings
from distilcse_cli.training.state import TrainState
from distilcse_cli.training.steps import StepRecord
from distilcse_cli.training.teacher_rows import StoredTeacher


def _student(folder: str, runtime: Runtime) -> SentenceEncoder:
    """The student as `run_stage` sets it up for training on this runtime."""
    encoder = load_encoder(folder)
    if runtime.device == "cpu" and runtime.dtype == "bfloat16":
        encoder.set_attention("eager")
    return encoder


class FullBank:
    """A `Watcher` that only fills the bank before the first step, as it is in all but the start of a run."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows

    def start(self, state: TrainState) -> None:
        """Push rows until there is no room."""
        size = state.bank.size
        numbers = np.arange(size) % len(self._rows)
        for part in np.array_split(numbers, max(1, size // 4096)):
            rows = torch.from_numpy(self._rows[part].astype(np.float32))
            state.bank.push(functional.normalize(rows, dim=1))  # of no known text, as in a first epoch

    def after_step(self, state: TrainState, record: StepRecord, *, stop: bool) -> None:
        """Nothing."""


class OursDistill:
    """`training.loop.train` at its defaults on memory-mapped tokens and stored teacher rows.

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
        model = DistillModel(_student(self.student, self.runtime), self.rows.shape[1], settings)
        inputs = loop.Inputs(
            tokens=self.tokens,
            teacher=StoredTeacher(self.rows, self.runtime),
            rows=np.arange(len(self.tokens)),
            settings=settings,
            runtime=self.runtime,
        )
        clock = StepClock(self.num_warmup)
        state = loop.train(
            model, inputs, lambda step: clock.tick(getattr(step, self.counts)), watcher=FullBank(self.rows)
        )
        return clock.figures() | {"bank_rows": len(state.bank)}


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
            DistillModel(encoder, embeddings.shape[1], settings),
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
    """`training.finetune.loop.train` at its defaults.

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
        inputs = finetune_loop.Inputs(tokens=self.tokens, triples=self.triples, settings=settings, runtime=self.runtime)
        clock = StepClock(self.num_warmup)
        model = FinetuneModel(_student(self.student, self.runtime), settings)
        width = self.triples.shape[1]
        finetune_loop.train(model, inputs, lambda step: clock.tick(step.num_sentences // width))
        return clock.figures()
