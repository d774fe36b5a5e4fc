"""Stage 1 from the command's arguments to the student folder."""

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
from distilcse_cli.config import CorpusSettings, DistillSettings
from distilcse_cli.models.folder import save_student
from distilcse_cli.ranks import Ranks, joined, own_device
from distilcse_cli.runtime import Runtime, choose_runtime, set_seed
from distilcse_cli.teacher.agreement import Agreement
from distilcse_cli.training.card import model_card
from distilcse_cli.training.checkpoint import Checkpoint, load_tensors
from distilcse_cli.training.curves import draw_curves
from distilcse_cli.training.loop import Inputs, plan_steps, train
from distilcse_cli.training.metrics import read_json_lines, require_tensorboard
from distilcse_cli.training.model import DistillModel
from distilcse_cli.training.prepare import DistillSources, Material, choose_dev, hold_out, prepare
from distilcse_cli.training.run_folder import RunFolder, require_same_run, resumable
from distilcse_cli.training.state import TrainState
from distilcse_cli.training.steps import NonFiniteLoss, StepRecord
from distilcse_cli.training.watch import Watch

__all__ = ["DistillReport", "DistillSources", "hold_out", "run"]

FREE_TO_CHANGE = ("micro_batch_tokens", "save_every", "tensorboard")
"""Settings that a resumed run may have otherwise."""


@dataclass(frozen=True, kw_only=True)
class DistillReport:
    """What stage 1 made."""

    folder: Path
    num_sentences: int
    num_steps: int
    seconds: float
    final_loss: float
    logit_scale: float
    kept_step: int
    """Step whose student this is."""
    dev_set: str | None
    """What students were compared by."""
    dev_score: float | None
    agreement: Agreement | None

    def as_dict(self) -> dict[str, Any]:
        """For `--json` and `distilcse.json`."""
        return asdict(self) | {"folder": str(self.folder)}

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> "DistillReport":
        """The report whose `as_dict` this is."""
        agreed = facts["agreement"]
        return cls(**{**facts, "folder": Path(facts["folder"]), "agreement": Agreement(**agreed) if agreed else None})


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
            return DistillReport.from_dict(finished["result"])
        console.log(f"computing on {runtime}" + (f", {ranks.world_size} processes" if ranks.world_size > 1 else ""))
        job = _Job(place, sources, settings, corpus_settings, runtime, ranks)
        material = prepare(sources, settings, corpus_settings, runtime, ranks)
        trained = _train(job, material, checkpoint)
        return ranks.on_main(lambda: _finish(job, material, trained))


@dataclass(frozen=True)
class _Job:
    """What was asked for, and where."""

    place: RunFolder
    sources: DistillSources
    settings: DistillSettings
    corpus_settings: CorpusSettings
    runtime: Runtime
    ranks: Ranks


@dataclass(frozen=True)
class _Trained:
    """What training left, before any of it is a student folder."""

    state: TrainState
    model: DistillModel
    run: str
    """The run's own mark, by which its student is known."""
    seconds: float
    num_sentences: int
    held_out: np.ndarray
    dev_set: str | None


