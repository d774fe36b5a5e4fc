"""This project's sides, and the published training loop. Benchmarks run them through `Peer`.

What a side takes from the product is imported here and nowhere else in the comparisons.
"""

import json
import shutil
import tempfile
import time
from dataclasses import replace
from itertools import count, cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.peer import StepClock
from distilcse_cli.config import EncodeSettings
from distilcse_cli.data.corpus import open_corpus
from distilcse_cli.data.tokens import open_tokens
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.inference import embed_stream
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.runtime import Runtime, choose_runtime
from distilcse_cli.teacher.extract import extract
from distilcse_cli.training import loop
from distilcse_cli.training.finetune import loop as finetune_loop
from distilcse_cli.training.finetune.model import FinetuneModel
from distilcse_cli.training.model import DistillModel
from distilcse_cli.training.settings import DistillSettings, FinetuneSettings
from distilcse_cli.training.state import ADAM_BETAS, ADAM_EPS, TrainState
from distilcse_cli.training.steps import StepRecord
from distilcse_cli.training.teacher_rows import StoredTeacher


class Encode:
    """`Embedder` at its defaults.

    Args:
        model: folder.
        sentences: JSON file of a list of sentences.
        rows: folder for the embeddings.
    """

    def __init__(self, *, model: str, sentences: str, rows: str) -> None:
        self.sentences = json.loads(Path(sentences).read_text(encoding="utf-8"))
        runtime = choose_runtime()
        self.embedder = Embedder(ModelRef(ref=model).load(), runtime, EncodeSettings())
        self.rows = Path(rows) / "ours.npy"
        started = time.perf_counter()
        self.embedder.sentences(self.sentences)
        first = time.perf_counter() - started
        self.facts = {"first_call_seconds": first, "dtype": str(runtime), "rows": str(self.rows)}

    def run(self) -> dict[str, Any]:
        """Embed all sentences."""
        np.save(self.rows, self.embedder.sentences(self.sentences))
        return {"num": len(self.sentences)}


class Extract:
    """`extract` of a corpus into a folder that is then removed; each round takes the next corpus.

    Args:
        model: reference.
        corpora: folders of prepared corpora.
    """

    def __init__(self, *, model: str, corpora: list[str]) -> None:
        self.encoder, self.runtime = ModelRef(ref=model).load(), choose_runtime()
        self.corpora = [open_corpus(Path(folder)) for folder in corpora]
        self.turns = cycle(self.corpora)
        _ = self.encoder.fingerprint
        first = self.corpora[0]
        self._embed(first.take(np.arange(min(len(first), 8192))))  # warm-up
        self.facts = {"dtype": str(self.runtime)}

    def run(self) -> dict[str, Any]:
        """Extract all of a corpus."""
        corpus, out = next(self.turns), Path(tempfile.mkdtemp(prefix="extract-"))
        try:
            started = time.perf_counter()
            extract(self.encoder, corpus, out, EncodeSettings(), self.runtime)
            return {"num": len(corpus), "seconds": time.perf_counter() - started}
        finally:
            shutil.rmtree(out)

    def _embed(self, sentences: Any) -> None:
        for _ in embed_stream(self.encoder, sentences, self.runtime, EncodeSettings()):
            pass


class EncodeCorpus(Extract):
    """Our raw encoding rate: the windows of the same corpora, embedded and thrown away."""

    def run(self) -> dict[str, Any]:
        """Embed all of a corpus."""
        corpus = next(self.turns)
        self._embed(corpus)
        return {"num": len(corpus)}


class FullBank:
    """A `Watcher` that only fills the bank before the first step, as it is in all but the start of a run."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows

    def start(self, state: TrainState) -> None:
        """Push rows until the bank is full."""
        for part in _bank_parts(self._rows, state.bank.size):
            state.bank.push(part)  # of no known text, as in a first epoch

    def after_step(self, state: TrainState, record: StepRecord, *, stop: bool) -> None:
        """Do nothing."""


class Distill:
    """Slices of stage 1 at its defaults, on memory-mapped tokens and stored teacher rows, with a full bank.

    Args:
        student: folder.
        tokens: folder of the corpus's tokens.
        rows: `.npy` file of the teacher's rows.
        batch_size, bank_size, num_warmup, num_steps: of a slice.
    """

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
        state = loop.train(model, inputs, lambda step: clock.tick(step.num_sentences), watcher=FullBank(self.rows))
        return clock.figures() | {"bank_rows": len(state.bank)}


class Finetune:
    """Slices of stage 2 at its defaults.

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


class PublishedDistill:
    """Slices of the published loop, without its tokenizing, on the same corpus and a full bank.

    Args:
        teacher: folder.
        others: as for `Distill`; teacher and student share a tokenizer.
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
        encoder = ModelRef(ref=student).load()
        self.loop = PublishedLoop(
            ModelRef(ref=teacher).load(),
            DistillModel(encoder, embeddings.shape[1], settings),
            bank=torch.cat([torch.empty(0, embeddings.shape[1]), *_bank_parts(embeddings, bank_size)]),
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


class PublishedLoop:
    """One process of the published loop of stage 1, written from its description.

    The teacher runs in every step, in fp32 and with its dropout on. Every sentence is padded to the
    length limit. The bank is copied to the device, appended to the batch in a new tensor, scored in
    full by one cross-entropy, and built again with the batch in front.

    Args:
        teacher: frozen.
        model: student, projection and scale.
        bank: (K, D) first teacher rows, of length 1; K may be 0.
        bank_size: most rows kept.
        grad_clip: largest norm of the gradient.
        dropout: whether student and teacher run with their dropout.
    """

    def __init__(
        self,
        teacher: SentenceEncoder,
        model: DistillModel,
        *,
        bank: Tensor,
        bank_size: int,
        grad_clip: float = 1.0,
        dropout: bool = True,
    ) -> None:
        self.teacher, self.model = teacher.train(dropout), model.train(dropout)
        self.bank, self.bank_size, self.grad_clip = bank, bank_size, grad_clip
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, betas=ADAM_BETAS, eps=ADAM_EPS, weight_decay=0.0)

    def step(self, for_teacher: tuple[Tensor, Tensor], for_student: tuple[Tensor, Tensor], lr: float) -> float:
        """Take a step on (B, T) token ids and mask; the loss before it."""
        with torch.no_grad():
            target = functional.normalize(self.teacher(*for_teacher), dim=1)
        student = functional.normalize(self.model(*for_student), dim=1)
        keys = torch.cat([target, self.bank.clone()])
        scores = self.model.scale * student @ keys.T
        loss = functional.cross_entropy(scores, torch.arange(len(student)))
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.grad_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.bank = torch.cat([target, self.bank])[: self.bank_size].clone()
        return loss.item()


def _student(folder: str, runtime: Runtime) -> SentenceEncoder:
    """The student as a run sets it up for training on this runtime."""
    encoder = ModelRef(ref=folder).load()
    if runtime.device == "cpu" and runtime.dtype == "bfloat16":
        encoder.set_attention("eager")
    return encoder


def _bank_parts(rows: np.ndarray, size: int) -> list[Tensor]:
    """`size` teacher rows of length 1, the first ones again after the last, a few thousand at a time."""
    numbers = np.arange(size) % len(rows)
    parts = np.array_split(numbers, max(1, size // 4096))
    return [functional.normalize(torch.from_numpy(rows[part].astype(np.float32)), dim=1) for part in parts]
