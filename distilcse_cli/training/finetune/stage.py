"""Stage 2 from the command's arguments to the student folder."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distilcse_cli import __version__, console
from distilcse_cli.config import FinetuneSettings, TripletSettings
from distilcse_cli.models.folder import save_student
from distilcse_cli.ranks import Ranks, joined, own_device
from distilcse_cli.runtime import Runtime, choose_runtime, set_seed
from distilcse_cli.training.checkpoint import Checkpoint, load_tensors
from distilcse_cli.training.curves import draw_curves
from distilcse_cli.training.finetune.dev import LEAST_HELD_OUT, HeldOutTriples, choose_dev, hold_out
from distilcse_cli.training.finetune.loop import Inputs, plan_steps, train
from distilcse_cli.training.finetune.model import FinetuneModel
from distilcse_cli.training.finetune.prepare import FinetuneSources, Material, prepare
from distilcse_cli.training.finetune.report import FinetuneReport, finetune_card
from distilcse_cli.training.metrics import read_json_lines, require_tensorboard
from distilcse_cli.training.run_folder import RunFolder, require_same_run, resumable
from distilcse_cli.training.selection import DevSet
from distilcse_cli.training.state import TrainState
from distilcse_cli.training.steps import NonFiniteLoss, StepRecord
from distilcse_cli.training.teacher_rows import StoredTeacher
from distilcse_cli.training.watch import Watch

__all__ = ["FinetuneReport", "FinetuneSources", "run"]

FREE_TO_CHANGE = ("micro_batch_tokens", "save_every", "tensorboard")
"""Settings that a resumed run may have otherwise."""


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
        device, compute_dtype: as for `choose_runtime`.
        resume: go on with an interrupted run; where there is none, start one.
        overwrite: replace the student in `out`, and start an interrupted run anew.

    Raises:
        DistilCSEError: input that does not fit, an `out` that is not empty, or a loss that is
            no longer finite; in that last case the last good student is kept beside `out`.
        Interrupted: by Ctrl-C or SIGTERM; the run can be resumed.
    """
    runtime = choose_runtime(own_device(device), compute_dtype)
    if settings.tensorboard:
        require_tensorboard()
    place = RunFolder(out)
    with joined(runtime) as ranks, resumable(place, ranks):
        finished, checkpoint = ranks.on_main(lambda: _claim(place, settings, resume=resume, overwrite=overwrite))
        if finished:
            console.log(f"{out} is finished already, nothing to do")
            return FinetuneReport.from_dict(finished["result"])
        console.log(f"computing on {runtime}" + (f", {ranks.world_size} processes" if ranks.world_size > 1 else ""))
        material = prepare(sources, settings, triplet_settings, runtime, ranks)
        job = _Job(place, sources, settings, triplet_settings, runtime, ranks, material)
        trained = _train(job, checkpoint)
        return ranks.on_main(lambda: _finish(job, trained))


@dataclass(frozen=True)
class _Job:
    """What was asked for, where, and with what."""

    place: RunFolder
    sources: FinetuneSources
    settings: FinetuneSettings
    triplet_settings: TripletSettings
    runtime: Runtime
    ranks: Ranks
    material: Material

    @property
    def held_out(self) -> np.ndarray:
        """Numbers of the triples not trained on."""
        return hold_out(len(self.material.triplets), self.settings)[1]


@dataclass(frozen=True)
class _Trained:
    """What training left, before any of it is a student folder."""

    state: TrainState
    run: str
    """The run's own mark, by which its student is known."""
    seconds: float
    dev_set: str | None
    start_score: float | None


def _claim(
    place: RunFolder, settings: FinetuneSettings, *, resume: bool, overwrite: bool
) -> tuple[dict[str, Any] | None, Checkpoint | None]:
    place.lock()
    finished = place.finished() if resume else None
    if finished:
        require_same_run(_compared(finished["settings"]), _compared(asdict(settings)))
        place.remove_work()
        return finished, None
    return None, place.claim(resume=resume, overwrite=overwrite)


def _compared(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in FREE_TO_CHANGE}