def _claim(
    place: RunFolder, settings: DistillSettings, *, resume: bool, overwrite: bool
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


def _train(job: _Job, material: Material, checkpoint: Checkpoint | None) -> _Trained:
    """Train from the start or from a checkpoint, with a progress line."""
    settings, ranks = job.settings, job.ranks
    training_rows, held_out = hold_out(len(material.corpus), settings)
    inputs = Inputs(
        tokens=material.tokens,
        teacher=material.teacher,
        rows=training_rows,
        settings=settings,
        runtime=job.runtime,
        ranks=ranks,
    )
    plan = plan_steps(inputs)
    dev = choose_dev(material, held_out, job.runtime, ranks)
    dev_set = dev.name if dev else None
    run = ranks.on_main(lambda: _identify(job, material, checkpoint, dev_set))
    model = _new_model(job, material)
    watch = Watch(
        job.place, dev, settings, steps_per_epoch=plan.steps_per_epoch, run=run, checkpoint=checkpoint, ranks=ranks
    )
    done = plan.num_sentences_of(checkpoint.facts["step"]) if checkpoint else 0
    with console.Progress("distill", plan.num_sentences_of(plan.num_steps), "sentences", initial=done) as progress:

        def on_step(record: StepRecord) -> None:
            facts = f"loss {record.loss:.4f}, lr {record.lr:.2e}, scale {record.scale:.2f}"
            progress.update(record.num_sentences, facts)

        with ranks.told_once(NonFiniteLoss), _keeping_last_good(job, model):
            state = train(model, inputs, on_step, watcher=watch)
    watch.close()
    return _Trained(state, model, run["run"], watch.stopwatch.seconds, len(training_rows), held_out, dev_set)


def _identify(job: _Job, material: Material, checkpoint: Checkpoint | None, dev_set: str | None) -> dict[str, Any]:
    """The marks of this run, which all its checkpoints carry; a resumed run has to bear the same."""
    identity = {
        **_compared(asdict(job.settings)),
        "teacher": material.store.manifest["teacher_fingerprint"],
        "student": material.student.fingerprint,
        "corpus": material.corpus.fingerprint,
        "processes": job.ranks.world_size,
        "device": job.runtime.device.partition(":")[0],
        "compute_dtype": job.runtime.dtype,
        "development scores": dev_set,
    }
    if checkpoint is None:
        return {"run": secrets.token_hex(8), "identity": identity}
    require_same_run(checkpoint.facts["identity"], identity)
    return {name: checkpoint.facts[name] for name in ("run", "identity")}


def _new_model(job: _Job, material: Material) -> DistillModel:
    set_seed(job.settings.seed)
    model = DistillModel(material.student, material.teacher.width, job.settings).to(job.runtime.torch_device())
    if job.runtime.device == "cpu":
        # the backward pass of the fused kernel alone took 46 % of a step on a CPU
        material.student.set_attention("eager")
    if job.ranks.rank:
        set_seed(job.settings.seed + job.ranks.rank)  # each process another dropout
    return model


@contextmanager
def _keeping_last_good(job: _Job, model: DistillModel) -> Iterator[None]:
    """On a non-finite loss keep the last good student beside `out`."""
    try:
        yield
    except NonFiniteLoss as error:
        rescued = job.place.out.with_name(job.place.out.name + ".last-good")
        if job.ranks.is_main:
            shutil.rmtree(rescued, ignore_errors=True)
            save_student(model.encoder.cpu(), rescued, card=f"Stopped: {error.message}\n", settings={})
        raise NonFiniteLoss(f"{error.message}; the last good student is in {rescued}", hint=error.hint) from error


def _finish(job: _Job, material: Material, trained: _Trained) -> DistillReport:
    """Put the best student into `out`, and the last one beside it where that is another."""
    place, state = job.place, trained.state
    selection, student = state.selection, material.student
    best_step = selection.best_step if selection.best_score is not None else state.step
    records = read_json_lines(place.metrics)
    curves = place.work / "curves.png"
    draw_curves(records, curves)
    beside = (place.metrics, place.speed, curves)

    def publish(target: Path, step: int) -> DistillReport:
        agreed = material.agreement(trained.held_out, job.runtime)
        at = next(record for record in reversed(records) if record["kind"] == "step" and record["step"] == step)
        scores = {record["step"]: record["dev_score"] for record in records if record["kind"] == "evaluation"}
        report = DistillReport(
            folder=place.out,
            num_sentences=trained.num_sentences,
            num_steps=state.step,
            seconds=trained.seconds,
            final_loss=at["loss"],
            logit_scale=state.model.scale.item(),
            kept_step=step,
            dev_set=trained.dev_set,
            dev_score=scores.get(step),
            agreement=agreed,
        )
        facts = {"run": trained.run, **_resolved(job, material, report)}
        card = model_card(student, facts)
        whole = trained.model.with_projection() if job.settings.keep_projection else student
        place.publish(lambda folder: save_student(whole, folder, card=card, settings=facts, beside=beside), target)
        return report

    if best_step != state.step:
        publish(place.last, state.step)
        state.model.load_state_dict(load_tensors(place.best(best_step)))
        console.log(f"kept the student of step {best_step:,}; the last one is in {place.last}")
    report = publish(place.out, best_step)
    place.remove_work()
    if report.agreement:
        console.log(f"agreement with the teacher on {len(trained.held_out):,} held-out sentences: {report.agreement}")
    return report


def _resolved(job: _Job, material: Material, report: DistillReport) -> dict[str, Any]:
    """All that is needed to run this again, and what came of it, for `distilcse.json` and the card."""
    import transformers

    sources, corpus, runtime = job.sources, material.corpus, job.runtime
    return {
        "stage": "distill",
        "versions": {"distilcse": __version__, "torch": torch.__version__, "transformers": transformers.__version__},
        "teacher": material.teacher_facts,
        "student": {
            "reference": sources.student,
            "base": sources.base,
            "keep_layers": sources.keep_layers and list(sources.keep_layers),
        },
        "corpus": {
            "inputs": list(sources.corpus),
            "num_sentences": len(corpus),
            "fingerprint": corpus.fingerprint,
            "settings": asdict(job.corpus_settings),
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
