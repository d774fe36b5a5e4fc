"""The stages from a model's name to the vectors of a whole corpus: what each takes of disk, memory and time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from distilcse_cli.evaluation import costs
from distilcse_cli.evaluation.pace import DEV_SENTENCES, Pace, num_rows
from distilcse_cli.runtime import Runtime
from distilcse_cli.training.settings import DistillSettings, FinetuneSettings
from distilcse_cli.training.steps import WINDOW_BATCHES

_STS_SENTENCES, _STS_CHARACTERS = 26_083, 1_508_032
"""The distinct sentences of the seven STS tasks, which `distilcse eval` encodes."""
_TRIPLE = 3


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage. Bytes and seconds; None where they are not known."""

    name: str
    what: str
    disk_bytes: float = 0.0
    """Left on the disk."""
    peak_disk_bytes: float = 0.0
    """On the disk at most, while it runs; 0 if that is no more."""
    memory_bytes: float | None = None
    """Of each process at its peak; of each GPU where speeds are a GPU's."""
    seconds: float | None = None
    cpu_seconds: float | None = None
    """Of all threads and processes together."""


@dataclass(frozen=True, kw_only=True)
class Download:
    """The models."""

    names: str
    num_bytes: int
    seconds: float
    """Until they were here; next to nothing if they were before."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """The sentences: their lengths, and the seconds of what is done to them, by the clock and of the processors."""

    preparing: np.ndarray
    """(2,) a sentence."""
    tokenizing: np.ndarray
    """(2,) a sentence, for training."""
    mean_bytes: float
    lengths: np.ndarray
    """Tokens of each sentence of a sample, as they are trained on."""
    dtype: np.dtype
    """Of a token on the disk."""


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What all stages are computed from."""

    num_sentences: int
    num_triples: int
    devices: int
    kind: str | None
    """Key of the device whose speeds are stated; else of one that is measured."""
    settings: DistillSettings
    runtime: Runtime
    start: float
    """Seconds of a command before it loads a model."""
    clock: Pace
    cpu: Pace | None
    """None where speeds are stated."""
    teacher: costs.ModelSize
    student: costs.ModelSize
    download: Download
    text: Text

    def timed(self, seconds: Callable[[Pace, int], float]) -> dict[str, Any]:
        """Seconds of a command by the clock, its devices at work side by side, and of all processors."""
        cpu = None if self.cpu is None else self.start + seconds(self.cpu, 1)
        return {"seconds": self.start + seconds(self.clock, self.devices), "cpu_seconds": cpu}

    def longest_batch(self, batch_size: int) -> float:
        """Tokens of a step's longest batch: a window is sorted, so it has the window's longest sentences."""
        lengths = np.sort(self.text.lengths)
        return batch_size * float(lengths[-max(1, len(lengths) // WINDOW_BATCHES) :].mean())


def stages_of(basis: Basis) -> list[Stage]:
    """All stages, in their order."""
    return [*_data(basis), *_training(basis), *_use(basis)]


def _data(basis: Basis) -> list[Stage]:
    num, text, teacher, download = basis.num_sentences, basis.text, basis.teacher, basis.download
    preparing, tokenizing = (
        {"seconds": float(num * spent[0]), "cpu_seconds": float(num * spent[1])}
        for spent in (text.preparing, text.tokenizing)
    )
    mean_tokens = float(text.lengths.mean())
    return [
        Stage(name="download", what=download.names, disk_bytes=download.num_bytes, seconds=download.seconds),
        Stage(
            name="text",
            what=f"{num:,} sentences",
            disk_bytes=costs.text_bytes(num, text.mean_bytes),
            memory_bytes=costs.text_memory(num),
            **preparing,
        ),
        Stage(
            name="tokens",
            what=f"{num * mean_tokens:,.0f} tokens",
            disk_bytes=costs.token_bytes(num, mean_tokens, text.dtype),
            memory_bytes=costs.text_memory(0),
            **tokenizing,
        ),
        Stage(
            name="extract",
            what=f"{num:,} rows of {teacher.width}",
            disk_bytes=costs.store_bytes(num, teacher.width, text.mean_bytes),
            memory_bytes=costs.encoding_memory(teacher, basis.runtime),
            **basis.timed(lambda pace, devices: pace.encode(num, by_teacher=True, devices=devices)),
        ),
    ]


def _training(basis: Basis) -> list[Stage]:
    num, settings, runtime, width = basis.num_sentences, basis.settings, basis.runtime, basis.teacher.width
    rows = num_rows(num, settings, basis.devices)
    num_steps = -(-rows // (settings.batch_size * basis.devices))
    peak, kept = costs.run_bytes(basis.student, num_steps, costs.bank_bytes(rows, width, settings, runtime))
    memory = costs.training_memory(
        basis.student, basis.longest_batch(settings.batch_size), runtime, teacher=4 * basis.teacher.num_parameters
    )
    stages = [
        Stage(
            name="distill",
            what=f"{num_steps:,} steps of {settings.batch_size * basis.devices:,}, {settings.loss},"
            f" {basis.student.num_layers} layer{'s' * (basis.student.num_layers != 1)}",
            disk_bytes=kept,
            peak_disk_bytes=peak,
            memory_bytes=memory + costs.bank_memory(rows, settings, width, runtime) + costs.order_memory(num),
            **basis.timed(lambda pace, devices: pace.choice(num) + pace.distill(num, DEV_SENTENCES, devices)),
        )
    ]
    return [*stages, _finetune(basis)] if basis.num_triples else stages


def _finetune(basis: Basis) -> Stage:
    num, text, settings = basis.num_triples, basis.text, FinetuneSettings()
    num_steps = -(-num * settings.epochs // (settings.batch_size * basis.devices))
    peak, kept = costs.run_bytes(basis.student, num_steps, 0.0)
    data = costs.text_bytes(_TRIPLE * num, text.mean_bytes)
    data += costs.token_bytes(_TRIPLE * num, float(text.lengths.mean()), text.dtype) + _TRIPLE * 8 * num
    # a part of a batch goes through the student at a time
    batch_tokens = min(basis.longest_batch(_TRIPLE * settings.batch_size), settings.micro_batch_tokens or np.inf)
    memory = costs.training_memory(basis.student, batch_tokens, basis.runtime) + costs.order_memory(num)
    evaluated = (2 + num_steps // settings.eval_every) * DEV_SENTENCES

    def seconds(pace: Pace, devices: int) -> float:
        return pace.encode(evaluated, devices=devices) + num * settings.epochs * pace.triple / devices

    return Stage(
        name="finetune",
        what=f"{num_steps:,} steps of {settings.batch_size * basis.devices:,} triples",
        disk_bytes=kept + data,
        peak_disk_bytes=peak + data,
        memory_bytes=memory,
        **basis.timed(seconds),
    )


def _use(basis: Basis) -> list[Stage]:
    num, student = basis.num_sentences, basis.student
    memory = costs.encoding_memory(student, basis.runtime)
    return [
        Stage(
            name="eval",
            what=f"{_STS_SENTENCES:,} sentences of STS",
            memory_bytes=memory,
            **basis.timed(lambda pace, devices: pace.encode(_STS_CHARACTERS / pace.length, devices=devices)),
        ),
        Stage(
            name="encode",
            what=f"{num:,} rows of {student.width}",
            disk_bytes=costs.row_bytes(num, student.width),
            memory_bytes=memory,
            **basis.timed(lambda pace, devices: pace.encode(num, devices=devices)),
        ),
    ]