def _train(job: _Job, checkpoint: Checkpoint | None) -> _Trained:
    """Train from the start or from a checkpoint, with a progress line."""
    settings, ranks, material = job.settings, job.ranks, job.material
    inputs = Inputs(
        tokens=material.tokens,
        triples=material.triplets.rows[hold_out(len(material.triplets), settings)[0]],
        settings=settings,
        runtime=job.runtime,
        teacher=None if material.store is None else StoredTeacher(material.store.embeddings, job.runtime),
        ranks=ranks,
    )
    plan = plan_steps(inputs)
    dev = choose_dev(material.triplets, job.held_out, material.student, job.runtime, ranks)
    run = ranks.on_main(lambda: _identify(job, checkpoint, dev))
    start_score = _start_score(material, dev, ranks)
    model = _new_model(job)
    watch = Watch(
        job.place, dev, settings, steps_per_epoch=plan.steps_per_epoch, run=run, checkpoint=checkpoint, ranks=ranks
    )
    done = plan.num_sentences_of(checkpoint.facts["step"]) if checkpoint else 0
    with console.Progress("finetune", plan.num_sentences_of(plan.num_steps), "triples", initial=done) as progress:

        def on_step(record: StepRecord) -> None:
            facts = f"loss {record.loss:.4f}, lr {record.lr:.2e}, scale {record.scale:.2f}"
            progress.update(record.num_sentences // material.triplets.rows.shape[1], facts)

        with ranks.told_once(NonFiniteLoss), _keeping_last_good(job, model):
            state = train(model, inputs, on_step, watcher=watch)
    watch.close()
    return _Trained(state, run["run"], watch.stopwatch.seconds, dev.name if dev else None, start_score)


def _identify(job: _Job, checkpoint: Checkpoint | None, dev: DevSet | None) -> dict[str, Any]:
    """The marks of this run, which all its checkpoints carry; a resumed run has to bear the same."""
    material = job.material
    identity = {
        **_compared(asdict(job.settings)),
        "student": material.student.fingerprint,
        "triplets": material.triplets.fingerprint,
        "teacher": material.store and material.store.manifest["teacher_fingerprint"],
        "processes": job.ranks.world_size,
        "device": job.runtime.device.partition(":")[0],
        "compute_dtype": job.runtime.dtype,
        "development scores": dev.name if dev else None,
    }
    if checkpoint is None:
        return {"run": secrets.token_hex(8), "identity": identity}
    require_same_run(checkpoint.facts["identity"], identity)
    return {name: checkpoint.facts[name] for name in ("run", "identity")}


def _start_score(material: Material, dev: DevSet | None, ranks: Ranks) -> float | None:
    """What the student is worth before the first step: fine-tuning on the wrong triples makes it worse."""
    if dev is None:
        return None
    score = ranks.decided(dev.evaluate(material.student)[0])
    console.log(f"before the first step: {dev.name} {score:.2f}")
    return score


def _new_model(job: _Job) -> FinetuneModel:
    set_seed(job.settings.seed)
    model = job.material.new_model(job.settings, job.runtime, job.ranks)
    if job.runtime.device == "cpu":
        # the backward pass of the fused kernel is much the slower one on a CPU
        job.material.student.set_attention("eager")
    if job.ranks.rank:
        set_seed(job.settings.seed + job.ranks.rank)  # each process another dropout
    return model


@contextmanager
def _keeping_last_good(job: _Job, model: FinetuneModel) -> Iterator[None]:
    """On a non-finite loss keep the last good student beside `out`."""
    try:
        yield
    except NonFiniteLoss as error:
        rescued = job.place.out.with_name(job.place.out.name + ".last-good")
        if job.ranks.is_main:
            shutil.rmtree(rescued, ignore_errors=True)
            save_student(model.encoder.cpu(), rescued, card=f"Stopped: {error.message}\n", settings={})
        raise NonFiniteLoss(f"{error.message}; the last good student is in {rescued}", hint=error.hint) from error


def _finish(job: _Job, trained: _Trained) -> FinetuneReport:
    """Put the best student into `out`, and the last one beside it where that is another."""
    place, state = job.place, trained.state
    selection = state.selection
    best_step = selection.best_step if selection.best_score is not None else state.step
    records = read_json_lines(place.metrics)
    curves = place.work / "curves.png"
    draw_curves(records, curves)

    def publish(target: Path, step: int) -> FinetuneReport:
        report = _report(job, trained, records, step)
        facts = {"run": trained.run, **_resolved(job, report)}
        student = job.material.student
        card, beside = finetune_card(student, facts), (place.metrics, place.speed, curves)
        place.publish(lambda folder: save_student(student, folder, card=card, settings=facts, beside=beside), target)
        return report

    if best_step != state.step:
        publish(place.last, state.step)
        state.model.load_state_dict(load_tensors(place.best(best_step)))
        console.log(f"kept the student of step {best_step:,}; the last one is in {place.last}")
    report = publish(place.out, best_step)
    place.remove_work()
    _tell(report)
    return report


def _report(job: _Job, trained: _Trained, records: list[dict[str, Any]], step: int) -> FinetuneReport:
    """Measure the student as it is now, which is that of `step`."""
    material, held_out, student = job.material, job.held_out, job.material.student
    accuracy = None
    if len(held_out) >= LEAST_HELD_OUT:
        accuracy, _ = HeldOutTriples(material.triplets, held_out, student, job.runtime).evaluate(student)
    at = next(record for record in reversed(records) if record["kind"] == "step" and record["step"] == step)
    scores = {record["step"]: record["dev_score"] for record in records if record["kind"] == "evaluation"}
    return FinetuneReport(
        folder=job.place.out,
        num_triples=len(material.triplets) - len(held_out),
        num_steps=trained.state.step,
        seconds=trained.seconds,
        final_loss=at["loss"],
        logit_scale=trained.state.model.scale.item(),
        kept_step=step,
        dev_set=trained.dev_set,
        dev_score=scores.get(step),
        start_score=trained.start_score,
        held_out_accuracy=accuracy,
        agreement=material.agreement(held_out, job.runtime),
    )


def _tell(report: FinetuneReport) -> None:
    if report.held_out_accuracy is not None:
        console.log(f"held-out anchors that pick their positive: {report.held_out_accuracy:.2f} %")
    if report.agreement:
        console.log(f"agreement with the teacher on held-out anchors: {report.agreement}")
    if report.setback:
        console.warn(report.setback)


def _resolved(job: _Job, report: FinetuneReport) -> dict[str, Any]:
    """All that is needed to run this again, and what came of it, for `distilcse.json` and the card."""
    import transformers

    triplets, runtime = job.material.triplets, job.runtime
    return {
        "stage": "finetune",
        "versions": {"distilcse": __version__, "torch": torch.__version__, "transformers": transformers.__version__},
        "student": {"reference": job.sources.student, "base": job.sources.base},
        "teacher": job.material.teacher_facts,
        "triplets": {
            "inputs": list(job.sources.triplets),
            "num_triples": len(triplets),
            "have_hard_negatives": triplets.has_negatives,
            "num_sentences": len(triplets.sentences),
            "fingerprint": triplets.fingerprint,
            "settings": asdict(job.triplet_settings),
        },
        "settings": asdict(job.settings),
        "runtime": {
            "device": runtime.device,
            "dtype": runtime.dtype,
            "reason": runtime.reason,
            "num_processes": job.ranks.world_size,
        },
        "result": report.as_dict(),
    }
