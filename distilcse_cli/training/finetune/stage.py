"""Stage 2 from the command's arguments to the student folder: what it has of its own."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distilcse_cli import console
from distilcse_cli.config import TripletSettings
from distilcse_cli.ranks import Ranks
from distilcse_cli.runtime import Runtime
from distilcse_cli.training.finetune.dev import LEAST_HELD_OUT, HeldOutTriples, choose_dev, hold_out
from distilcse_cli.training.finetune.loop import Inputs, plan_steps, train
from distilcse_cli.training.finetune.model import FinetuneModel
from distilcse_cli.training.finetune.prepare import FinetuneSources, Material, prepare
from distilcse_cli.training.finetune.report import FinetuneReport, finetune_card
from distilcse_cli.training.run_folder import as_typed
from distilcse_cli.training.settings import FinetuneSettings
from distilcse_cli.training.stage import Stage, run_stage
from distilcse_cli.training.state import TrainState
from distilcse_cli.training.steps import StepRecord, Watcher
from distilcse_cli.training.teacher_rows import StoredTeacher

__all__ = ["FinetuneReport", "FinetuneSources", "run"]


def run(
    sources: FinetuneSources,
    out: Path,
    settings: FinetuneSettings,
    *,
    triplet_settings: TripletSettings,
    device: str | None = None,
    compute_dtype: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
) -> FinetuneReport:
    """Fine-tune a student and save it in `out`; one process of several, if this is one.

    Args:
        sources: student, triplets and, if it is kept near one, teacher.
        out: folder for the student.
        settings: of stage 2.
        triplet_settings: how rows of a table become triples.
        device, compute_dtype, resume, overwrite: as for `run_stage`.

    Raises:
        DistilCSEError: as from `run_stage`.
    """

    def open_stage(runtime: Runtime, ranks: Ranks) -> _Finetune:
        material = prepare(sources, settings, triplet_settings, runtime, ranks)
        training, held_out = hold_out(len(material.triplets), settings)
        inputs = Inputs(
            tokens=material.tokens,
            triples=material.triplets.rows[training],
            settings=settings,
            runtime=runtime,
            teacher=None if material.store is None else StoredTeacher(material.store.embeddings, runtime),
            ranks=ranks,
        )
        return _Finetune(
            settings=settings,
            runtime=runtime,
            ranks=ranks,
            student=material.student,
            plan=plan_steps(inputs),
            dev=choose_dev(material.triplets, held_out, material.student, runtime, ranks),
            sources=sources,
            triplet_settings=triplet_settings,
            material=material,
            inputs=inputs,
            held_out=held_out,
        )

    return run_stage(
        open_stage,
        FinetuneReport,
        out,
        settings,
        asked=as_typed(sources, triplet_settings),
        device=device,
        compute_dtype=compute_dtype,
        resume=resume,
        overwrite=overwrite,
    )


@dataclass(kw_only=True)
class _Finetune(Stage[FinetuneModel, FinetuneReport]):
    report_type = FinetuneReport
    unit = "triples"

    settings: FinetuneSettings
    sources: FinetuneSources
    triplet_settings: TripletSettings
    material: Material
    inputs: Inputs
    held_out: np.ndarray
    """Numbers of the triples not trained on."""
    start_score: float | None = None

    def marks(self) -> dict[str, Any]:
        store = self.material.store
        return {
            "student": self.student.fingerprint,
            "triplets": self.material.triplets.fingerprint,
            "teacher": store and store.manifest["teacher_fingerprint"],
        }

    def begin(self) -> None:
        """What the student is worth before the first step: fine-tuning on the wrong triples makes it worse."""
        if self.dev is not None:
            self.start_score = self.ranks.decided(self.dev.evaluate(self.student)[0])
            console.log(f"before the first step: {self.dev.name} {self.start_score:.2f}")

    def new_model(self) -> FinetuneModel:
        return self.material.new_model(self.settings, self.runtime, self.ranks)

    def train(self, model: FinetuneModel, on_step: Callable[[StepRecord], None], watcher: Watcher) -> TrainState:
        return train(model, self.inputs, on_step, watcher=watcher)

    def report(self, of_both: dict[str, Any]) -> FinetuneReport:
        triplets, student, accuracy = self.material.triplets, self.student, None
        if len(self.held_out) >= LEAST_HELD_OUT:
            accuracy, _ = HeldOutTriples(triplets, self.held_out, student, self.runtime).evaluate(student)
        return FinetuneReport(
            **of_both,
            num_triples=len(self.inputs.triples),
            start_score=self.start_score,
            held_out_accuracy=accuracy,
            agreement=self.material.agreement(self.held_out, self.runtime),
        )

    def facts(self) -> dict[str, Any]:
        triplets = self.material.triplets
        return {
            "student": {"reference": self.sources.student.ref, "base": self.sources.student.base},
            "teacher": self.material.teacher_facts,
            "triplets": {
                "inputs": list(self.sources.triplets),
                "num_triples": len(triplets),
                "have_hard_negatives": triplets.has_negatives,
                "num_sentences": len(triplets.sentences),
                "fingerprint": triplets.fingerprint,
                "settings": asdict(self.triplet_settings),
            },
        }

    def card(self, facts: dict[str, Any]) -> str:
        return finetune_card(self.student, facts)

    def tell(self, report: FinetuneReport) -> None:
        if report.held_out_accuracy is not None:
            console.log(f"held-out anchors that pick their positive: {report.held_out_accuracy:.2f} %")
        if report.agreement:
            console.log(f"agreement with the teacher on held-out anchors: {report.agreement}")
        if report.setback:
            console.warn(report.setback)
