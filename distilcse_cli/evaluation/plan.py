"""What a distillation would take: disk, memory and time of each stage, from a minute's measurement or stated speeds."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distilcse_cli import console
from distilcse_cli.config import CorpusSettings, data_home
from distilcse_cli.data.corpus import CorpusSample, sample_corpus
from distilcse_cli.data.texts import in_batches
from distilcse_cli.data.tokens import RowTokenizer, tokenize
from distilcse_cli.errors import UsageError
from distilcse_cli.evaluation import costs
from distilcse_cli.evaluation.footprint import bytes_on_disk
from distilcse_cli.evaluation.pace import Pace, both_clocks, cut_student, is_enough, mean_length, measure, spread
from distilcse_cli.evaluation.stages import Basis, Download, Stage, Text, stages_of
from distilcse_cli.evaluation.stated import STATED, stated_pace
from distilcse_cli.files import disk_of
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.runtime import Runtime, choose_runtime
from distilcse_cli.training.distill import DistillSources
from distilcse_cli.training.settings import DistillSettings

_SAMPLE, _TOKENIZED = 8192, 2000
"""Sentences of the sample at least, and those of it whose tokens are counted for each model."""
_READING_SECONDS, _MEASURING_SECONDS = 8.0, 12.0
"""For the text; for each of teacher, student, training and training with a full bank."""
_ALONE = 0.85
"""Share of its threads' time above which a process has its cores to itself."""
_IN_HOME = ("text", "tokens", "extract")
"""Stages whose files `distill` keeps in the data home; others write where the user says."""


@dataclass(frozen=True, kw_only=True)
class Disk:
    """One disk: what of the plan is there, how much that is and how much is free."""

    folders: str
    needed_bytes: float
    free_bytes: int | None

    @property
    def fits(self) -> bool:
        """Whether there is room, as far as the system says."""
        return self.free_bytes is None or self.needed_bytes <= self.free_bytes

    def __str__(self) -> str:
        free = "unknown" if self.free_bytes is None else amount(self.free_bytes)
        text = f"disk of {self.folders}: needs {amount(self.needed_bytes)}, {free} free"
        return text if self.fits else f"{text}: TOO LITTLE. Make room, or choose other folders (DISTILCSE_HOME, --out)"


