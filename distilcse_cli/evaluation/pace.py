"""How fast this machine encodes and trains: measured in seconds, so that a demo ends when it should."""

import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional

from distilcse_cli.data.corpus import Corpus
from distilcse_cli.data.tokens import tokenize
from distilcse_cli.evaluation.comparison import SPEED_ROUNDS
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.layers import num_passes
from distilcse_cli.runtime import Runtime
from distilcse_cli.training.bank import MemoryBank
from distilcse_cli.training.distill import DistillSources
from distilcse_cli.training.distillation import Distillation
from distilcse_cli.training.layers import NUM_SENTENCES
from distilcse_cli.training.loop import train
from distilcse_cli.training.run import new_state
from distilcse_cli.training.settings import DistillSettings
from distilcse_cli.training.state import TrainState
from distilcse_cli.training.steps import Interrupted, StepRecord
from distilcse_cli.training.teacher_rows import StoredTeacher

FEWEST = 2000
"""Sentences that a demo takes on the slowest machine: fewer train no student worth a look."""
_STEPS = 3
"""Steps with an almost empty bank, the first of them not counted, and as many with a full one."""
_DEV_SENTENCES = 1500
"""Sentences of news that take as long as STS-B's development set; held-out ones are fewer."""
_OTHER_SECONDS = 2.0
"""A part's writing of files and reading of settings."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds that this machine needs."""

    teacher: float
    """For the teacher to encode a sentence."""
    student: float
    """For the student to encode one."""
    training: float
    """To train on a sentence while the bank is empty."""
    bank: float
    """More than that once the bank has `bank_size` rows."""
    bank_size: int
    loading: float
    """To load a model."""
    length: float
    """Mean characters of the sentences measured: time goes by length, and those of STS are short."""
    settings: DistillSettings
    passes: float = 0.0
    """Passes of the teacher over `NUM_SENTENCES` sentences that take as long as the choice of the student's layers."""

    def parts(self, num_sentences: int, sts_characters: int) -> list[float]:
        """Seconds of each part of a demo: extract, train, compare and, if there are sentences of STS, score them."""
        settings, all_models = self.settings, self.teacher + 2 * self.student
        num_scored = sts_characters / self.length
        num_held_out = min(settings.num_held_out, num_sentences // 20)
        rows = (num_sentences - num_held_out) * settings.epochs
        # the bank fills up, then stays full
        size = min(self.bank_size, rows)
        fullness = size / self.bank_size * (1 - size / (2 * max(1, rows)))
        num_evaluations = 2 + rows // (settings.batch_size * max(1, settings.eval_every))
        seconds = [
            self.loading + (num_sentences + self.passes * min(num_sentences, NUM_SENTENCES)) * self.teacher,
            self.loading
            + rows * (self.training + fullness * self.bank)
            + num_evaluations * (_DEV_SENTENCES if num_scored else num_held_out) * self.student,
            3 * self.loading + (1 + SPEED_ROUNDS) * num_held_out * all_models,
        ]
        if num_scored:
            seconds.append(num_scored * all_models)
        return [part + _OTHER_SECONDS for part in seconds]

    def sentences_in(self, seconds: float, num_all: int, sts_characters: int) -> int:
        """Most sentences of `num_all` whose demo ends in that time, in round numbers; at least `FEWEST`."""
        fit = bisect_right(range(num_all), seconds, key=lambda one: sum(self.parts(one + 1, sts_characters)))
        if fit < num_all:
            unit = 10 ** max(0, len(str(fit)) - 2)
            fit = fit // unit * unit
        return min(max(fit, FEWEST), num_all)

    def __str__(self) -> str:
        trained = 1 / (self.training + self.bank)
        return f"the teacher encodes about {1 / self.teacher:,.0f} sentences/s, the student trains on {trained:,.0f}"


def measure(sources: DistillSources, corpus: Corpus, settings: DistillSettings, runtime: Runtime) -> Pace:
    """Encode and train on a few hundred sentences of the corpus, all in memory.

    Raises:
        Interrupted: by Ctrl-C or SIGTERM.
    """
    started = time.perf_counter()
    model = sources.teacher.load()
    loading = time.perf_counter() - started
    num = min(len(corpus), _STEPS * settings.batch_size)
    sentences = corpus.take(np.linspace(0, len(corpus) - 1, num).astype(np.int64))
    embedder = Embedder(model, runtime)
    rows = embedder.sentences(sentences)  # a first pass warms up, and is not counted
    encoding = _mean_seconds(lambda: embedder.sentences(sentences)) / num
    layers = settings.layers
    cut = (sources.student if layers is None else replace(sources.student, keep_layers=tuple(range(layers)))).load()
    try:
        empty, full = _training_seconds(cut, sentences, rows, len(corpus), settings, runtime)
    except Interrupted as stopped:
        raise Interrupted("interrupted while it measured this machine", stopped.by) from None
    return Pace(
        teacher=encoding,
        student=encoding * cut.num_layers / model.num_layers,
        training=empty,
        bank=max(0.0, full - empty),
        bank_size=max(1, min(settings.bank_size, len(corpus))),
        loading=loading,
        length=sum(map(len, sentences)) / num,
        settings=settings,
        passes=0.0 if layers is None else num_passes(model.num_layers, layers),
    )


def _mean_seconds(work: Callable[[], object], at_least: float = 0.5) -> float:
    """Mean time of `work`, repeated until that many seconds are over: once on a slow machine."""
    started, times = time.perf_counter(), 0
    while True:
        work()
        times += 1
        seconds = time.perf_counter() - started
        if seconds >= at_least:
            return seconds / times


def _training_seconds(
    student: SentenceEncoder,
    sentences: list[str],
    teacher_rows: np.ndarray,
    num_all: int,
    settings: DistillSettings,
    runtime: Runtime,
) -> tuple[float, float]:
    """Seconds to train on a sentence, with an empty bank and with a full one."""
    objective = Distillation(
        settings=replace(settings, epochs=2, lr=1e-9, layers=None),
        runtime=runtime,
        student=student,
        tokens=tokenize(
            sentences, student.tokenizer, min(settings.max_length, student.max_length), student.prompts.used
        ),
        rows=np.arange(len(sentences)),
        teacher=StoredTeacher(teacher_rows, runtime),
    )
    state = new_state(objective)
    steps = objective.plan.steps_per_epoch
    ends: list[float] = []
    seconds: list[float] = []
    tokens: list[int] = []

    def on_step(record: StepRecord) -> None:
        now = time.perf_counter()
        seconds.append(now - ends[-1] if ends else 0.0)
        tokens.append(record.num_tokens)
        if record.step == steps:
            state.bank = _full_bank(state, teacher_rows, min(settings.bank_size, num_all))
        ends.append(time.perf_counter())

    train(objective, state, on_step)
    # the batches differ in length, so tokens are what compares
    first = 1 if steps > 1 else 0
    per_sentence = sum(tokens) / len(tokens) / (len(sentences) / steps)
    empty = sum(seconds[first:steps]) / sum(tokens[first:steps]) * per_sentence
    return empty, sum(seconds[steps:]) / sum(tokens[steps:]) * per_sentence


def _full_bank(state: TrainState, teacher_rows: np.ndarray, size: int) -> MemoryBank | None:
    """A bank of `size` rows, none of them a teacher row of the batch."""
    bank = state.bank
    if bank is None or not size:
        return bank
    full = MemoryBank(size, teacher_rows.shape[1], device=bank.rows.device, dtype=bank.rows.dtype)
    rows = torch.randn(size, teacher_rows.shape[1], generator=torch.Generator().manual_seed(0))
    full.push(functional.normalize(rows, dim=1).to(bank.rows.device), np.arange(size))
    return full
