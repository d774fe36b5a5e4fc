"""The demo: download, extract, distil and compare on real text. `make demo` runs it."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from distilcse_cli import catalogue, console
from distilcse_cli.config import NEWS_ARTICLES, CorpusSettings
from distilcse_cli.data.corpus import evenly_spread, prepare_corpus
from distilcse_cli.errors import DataError
from distilcse_cli.evaluation.comparison import Comparison, compare
from distilcse_cli.evaluation.pace import Pace, measure
from distilcse_cli.evaluation.scoring import evaluate_encoder
from distilcse_cli.evaluation.settings import EvalSettings
from distilcse_cli.evaluation.tasks import EvalData, choose_tasks, data_folder, load_data
from distilcse_cli.files import atomic_path, read_json
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.runtime import Runtime, choose_runtime
from distilcse_cli.training.dev import hold_out
from distilcse_cli.training.distill import DistillSources, run
from distilcse_cli.training.report import DistillReport
from distilcse_cli.training.settings import DistillSettings
from distilcse_cli.training.steps import WINDOW_BATCHES, Interrupted, NonFiniteLoss
from senteval.tables import format_score

TEACHER, ARTICLES = "all-minilm-l6", "news-articles"
NUM_LAYERS = 3
_EARLIER_LAYERS = (0, 2, 4)
"""Those that demos of earlier releases kept."""
SENTENCES = "sentences.txt"
PARTS = ("the news, as sentences", "the teacher's embeddings", "training", "student beside teacher")
"""A fifth one, STS, needs SentEval's data."""


@dataclass(frozen=True, kw_only=True)
class DemoReport:
    """The student that the demo made, and its measurements."""

    student: Path
    num_sentences: int
    num_held_out: int
    comparisons: list[Comparison]
    sts: dict[str, float | None]
    """STS average of each model x 100; empty where there is no SentEval data."""
    runtime: Runtime

    def table(self) -> str:
        """The one table of the demo."""
        header = ["", "layers", "parameters", "sentences/s", "pair Spearman", "ten nearest", "mean cosine"]
        header += ["STS avg."] if self.sts else []
        return console.table(header, (self._row(one) for one in self.comparisons), align="l" + "r" * (len(header) - 1))

    def _row(self, one: Comparison) -> list[str]:
        agreed = one.agreement
        cosine = "-" if agreed.mean_cosine is None else f"{agreed.mean_cosine:.4f}"
        row = [one.name, str(one.num_layers), f"{one.num_parameters / 1e6:.1f}M", f"{one.sentences_per_second:,.0f}"]
        row += [f"{agreed.pair_spearman:.2f}", f"{agreed.neighbor_overlap:.2f} %", cosine]
        return [*row, format_score(self.sts[one.name])] if self.sts else row


@dataclass
class _Parts:
    """The parts of a demo: a line before each one, with the time left if the machine was measured."""

    names: list[str]
    seconds: list[float] = field(default_factory=list)
    """About those of the parts after the first."""
    _number: int = 0

    def begin(self) -> None:
        """Log the next part."""
        left = f", about {_minutes(sum(self.seconds[self._number - 1 :]))} left" if self.seconds else ""
        self._number += 1
        console.log(f"part {self._number} of {len(self.names)}: {self.names[self._number - 1]}{left}")


def run_demo(
    out: Path,
    *,
    num_sentences: int | None = None,
    minutes: float | None = None,
    device: str | None = None,
    compute_dtype: str = "auto",
) -> DemoReport:
    """Download, split, extract, distil six layers to three, and compare.

    Args:
        out: folder for the student; one that an earlier demo made is replaced.
        num_sentences: use only that many sentences, from the first on; None uses all, or as many as `minutes` allows.
        minutes: without `num_sentences`, use what this machine can do in that time; downloads do not count.
        device: as for `choose_runtime`.
        compute_dtype: as for `choose_runtime`.

    Raises:
        DistilCSEError: a download fails, or `out` holds something else.
        Interrupted: by Ctrl-C or SIGTERM while it measured or trained.
    """
    student, text = out / "student", out / SENTENCES
    _require_own(student)
    teacher, articles = str(catalogue.fetch(TEACHER)), catalogue.fetch(ARTICLES)
    started, runtime = time.monotonic(), choose_runtime(device, compute_dtype)
    sources = DistillSources(teacher=ModelRef(ref=teacher), student=ModelRef(ref=teacher), corpus=(str(text),))
    sts, settings = _sts_data(), DistillSettings(layers=NUM_LAYERS)
    parts = _Parts([*PARTS, "STS"] if sts else [*PARTS])
    parts.begin()
    corpus = prepare_corpus([str(articles)], NEWS_ARTICLES)
    again = "the same command"
    if num_sentences is None and minutes is not None:
        some = corpus.take(evenly_spread(len(corpus), WINDOW_BATCHES * settings.batch_size))
        pace = measure(sources, some, len(corpus), settings, runtime).clock
        to_score = _num_characters(sts)
        left = 60 * minutes - (time.monotonic() - started)
        num_sentences = pace.sentences_in(left, len(corpus), to_score)
        again += f" with --sentences {num_sentences}"  # another measurement would choose other sentences
        parts.seconds = pace.parts(num_sentences, to_score)
        _log_choice(pace, num_sentences, len(corpus), parts.seconds)
    _write_sentences(text, islice(corpus, num_sentences))
    trained = _distill(sources, student, settings, device, compute_dtype, parts, again)

    parts.begin()
    corpus = prepare_corpus(sources.corpus, CorpusSettings())
    held_out = corpus.take(hold_out(len(corpus), settings)[1])
    cut = replace(sources.student, keep_layers=tuple(trained.kept_layers or ()))
    refs = {"untrained cut": cut, "student": ModelRef(ref=str(student)), "teacher": ModelRef(ref=teacher)}
    models = {name: ref.load() for name, ref in refs.items()}
    comparisons = compare(models, held_out, runtime, teacher="teacher")
    return DemoReport(
        student=student,
        num_sentences=len(corpus),
        num_held_out=len(held_out),
        comparisons=comparisons,
        sts=_sts_averages(models, sts, runtime, parts),
        runtime=runtime,
    )