@dataclass(frozen=True, kw_only=True)
class PlanReport:
    """The plan: bytes and seconds."""

    num_sentences: int
    devices: int
    device: str
    stages: list[Stage]
    disks: list[Disk]
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Field names and values, for JSON; and whether the disks have room."""
        return {**asdict(self), "fits": all(disk.fits for disk in self.disks)}

    def __str__(self) -> str:
        rows = [
            (
                one.name,
                one.what,
                amount(one.disk_bytes) if one.disk_bytes else "-",
                amount(max(one.disk_bytes, one.peak_disk_bytes)) if one.disk_bytes else "-",
                "-" if one.memory_bytes is None else amount(one.memory_bytes),
                _time(one.seconds),
                _time(one.cpu_seconds),
            )
            for one in self.stages
        ]
        header = ("stage", "", "disk", "at most", "memory", "time", "CPU time")
        return "\n".join([console.table(header, rows, align="llrrrrr"), *map(str, self.disks), *self.notes])


def plan(
    sources: DistillSources,
    settings: DistillSettings,
    corpus_settings: CorpusSettings,
    *,
    num_sentences: int | None = None,
    num_triples: int = 0,
    devices: int = 1,
    kind: str | None = None,
) -> PlanReport:
    """Plan a distillation: measure this machine for about a minute, and compute the rest.

    Nothing is written, but models that are not here are downloaded.

    Args:
        sources: the models, and a corpus whose sentences are as long as those to come.
        settings: of stage 1.
        corpus_settings: how lines become sentences.
        num_sentences: to plan for; None takes the corpus' own number.
        num_triples: of stage 2; 0 leaves it out.
        devices: that share the work, each with its own batch.
        kind: `cpu` or `cuda`, measured here; a key of `STATED`; None as `choose_runtime` chooses.

    Raises:
        DistilCSEError: a model or the corpus cannot be read, or the corpus is too long to count.
        Interrupted: by Ctrl-C or SIGTERM.
    """
    start = time.process_time()
    refs = (sources.teacher or sources.student, sources.student)
    download, started = _download(refs), both_clocks()
    sample = sample_corpus(sources.corpus, corpus_settings, _SAMPLE, lambda: is_enough(started, _READING_SECONDS))
    preparing = (both_clocks() - started) / sample.num_kept
    num = num_sentences or _count(sample)
    runtime, clock, cpu, encoders = _speeds(sources, settings, sample.sentences, num, kind, num_triples > 0)
    teacher, student = _sizes(encoders, refs, sample.sentences)
    basis = Basis(
        num_sentences=num,
        num_triples=num_triples,
        devices=devices,
        kind=kind,
        settings=settings,
        runtime=runtime,
        start=0.0 if kind in STATED else start,
        clock=clock or stated_pace(kind or "", teacher, student, settings, mean_length(sample.sentences)),
        cpu=cpu,
        teacher=teacher,
        student=student,
        download=download,
        text=_text(encoders[1], sample.sentences, settings.max_length, preparing),
    )
    stages = stages_of(basis)
    return PlanReport(
        num_sentences=num,
        devices=devices,
        device=STATED[kind].name if kind in STATED else str(runtime),
        stages=stages,
        disks=_disks(stages),
        notes=_notes(basis, sample),
    )


def _speeds(
    sources: DistillSources,
    settings: DistillSettings,
    sentences: list[str],
    num: int,
    kind: str | None,
    with_triples: bool,
) -> tuple[Runtime, Pace | None, Pace | None, tuple[SentenceEncoder, SentenceEncoder]]:
    """The pace of this machine by both clocks, none of them where speeds are stated; and teacher and student."""
    if kind in STATED:
        runtime = Runtime(device="cuda", dtype="bfloat16", reason="stated")
        return runtime, None, None, ((sources.teacher or sources.student).load(), cut_student(sources, settings)[0])
    runtime = choose_runtime(kind)
    console.log(f"measuring this machine, about a minute: {runtime}")
    found = measure(sources, sentences, num, settings, runtime, seconds=_MEASURING_SECONDS, with_triples=with_triples)
    return runtime, found.clock, found.cpu, (found.teacher, found.student)


def _download(refs: Sequence[ModelRef]) -> Download:
    """Find the models, or download them."""
    started = time.perf_counter()
    paths = {ref.locate(): ref.ref for ref in refs}
    seconds = time.perf_counter() - started
    return Download(
        names=", ".join(paths.values()), num_bytes=sum(bytes_on_disk(path) for path in paths), seconds=seconds
    )


def _count(sample: CorpusSample) -> int:
    if not sample.is_whole:
        message = f"the corpus is long: {sample.num_kept:,} sentences were read, and there are more"
        raise UsageError(message, hint="say how many with --sentences N")
    return sample.num_kept


def _sizes(
    encoders: Sequence[SentenceEncoder], refs: Sequence[ModelRef], sentences: Sequence[str]
) -> list[costs.ModelSize]:
    some = spread(sentences, _TOKENIZED)
    return [
        costs.size_of(one, ref.locate(), float(tokenize(some, one.tokenizer, one.max_length).lengths.mean()))
        for one, ref in zip(encoders, refs, strict=True)
    ]


def _text(student: SentenceEncoder, sentences: list[str], max_length: int, preparing: np.ndarray) -> Text:
    """Tokenize the sample as it would be for training, and measure that."""
    rows = RowTokenizer(student.tokenizer, min(max_length, student.max_length), student.prompts.used)
    rows(spread(sentences, _TOKENIZED))  # a first time is slower
    started = both_clocks()
    lengths = np.concatenate([rows(batch)[1] for batch in in_batches(sentences)])
    return Text(
        preparing=preparing,
        tokenizing=(both_clocks() - started) / len(sentences),
        mean_bytes=sum(len(one.encode()) for one in sentences) / len(sentences),
        lengths=lengths,
        dtype=rows.dtype,
    )


def _disks(stages: Sequence[Stage]) -> list[Disk]:
    """What the stages that write need on each disk, the earlier stages' files included."""
    home, here = data_home(), Path()
    on_disks: dict[int | None, list[tuple[Path, list[Stage]]]] = {}
    for folder, found in (
        (home, [one for one in stages if one.name in _IN_HOME]),
        (here, [one for one in stages if one.name not in _IN_HOME and one.name != "download"]),
    ):
        disk = disk_of(folder)
        on_disks.setdefault(disk and disk[0], []).append((folder, found))
    disks = []
    for parts in on_disks.values():
        needed = kept = 0.0
        for one in (stage for _, found in parts for stage in found):
            needed, kept = max(needed, kept + max(one.disk_bytes, one.peak_disk_bytes)), kept + one.disk_bytes
        disk = disk_of(parts[0][0])
        folders = " and ".join(str(folder.absolute()) for folder, _ in parts)
        disks.append(Disk(folders=folders, needed_bytes=needed, free_bytes=disk and disk[1]))
    return disks


def _notes(basis: Basis, sample: CorpusSample) -> list[str]:
    """Where the figures come from, and what they leave out."""
    clock, cpu, devices, lengths = basis.clock, basis.cpu, basis.devices, basis.text.lengths
    read = f"{'all' if sample.is_whole else 'the first'} {sample.num_kept:,} sentences of the corpus"
    notes = [
        f"text: as {len(sample.sentences):,} evenly spread over {read}: {clock.length:.0f} characters,"
        f" {lengths.mean():.1f} tokens in training",
        "disk: beside models and files that are here already. memory: by formula, of each process; mapped files,"
        " whose pages the system takes back, do not count",
    ]
    stated = STATED.get(basis.kind or "")
    if stated:
        notes.append(f"time: {stated}. Text and tokens are measured here. memory: of the GPU, never compared with one")
    if cpu is not None and basis.runtime.device_type == "cpu":
        threads = torch.get_num_threads()
        share = (cpu.teacher + cpu.training) / (clock.teacher + clock.training) / threads
        if share < _ALONE:
            notes.append(
                f"time: this process got {share:.0%} of its {threads} thread{'s' * (threads > 1)} while it measured, so"
                " other work was running. time is as the machine is now; alone, nearer to CPU time / threads"
            )
    if devices > 1:
        notes.append(
            f"{devices} devices: a {devices}th of the time of one, as if they exchanged gradients in no time;"
            f" a step takes {devices} batches of --batch-size"
        )
    return notes


def amount(num_bytes: float) -> str:
    """Bytes in three digits or so: `12 MB`, `3.4 GB`."""
    units = ["kB", "MB", "GB", "TB", "PB"]
    while num_bytes >= 1e6 and len(units) > 1:
        num_bytes, units = num_bytes / 1000, units[1:]
    number = num_bytes / 1000
    return f"{number:,.1f} {units[0]}" if number < 10 else f"{number:,.0f} {units[0]}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return console.duration(seconds) if seconds < 172_800 else f"{seconds / 86_400:,.1f} days"
