"""`distilcse demo`: the main job end to end, and what to type next."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import options
from distilcse_cli.config import MachineSettings
from distilcse_cli.setting import DATA, OUTPUT, Setting, check, settings_of

EXAMPLES = """
distilcse demo --minutes 2
distilcse demo --sentences 2000
"""
_MACHINE = settings_of(MachineSettings)


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """How much text the demo takes, and where it computes."""

    minutes: Annotated[
        float,
        Setting(
            "Measure this machine, and use as many of the 85,000 sentences as it gets through in that time, downloads"
            " not counted; at least 2,000.",
            panel=DATA,
            positive=True,
        ),
    ] = 5.0
    sentences: Annotated[
        int | None,
        Setting("Use that many sentences, whatever --minutes says.", panel=DATA, at_least=100),
    ] = None
    device: Annotated[str | None, _MACHINE["device"]] = None
    compute_dtype: Annotated[str, _MACHINE["compute_dtype"]] = "auto"

    def __post_init__(self) -> None:
        check(self)


@options.with_settings
def demo(
    *,
    out: Annotated[Path, typer.Option(rich_help_panel=OUTPUT, help="Folder for the student.")] = Path("demo"),
    settings: DemoSettings,
) -> None:
    """Try the whole path on real news: six layers to three."""
    from distilcse_cli.evaluation.demo import run_demo

    report = run_demo(
        out,
        num_sentences=settings.sentences,
        minutes=settings.minutes,
        device=settings.device,
        compute_dtype=settings.compute_dtype,
    )
    console.result(
        f"\n{report.num_sentences:,} news sentences, {report.num_held_out:,} of them held out for the columns of"
        f" agreement; computed on {report.runtime}\n"
    )
    console.result(report.table())
    console.result(
        f"""
Next, with your own text and models:
  distilcse encode sentences.txt --model {report.student}
  distilcse distill --teacher REF --student REF --corpus sentences.txt --out student
  distilcse eval --model {report.student} --task-set sts"""
    )
