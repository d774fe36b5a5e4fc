"""`distilcse plan`: what a distillation would take of disk, memory and time, before it begins."""

from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import options
from distilcse_cli.commands.defaults import given
from distilcse_cli.config import CorpusSettings
from distilcse_cli.errors import UsageError
from distilcse_cli.jobs.defaults import corpus_or_default
from distilcse_cli.setting import DATA, MACHINE, Setting, check, settings_of
from distilcse_cli.training.settings import DistillSettings, require_one_choice

EXAMPLES = """
distilcse plan --teacher all-minilm-l6 --student all-minilm-l6 --layers 3 --corpus sentences.txt
distilcse plan --teacher REF --student REF --corpus sentences.txt --sentences 5e6 --device-kind h200 --devices 8
"""
_DISTILL = settings_of(DistillSettings)
_MOST = 10**12


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """Settings of stage 1 that cost disk, memory or time; and the devices."""

    loss: Annotated[str, _DISTILL["loss"]] = DistillSettings.loss
    layers: Annotated[int | None, _DISTILL["layers"]] = None
    batch_size: Annotated[int, _DISTILL["batch_size"]] = DistillSettings.batch_size
    bank_size: Annotated[int, _DISTILL["bank_size"]] = DistillSettings.bank_size
    epochs: Annotated[int, _DISTILL["epochs"]] = DistillSettings.epochs
    max_steps: Annotated[int | None, _DISTILL["max_steps"]] = None
    max_length: Annotated[int, _DISTILL["max_length"]] = DistillSettings.max_length
    eval_every: Annotated[int, _DISTILL["eval_every"]] = DistillSettings.eval_every
    devices: Annotated[
        int, Setting("Devices that share the work, each with its own batch.", panel=MACHINE, at_least=1)
    ] = 1
    device_kind: Annotated[
        str | None,
        Setting(
            "cpu, cuda: measured here. h200: from stated speeds. Default: a GPU if there is one here, else the CPU.",
            panel=MACHINE,
            choices=("cpu", "cuda", "h200"),
        ),
    ] = None

    def __post_init__(self) -> None:
        check(self)

    def distill(self) -> DistillSettings:
        """Those of stage 1."""
        names = [field.name for field in fields(self) if field.name in _DISTILL]
        return DistillSettings(**{name: getattr(self, name) for name in names})


@options.with_settings
def plan(
    *,
    context: typer.Context,
    teacher: options.Teacher,
    student: options.Student,
    student_options: options.StudentOptions,
    teacher_options: options.TeacherOptions,
    sentences: Annotated[
        str | None,
        typer.Option(
            metavar="N", rich_help_panel=DATA, help="Sentences to plan for, such as 5e6. Default: those of the corpus."
        ),
    ] = None,
    corpus: options.Corpus = None,
    corpus_settings: CorpusSettings,
    triples: Annotated[
        str | None,
        typer.Option(metavar="N", rich_help_panel=DATA, help="Plan stage 2, too, on that many triples of sentences."),
    ] = None,
    settings: PlanSettings,
    json: options.Json = False,
) -> None:
    """Say what a distillation would take of disk, memory and time, measured in about a minute."""
    require_one_choice(settings.layers, student_options.keep_layers)
    distill = settings.distill()
    num_sentences, num_triples = _whole("--sentences", sentences), _whole("--triples", triples)
    learner, model = student_options.of(student), teacher_options.of(teacher)
    inputs, corpus_settings = corpus_or_default(corpus, corpus_settings, given(context))

    from distilcse_cli.evaluation.plan import plan as run
    from distilcse_cli.training.distill import DistillSources

    report = run(
        DistillSources(teacher=model, student=learner, corpus=inputs),
        distill,
        corpus_settings,
        num_sentences=num_sentences,
        num_triples=num_triples or 0,
        devices=settings.devices,
        kind=settings.device_kind,
    )
    if json:
        console.result_json(report.as_dict())
    else:
        console.result(str(report))


def _whole(option: str, text: str | None) -> int | None:
    """A count as people type large ones: 5000000, 5_000_000, 5e6.

    Raises:
        UsageError: it is none, or too large.
    """
    if text is None:
        return None
    try:
        number = Decimal(text)
        # the limits first: a number of a billion digits is not written out
        if number.is_finite() and 1 <= number <= _MOST and number == number.to_integral_value():
            return int(number)
    except InvalidOperation:
        pass
    raise UsageError(f"{option} is {text!r}, but must be a whole number from 1 to 1e12", hint="such as 5000000 or 5e6")