def _log_choice(pace: Pace, num_sentences: int, num_all: int, seconds: list[float]) -> None:
    """Say what was measured, and how many sentences follow from it."""
    taken = f"the first {num_sentences:,} of {num_all:,}" if num_sentences < num_all else f"all {num_all:,}"
    console.log(f"this machine: {pace}; taking {taken} sentences, about {_minutes(sum(seconds))}")


def _minutes(seconds: float) -> str:
    """Roughly, as an estimate is."""
    return f"{round(seconds / 60)} min" if seconds >= 90 else "1 min" if seconds >= 45 else "half a minute"


def _distill(
    sources: DistillSources,
    student: Path,
    settings: DistillSettings,
    device: str | None,
    compute_dtype: str,
    parts: _Parts,
    again: str,
) -> DistillReport:
    """Train the student from the start, even if an earlier demo has left a part of one."""
    parts.begin()
    try:
        return run(
            sources,
            student,
            settings,
            corpus_settings=CorpusSettings(),
            device=device,
            compute_dtype=compute_dtype,
            overwrite=True,  # an interrupted demo may have had another --sentences
            on_prepared=parts.begin,
        )
    except Interrupted as stopped:
        # the message of a run names --resume, which the demo does not have
        hint = f"{again} starts the distillation again; downloads and the teacher's rows are kept"
        raise Interrupted("interrupted during the distillation", stopped.by, hint=hint) from None
    except NonFiniteLoss as error:
        # likewise --lr
        narrow = choose_runtime(device, compute_dtype).dtype != "float32"
        raise NonFiniteLoss(error.message, hint="try --compute-dtype float32" if narrow else None) from error


def _sts_data() -> EvalData | None:
    """The tasks of the STS column; None where SentEval's data is not at hand."""
    folder = data_folder()
    if not (folder / "downstream").is_dir():
        console.log("no SentEval data, so no STS column: distilcse download senteval")
        return None
    return load_data(choose_tasks("sts", ()), folder, EvalSettings())


def _num_characters(data: EvalData | None) -> int:
    """Length of the distinct sentences to encode for the STS column."""
    return sum(map(len, {one for task in data.tasks for one in task.sentences()})) if data else 0


def _sts_averages(
    models: dict[str, SentenceEncoder], data: EvalData | None, runtime: Runtime, parts: _Parts
) -> dict[str, float | None]:
    """STS average x 100 of each model; empty without data."""
    if data is None:
        return {}
    parts.begin()
    return {
        name: evaluate_encoder(model, data, EvalSettings(), runtime).results.average(data.names)
        for name, model in models.items()
    }


def _require_own(student: Path) -> None:
    """Refuse a folder that no demo made. The student of an earlier demo stays until the new one replaces it."""
    try:
        if student.exists() and not _is_own(student):
            raise DataError(f"{student} was not made by the demo", hint="choose another --out")
    except OSError as error:
        raise DataError(f"cannot use {student}: {error.strerror}", hint="choose another --out") from error


def _is_own(student: Path) -> bool:
    try:
        saved = read_json(student / "distilcse.json")
        asked = saved["asked"]
        inputs = [Path(path).name for path in asked["corpus"]]
        same = asked["teacher"] == asked["student"] and Path(asked["teacher"]).is_absolute()
        own_cut = saved["settings"].get("layers") == NUM_LAYERS or asked["keep_layers"] == [*_EARLIER_LAYERS]
        return saved["stage"] == "distill" and same and inputs == [SENTENCES] and own_cut
    except (DataError, KeyError, TypeError):
        return False


def _write_sentences(text: Path, sentences: Iterable[str]) -> None:
    """Write the sentences. Only those of an earlier demo are overwritten: the same ones, or the first of them."""
    content = "".join(f"{sentence}\n" for sentence in sentences).encode()
    try:
        earlier = text.read_bytes() if text.exists() else b""
    except OSError as error:
        raise DataError(f"cannot use {text}: {error.strerror}", hint="choose another --out") from error
    if not (content.startswith(earlier) or earlier.startswith(content)):
        raise DataError(f"{text} was not made by the demo", hint="choose another --out")
    with atomic_path(text) as temporary:
        temporary.write_bytes(content)
