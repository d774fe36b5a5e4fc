"""The demo: download, extract, distil and compare on real text. `make demo` runs it."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from distilcse_cli import catalogue, console
from distilcse_cli.config import NEWS_ARTICLES, CorpusSettings
from distilcse_cli.data.corpus import prepare_corpus
from distilcse_cli.errors import DataError
from distilcse_cli.evaluation.comparison import Comparison, compare
from distilcse_cli.evaluation.scoring import evaluate_encoder
from distilcse_cli.evaluation.settings import EvalSettings
from distilcse_cli.evaluation.tasks import choose_tasks, data_folder, load_data
from distilcse_cli.files import atomic_path, read_json
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.runtime import Runtime, choose_runtime
from distilcse_cli.training.dev import hold_out
from distilcse_cli.training.distill import DistillSources, run
from distilcse_cli.training.settings import DistillSettings
from distilcse_cli.training.steps import Interrupted, NonFiniteLoss
from senteval.tables import format_score

TEACHER, ARTICLES = "all-minilm-l6", "news-articles"
KEEP_LAYERS = (0, 2, 4)
SENTENCES = "sentences.txt"


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


def run_demo(
    out: Path, *, num_sentences: int | None = None, device: str | None = None, compute_dtype: str = "auto"
) -> DemoReport:
    """Download, split, extract, distil six layers to three, and compare.

    Args:
        out: folder for the student; one that an earlier demo made is replaced.
        num_sentences: use only that many sentences, from the first on; None uses all.
        device: as for `choose_runtime`.
        compute_dtype: as for `choose_runtime`.

    Raises:
        DistilCSEError: a download fails, or `out` holds something else.
        Interrupted: by Ctrl-C or SIGTERM while it trained.
    """
    student = out / "student"
    _require_own(student)
    teacher_folder, articles = catalogue.fetch(TEACHER), catalogue.fetch(ARTICLES)
    corpus = prepare_corpus([str(articles)], NEWS_ARTICLES)
    text = out / SENTENCES
    _write_sentences(text, islice(corpus, num_sentences))

    sources = DistillSources(
        teacher=ModelRef(ref=str(teacher_folder)),
        student=ModelRef(ref=str(teacher_folder), keep_layers=KEEP_LAYERS),
        corpus=(str(text),),
    )
    settings = DistillSettings()
    _distill(sources, student, settings, device, compute_dtype)

    runtime = choose_runtime(device, compute_dtype)
    corpus = prepare_corpus(sources.corpus, CorpusSettings())
    held_out = corpus.take(hold_out(len(corpus), settings)[1])
    models = {
        "untrained cut": ModelRef(ref=str(teacher_folder), keep_layers=KEEP_LAYERS).load(),
        "student": ModelRef(ref=str(student)).load(),
        "teacher": ModelRef(ref=str(teacher_folder)).load(),
    }
    comparisons = compare(models, held_out, runtime, teacher="teacher")
    return DemoReport(
        student=student,
        num_sentences=len(corpus),
        num_held_out=len(held_out),
        comparisons=comparisons,
        sts=_sts_averages(models, runtime),
        runtime=runtime,
    )


def _distill(
    sources: DistillSources, student: Path, settings: DistillSettings, device: str | None, compute_dtype: str
) -> None:
    """Train the student from the start, even if an earlier demo has left a part of one."""
    try:
        run(
            sources,
            student,
            settings,
            corpus_settings=CorpusSettings(),
            device=device,
            compute_dtype=compute_dtype,
            overwrite=True,  # an interrupted demo may have had another --sentences
        )
    except Interrupted as stopped:
        # the message of a run names --resume, which the demo does not have
        hint = "the same command starts the distillation again; downloads and the teacher's rows are kept"
        raise Interrupted("interrupted during the distillation", stopped.by, hint=hint) from None
    except NonFiniteLoss as error:
        # likewise --lr
        narrow = choose_runtime(device, compute_dtype).dtype != "float32"
        raise NonFiniteLoss(error.message, hint="try --compute-dtype float32" if narrow else None) from error


def _sts_averages(models: dict[str, SentenceEncoder], runtime: Runtime) -> dict[str, float | None]:
    """STS average x 100 of each model; empty where SentEval's data is not at hand."""
    settings = EvalSettings()
    folder = data_folder()
    if not (folder / "downstream").is_dir():
        console.log("no SentEval data, so no STS column: distilcse download senteval")
        return {}
    data = load_data(choose_tasks("sts", ()), folder, settings)
    return {
        name: evaluate_encoder(model, data, settings, runtime).results.average(data.names)
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
        return saved["stage"] == "distill" and same and inputs == [SENTENCES] and asked["keep_layers"] == [*KEEP_LAYERS]
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
