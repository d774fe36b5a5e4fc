"""How fast this machine encodes and trains, measured in seconds: for a demo that ends in time, and for plans."""

import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from distilcse_cli.data.corpus import evenly_spread
from distilcse_cli.data.tokens import TokenRows, tokenize
from distilcse_cli.evaluation.speed import SPEED_ROUNDS
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.layers import num_passes, require_layers
from distilcse_cli.models.surgery import cut_layers
from distilcse_cli.runtime import Runtime
from distilcse_cli.training.bank import MemoryBank
from distilcse_cli.training.distill import DistillSources
from distilcse_cli.training.distillation import Distillation
from distilcse_cli.training.layers import NUM_SENTENCES
from distilcse_cli.training.loop import train
from distilcse_cli.training.objective import Objective
from distilcse_cli.training.run import new_state
from distilcse_cli.training.settings import DistillSettings, FinetuneSettings
from distilcse_cli.training.state import TrainState
from distilcse_cli.training.steps import WINDOW_BATCHES, Interrupted, StepRecord
from distilcse_cli.training.teacher_rows import StoredTeacher, teacher_of
from distilcse_cli.training.triples import Triples

FEWEST = 2000
"""Sentences that a demo takes on the slowest machine: fewer train no student worth a look."""
_STEPS = 3
"""Fewest steps of a measurement. A quarter of the steps, the first one at least, warm up and are not counted."""
DEV_SENTENCES = 1500
"""Sentences of news that take as long as STS-B's development set; held-out ones are fewer."""
_OTHER_SECONDS = 2.0
"""A part's writing of files and reading of settings."""
_FEW = 16
"""Sentences of the first of the passes that show how many can be encoded in the time given."""
_MOST_REPEATED = 1 << 16
_ENDLESS: dict[str, Any] = {"epochs": 1_000_000, "max_steps": None, "lr": 1e-9}


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds that a machine needs: by the clock, or of its processors."""

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
    """Passes of the student over `NUM_SENTENCES` sentences that take as long as the choice of its layers."""
    triple: float = 0.0
    """To train on a triple in stage 2; 0 where it was not measured."""

    def encode(self, num_sentences: float, *, by_teacher: bool = False, devices: int = 1) -> float:
        """Seconds to load a model and encode sentences, shared among devices."""
        return self.loading + num_sentences * (self.teacher if by_teacher else self.student) / devices

    def choice(self, num_sentences: int) -> float:
        """Seconds to choose the student's layers."""
        return self.passes * min(num_sentences, NUM_SENTENCES) * self.student

    def distill(self, num_sentences: int, num_evaluated: int, devices: int = 1) -> float:
        """Seconds to load the student and train it, with development scores on `num_evaluated` sentences."""
        settings, batch_size = self.settings, self.settings.batch_size * devices
        rows = num_rows(num_sentences, settings, devices)
        # the bank fills up, then stays full
        size = min(self.bank_size, rows)
        fullness = size / self.bank_size * (1 - size / (2 * max(1, rows)))
        num_evaluations = 2 + (rows // (batch_size * settings.eval_every) if settings.eval_every else 0)
        training = rows * (self.training + fullness * self.bank) + num_evaluations * num_evaluated * self.student
        return self.loading + training / devices

    def parts(self, num_sentences: int, sts_characters: int) -> list[float]:
        """Seconds of each part of a demo: extract, train, compare and, if there are sentences of STS, score them."""
        all_models, num_scored = self.teacher + 2 * self.student, sts_characters / self.length
        num_held_out = _num_held_out(num_sentences, self.settings)
        seconds = [
            self.encode(num_sentences, by_teacher=True) + self.choice(num_sentences),
            self.distill(num_sentences, DEV_SENTENCES if num_scored else num_held_out),
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


def num_rows(num_sentences: int, settings: DistillSettings, devices: int = 1) -> int:
    """Sentences that a run trains on, counted in each epoch."""
    rows = (num_sentences - _num_held_out(num_sentences, settings)) * settings.epochs
    return min(rows, (settings.max_steps or rows) * settings.batch_size * devices)


def _num_held_out(num_sentences: int, settings: DistillSettings) -> int:
    return min(settings.num_held_out, num_sentences // 20)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What `measure` found, and the models that it measured."""

    clock: Pace
    cpu: Pace
    """Seconds of all threads together. Other work of the machine makes these hardly longer."""
    teacher: SentenceEncoder
    student: SentenceEncoder
    """Cut: to its first layers, where the layers are still to be chosen."""


def measure(
    sources: DistillSources,
    sentences: list[str],
    num_all: int,
    settings: DistillSettings,
    runtime: Runtime,
    *,
    seconds: float = 1.0,
    with_triples: bool = False,
) -> Measured:
    """Encode and train on some sentences, all in memory.

    Args:
        sources: the models.
        sentences: as long as those of the corpus; the more, the better full batches are measured.
        num_all: sentences of the corpus: no bank is fuller.
        settings: of stage 1.
        runtime: device and number format.
        seconds: about how long each of teacher, student, training and training with a full bank is measured.
        with_triples: measure stage 2 as well, with its default settings.

    Raises:
        UsageError: the student has fewer layers than asked for.
        Interrupted: by Ctrl-C or SIGTERM.
    """
    started = both_clocks()
    teacher = teacher_of(sources.teacher, sources.embeddings).encoder()
    loading = both_clocks() - started
    student, passes = cut_student(sources, settings)
    encoding, embedding = (_encoding_seconds(one, sentences, runtime, seconds) for one in (teacher, student))
    bank_size = max(1, min(settings.bank_size, num_all))
    batch_size = max(settings.batch_size, 3 * FinetuneSettings().batch_size if with_triples else 0)
    some = spread(sentences, WINDOW_BATCHES * batch_size)
    some *= -(-min(batch_size, _MOST_REPEATED) // len(some))  # a batch of a few sentences would cost more for each
    tokens = tokenize(some, student.tokenizer, min(settings.max_length, student.max_length), student.prompts.used)
    given: dict[str, Any] = {"runtime": runtime, "student": student, "tokens": tokens}
    try:
        empty, full = _training_seconds(_distillation(given, teacher, settings), seconds, bank_size)
        triple = _training_seconds(_triples(given), seconds)[0] if with_triples else np.zeros(2)
    except Interrupted as stopped:
        raise Interrupted("interrupted while it measured this machine", stopped.by) from None
    clock, cpu = (
        Pace(
            teacher=float(encoding[which]),
            student=float(embedding[which]),
            training=float(empty[which]),
            bank=max(0.0, float(full[which] - empty[which])),
            bank_size=bank_size,
            loading=float(loading[which]),
            length=mean_length(sentences),
            settings=settings,
            passes=passes,
            triple=float(triple[which]),
        )
        for which in (0, 1)
    )
    return Measured(clock=clock, cpu=cpu, teacher=teacher, student=student)


def cut_student(sources: DistillSources, settings: DistillSettings) -> tuple[SentenceEncoder, float]:
    """A student with as many layers as asked for, and the passes of it that the choice of them takes.

    Raises:
        UsageError: it has fewer.
    """
    student, layers = replace(sources.student, static=settings.layers == 0).load(), settings.layers
    if not layers:
        return student, 0.0
    num_layers = student.num_layers
    require_layers(student, layers)
    cut_layers(student.backbone, range(layers))
    return student, num_passes(num_layers, layers) * num_layers / layers


def spread(sentences: Sequence[str], number: int) -> list[str]:
    """That many of the sentences, or all, evenly spread over them."""
    return [sentences[row] for row in evenly_spread(len(sentences), number)]


def mean_length(sentences: Sequence[str]) -> float:
    """Mean characters of a sentence."""
    return sum(map(len, sentences)) / len(sentences)


def both_clocks() -> np.ndarray:
    """(2,) seconds by the clock and of the processors."""
    return np.array([time.perf_counter(), time.process_time()])


def is_enough(started: np.ndarray, seconds: float) -> bool:
    """Whether `seconds` have passed since `started`. Where other work took most of them: three times that, at most."""
    clock, cpu = both_clocks() - started
    return bool(clock >= seconds and (cpu >= seconds / 2 or clock >= 3 * seconds))


def _encoding_seconds(encoder: SentenceEncoder, sentences: list[str], runtime: Runtime, seconds: float) -> np.ndarray:
    """(2,) seconds to encode a sentence, in passes for which all is warm."""
    embedder, number = Embedder(encoder, runtime), _FEW
    while True:
        some = spread(sentences, number)
        started = both_clocks()
        embedder.sentences(some)
        if number >= len(sentences) or is_enough(started, seconds / 4):
            break
        number *= 2
    started, passes = both_clocks(), 0
    while passes == 0 or not is_enough(started, seconds / 2):
        embedder.sentences(some)
        passes += 1
    # few sentences may be longer or shorter than all, and time goes by length
    return (both_clocks() - started) / passes / len(some) * mean_length(sentences) / mean_length(some)


def _unit_rows(number: int, width: int) -> torch.Tensor:
    return functional.normalize(torch.randn(number, width, generator=torch.Generator().manual_seed(0)), dim=1)


def _distillation(given: dict[str, Any], teacher: SentenceEncoder, settings: DistillSettings) -> Distillation:
    tokens: TokenRows = given["tokens"]
    rows = _unit_rows(len(tokens), teacher.embedding_dim)
    return Distillation(
        settings=replace(settings, layers=None, **_ENDLESS),
        rows=np.arange(len(tokens)),
        teacher=StoredTeacher(rows.numpy(), given["runtime"]),
        **given,
    )


def _triples(given: dict[str, Any]) -> Triples:
    rows = np.arange(len(given["tokens"]) // 3 * 3).reshape(-1, 3)
    return Triples(settings=FinetuneSettings(**_ENDLESS), rows=rows, **given)


def _training_seconds(objective: Objective, seconds: float, bank_size: int = 0) -> list[np.ndarray]:
    """(2,) seconds to train on a row, with an empty bank and with a full one; twice the same where there is none."""
    state, steps, found = new_state(objective), [], []
    began = last = both_clocks()

    def on_step(record: StepRecord) -> None:
        nonlocal began, last
        steps.append([*(both_clocks() - last), record.num_tokens])
        if len(steps) > _STEPS and is_enough(began, seconds):
            *spent, num_tokens = np.sum(steps[max(1, len(steps) // 4) :], axis=0)
            # the batches differ in length, so tokens are what compares
            found.append(np.array(spent) / num_tokens * objective.plan.lengths.mean())
            steps.clear()
            state.selection.ended = len(found) == 2 or not bank_size or state.bank is None
            _fill_bank(state, bank_size)
            began = both_clocks()
        last = both_clocks()

    train(objective, state, on_step)
    return [found[0], found[-1]]


def _fill_bank(state: TrainState, size: int) -> None:
    """Give a state a bank of `size` rows, none of them a teacher row of a batch, if it has a bank."""
    if state.bank is None or not size:
        return
    old = state.bank.rows
    state.bank = MemoryBank(size, old.shape[1], device=old.device, dtype=old.dtype)
    state.bank.push(_unit_rows(size, old.shape[1]).to(old.device), np.arange(size))
