"""This project's sides, and the published training loop; `Peer` runs them."""

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
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.runtime import choose_runtime
from distilcse_cli.teacher.extract import extract
from distilcse_cli.training.distillation import Distillation
from distilcse_cli.training.loop import train
from distilcse_cli.training.model import Scale, StudentModel
from distilcse_cli.training.objective import Objective
from distilcse_cli.training.settings import DistillSettings, FinetuneSettings, TrainSettings
from distilcse_cli.training.state import ADAM_BETAS, ADAM_EPS, TrainState
from distilcse_cli.training.teacher_rows import StoredTeacher
from distilcse_cli.training.triples import Triples


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
        self.embedder = Embedder(ModelRef(ref=model).load(), runtime)
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
        for _ in Embedder(self.encoder, self.runtime).stream(sentences):
            pass


class EncodeCorpus(Extract):
    """Our raw encoding rate: the windows of the same corpora, embedded and thrown away."""

    def run(self) -> dict[str, Any]:
        """Embed all of a corpus."""
        corpus = next(self.turns)
        self._embed(corpus)
        return {"num": len(corpus)}


class Training:
    """Slices of training by one of our objectives at its defaults. A subclass sets its `settings`.

    Args:
        student: folder.
        tokens: folder of the sentences' tokens.
        num_warmup: steps that are not counted.
    """

    settings: TrainSettings

    def __init__(self, *, student: str, tokens: str, num_warmup: int) -> None:
        self.runtime, self.tokens = choose_runtime(), open_tokens(Path(tokens))
        self.student, self.num_warmup = student, num_warmup
        self.seeds = count(self.settings.seed)  # another seed for each slice, so other batches
        self.facts = {"dtype": str(self.runtime), "threads": torch.get_num_threads(), "num_rows": len(self.tokens)}

    def train(
        self, objective: type[Objective], rows: np.ndarray, bank: np.ndarray | None, **own: Any
    ) -> dict[str, Any]:
        """Train a slice.

        Args:
            objective: its class.
            rows: (N,) sentences or (N, C) tuples of sentences.
            bank: rows that fill its memory bank, as after the first steps of a run; None without a bank.
            own: more arguments of the objective.
        """
        encoder = ModelRef(ref=self.student).load()
        if self.runtime.device == "cpu" and self.runtime.dtype == "bfloat16":
            encoder.set_attention("eager")  # as a run does
        stage = objective(
            settings=replace(self.settings, seed=next(self.seeds)),
            runtime=self.runtime,
            student=encoder,
            tokens=self.tokens,
            rows=rows,
            **own,
        )
        state = TrainState(stage.new_model(), stage.new_bank())
        if bank is not None and state.bank is not None:
            for part in _bank_parts(bank, state.bank.size):
                state.bank.push(part, np.full(len(part), -1))  # -1: no sentence of the corpus, as in a first epoch
        clock, num_columns = StepClock(self.num_warmup), rows[0].size
        train(stage, state, lambda step: clock.tick(step.num_sentences // num_columns))
        return clock.figures() | {"bank_rows": len(state.bank or ())}


class Distill(Training):
    """Stage 1 on memory-mapped tokens and stored teacher rows, with a full bank.

    Args:
        rows: `.npy` file of the teacher's rows.
        batch_size, bank_size, num_warmup, num_steps: of a slice.
        others: as for `Training`.
    """

    settings: DistillSettings

    def __init__(
        self, *, rows: str, batch_size: int, bank_size: int, num_warmup: int, num_steps: int, **others: Any
    ) -> None:
        steps = num_warmup + num_steps
        self.settings = DistillSettings(batch_size=batch_size, bank_size=bank_size, max_steps=steps, epochs=1000)
        super().__init__(num_warmup=num_warmup, **others)
        self.rows = np.load(rows, mmap_mode="r", allow_pickle=False)

    def run(self) -> dict[str, Any]:
        """Train a slice on other batches than the last one."""
        teacher = StoredTeacher(self.rows, self.runtime)
        return self.train(Distillation, np.arange(len(self.tokens)), self.rows, teacher=teacher)


class Finetune(Training):
    """Stage 2.

    Args:
        triples: `.npy` file of (N, 3) numbers of sentences.
        batch_size, num_warmup, num_steps: of a slice.
        others: as for `Training`.
    """

    def __init__(self, *, triples: str, batch_size: int, num_warmup: int, num_steps: int, **others: Any) -> None:
        self.settings = FinetuneSettings(batch_size=batch_size, max_steps=num_warmup + num_steps, epochs=1000)
        super().__init__(num_warmup=num_warmup, **others)
        self.triples = np.load(triples, allow_pickle=False)

    def run(self) -> dict[str, Any]:
        """Train a slice on other batches than the last one."""
        return self.train(Triples, self.triples, None)


class PublishedDistill(Distill):
    """Slices of the published loop, without its tokenizing, on the same corpus and a full bank.

    Args:
        teacher: folder; it shares its tokenizer with the student.
        others: as for `Distill`.
    """

    def __init__(self, *, teacher: str, **others: Any) -> None:
        super().__init__(**others)
        width, encoder = self.rows.shape[1], ModelRef(ref=self.student).load()
        self.pad_id, self.generator = encoder.pad_id, np.random.default_rng(0)
        self.loop = PublishedLoop(
            ModelRef(ref=teacher).load(),
            StudentModel(encoder, Scale(self.settings.logit_scale, self.settings.max_logit_scale), width),
            bank=torch.cat([torch.empty(0, width), *_bank_parts(self.rows, self.settings.bank_size)]),
            bank_size=self.settings.bank_size,
        )
        self.facts = {"dtype": "float32", "threads": torch.get_num_threads()}

    def run(self) -> dict[str, Any]:
        """Train a slice on other batches than the last one."""
        clock = StepClock(self.num_warmup)
        for _ in range(self.settings.max_steps or 0):
            rows = self.generator.choice(len(self.tokens), self.settings.batch_size, replace=False)
            batch = self.tokens.pad(rows, self.pad_id, self.settings.max_length)
            self.loop.step(batch, batch, lr=1e-4)
            clock.tick(len(rows))
        return clock.figures() | {"bank_rows": len(self.loop.bank)}


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
        model: StudentModel,
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
        student = functional.normalize(self.model.projected(self.model(*for_student)), dim=1)
        keys = torch.cat([target, self.bank.clone()])
        scores = self.model.scale() * student @ keys.T
        loss = functional.cross_entropy(scores, torch.arange(len(student)))
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.grad_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.bank = torch.cat([target, self.bank])[: self.bank_size].clone()
        return loss.item()


def _bank_parts(rows: np.ndarray, size: int) -> list[Tensor]:
    """`size` teacher rows of length 1, the first ones again after the last, a few thousand at a time."""
    numbers = np.arange(size) % len(rows)
    parts = np.array_split(numbers, max(1, size // 4096))
    return [functional.normalize(torch.from_numpy(rows[part].astype(np.float32)), dim=1) for part in parts]
