"""Stage 1 from the command's arguments to the student folder: what it has of its own."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distilcse_cli import console
from distilcse_cli.config import CorpusSettings
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.ranks import Ranks
from distilcse_cli.runtime import Runtime
from distilcse_cli.training.loop import Inputs, plan_steps, train
from distilcse_cli.training.model import DistillModel
from distilcse_cli.training.prepare import DistillSources, Material, choose_dev, hold_out, prepare
from distilcse_cli.training.report import DistillReport, distill_card
from distilcse_cli.training.run_folder import as_typed
from distilcse_cli.training.settings import DistillSettings
from distilcse_cli.training.stage import Stage, run_stage
from distilcse_cli.training.state import TrainState
from distilcse_cli.training.steps import StepRecord, Watcher

__all__ = ["DistillReport", "DistillSources", "hold_out", "run"]


def run(
    sources: DistillSources,
    out: Path,
    settings: DistillSettings,
    *,
    corpus_settings: CorpusSettings,
    device: str | None = None,
    compute_dtype: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
) -> DistillReport:
    """Distil a student and save it in `out`; one process of several, if this is one.

    Args:
        sources: teacher, student and corpus.
        out: folder for the student.
        settings: of stage 1.
        corpus_settings: how lines become sentences.
        device, compute_dtype, resume, overwrite: as for `run_stage`.

    Raises:
        DistilCSEError: as from `run_stage`.
    """

    def open_stage(runtime: Runtime, ranks: Ranks) -> _Distill:
        material = prepare(sources, settings, corpus_settings, runtime, ranks)
        training_rows, held_out = hold_out(len(material.corpus), settings)
        inputs = Inputs(
            tokens=material.tokens,
            teacher=material.teacher,
            rows=training_rows,
            settings=settings,
            runtime=runtime,
            ranks=ranks,
        )
        return _Distill(
            settings=settings,
            runtime=runtime,
            ranks=ranks,
            student=material.student,
            plan=plan_steps(inputs),
            dev=choose_dev(material, held_out, runtime, ranks),
            sources=sources,
            corpus_settings=corpus_settings,
            material=material,
            inputs=inputs,
            held_out=held_out,
        )

    return run_stage(
        open_stage,
        DistillReport,
        out,
        settings,
        asked=as_typed(sources, corpus_settings),
        device=device,
        compute_dtype=compute_dtype,
        resume=resume,
        overwrite=overwrite,
    )


@dataclass(kw_only=True)
class _Distill(Stage[DistillModel, DistillReport]):
    report_type = DistillReport
    unit = "sentences"

    settings: DistillSettings
    sources: DistillSources
    corpus_settings: CorpusSettings
    material: Material
    inputs: Inputs
    held_out: np.ndarray
    """Numbers of the sentences not trained on."""

    def marks(self) -> dict[str, Any]:
        return {
            "teacher": self.material.store.manifest["teacher_fingerprint"],
            "student": self.student.fingerprint,
            "corpus": self.material.corpus.fingerprint,
        }

    def new_model(self) -> DistillModel:
        return DistillModel(self.student, self.material.teacher.width, self.settings).to(self.runtime.torch_device())

    def train(self, model: DistillModel, on_step: Callable[[StepRecord], None], watcher: Watcher) -> TrainState:
        return train(model, self.inputs, on_step, watcher=watcher)

    def report(self, of_both: dict[str, Any]) -> DistillReport:
        agreed = self.material.agreement(self.held_out, self.runtime)
        return DistillReport(**of_both, num_sentences=len(self.inputs.rows), agreement=agreed)

    def facts(self) -> dict[str, Any]:
        corpus, layers = self.material.corpus, self.sources.student.keep_layers
        return {
            "teacher": self.material.teacher_facts,
            "student": {
                "reference": self.sources.student.ref,
                "base": self.sources.student.base,
                "keep_layers": layers and list(layers),
            },
            "corpus": {
                "inputs": list(self.sources.corpus),
                "num_sentences": len(corpus),
                "fingerprint": corpus.fingerprint,
                "settings": asdict(self.corpus_settings),
            },
        }

    def card(self, facts: dict[str, Any]) -> str:
        return distill_card(self.student, facts)

    def saved(self, model: DistillModel) -> SentenceEncoder:
        return model.with_projection() if self.settings.keep_projection else self.student

    def tell(self, report: DistillReport) -> None:
        if report.agreement:
            on = f"{len(self.held_out):,} held-out sentences"
            console.log(f"agreement with the teacher on {on}: {report.agreement}")
