"""What both stages do around their training: claim a folder, go on or start, keep the best student.

A stage says what it trains, on what, and what it reports of it (`Stage`); `run_stage` does the rest.
"""

import secrets
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch

from distilcse_cli import __version__, console
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.folder import save_student
from distilcse_cli.ranks import Ranks, joined, own_device
from distilcse_cli.runtime import Runtime, choose_runtime, set_seed
from distilcse_cli.training.batches import Plan
from distilcse_cli.training.checkpoint import Checkpoint, load_tensors
from distilcse_cli.training.curves import draw_curves
from distilcse_cli.training.metrics import read_json_lines, require_tensorboard
from distilcse_cli.training.report import StageReport
from distilcse_cli.training.run_folder import RunFolder, compared, require_same_run, resumable
from distilcse_cli.training.selection import DevSet
from distilcse_cli.training.settings import DistillSettings, FinetuneSettings
from distilcse_cli.training.state import StageModel, TrainState
from distilcse_cli.training.steps import NonFiniteLoss, StepRecord, Watcher
from distilcse_cli.training.watch import Watch

Model = TypeVar("Model", bound=StageModel)
Report = TypeVar("Report", bound=StageReport)


@dataclass(kw_only=True)
class Stage(ABC, Generic[Model, Report]):
    """A stage with all that it works on opened. What is abstract is what the stages differ in."""

    report_type: ClassVar[type[StageReport]]
    unit: ClassVar[str]
    """What a batch has so many of, in the plural."""

    settings: DistillSettings | FinetuneSettings
    runtime: Runtime
    ranks: Ranks
    student: SentenceEncoder
    plan: Plan
    dev: DevSet | None
    """What students are compared by."""

    @property
    def name(self) -> str:
        """The command's name."""
        return self.report_type.stage

    @abstractmethod
    def marks(self) -> dict[str, Any]:
        """Fingerprints of what it works on, by names for the user."""

    def begin(self) -> None:
        """Called on all processes when it is known to be the run that was asked for, before there is a model."""

    @abstractmethod
    def new_model(self) -> Model:
        """The model as it is before the first step, on the runtime's device."""

    @abstractmethod
    def train(self, model: Model, on_step: Callable[[StepRecord], None], watcher: Watcher) -> TrainState:
        """Run the stage's loop."""

    @abstractmethod
    def report(self, of_both: dict[str, Any]) -> Report:
        """Measure the student as it is now.

        Args:
            of_both: the fields of `StageReport`, without the agreement.
        """

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """The stage's own part of `distilcse.json`."""

    @abstractmethod
    def card(self, facts: dict[str, Any]) -> str:
        """The model card, from the whole of `distilcse.json`."""

    def saved(self, model: Model) -> SentenceEncoder:  # noqa: ARG002  for a stage that saves more than the student
        """What goes into the folder, with the weights that `model` has now."""
        return self.student

    def tell(self, report: Report) -> None:
        """Say what the kept student is worth."""


@dataclass(frozen=True)
class _Trained(Generic[Model]):
    """What training left, before any of it is a student folder."""

    model: Model
    state: TrainState
    run: str
    """The run's own mark, by which its student is known."""
    seconds: float


def run_stage(
    open_stage: Callable[[Runtime, Ranks], Stage[Any, Report]],
    report_type: type[Report],
    out: Path,
    settings: DistillSettings | FinetuneSettings,
    *,
    asked: dict[str, Any],
    device: str | None,
    compute_dtype: str,
    resume: bool,
    overwrite: bool,
) -> Report:
    """Train a student and save it in `out`; one process of several, if this is one.

    Args:
        open_stage: gets ready what the stage works on; called on all processes.
        report_type: that of the stage.
        out: folder for the student.
        settings: of the stage.
        asked: what else tells this run from others, `as_typed`.
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
    place, wanted = RunFolder(out), {"stage": report_type.stage, **asked, **compared(asdict(settings))}
    with joined(runtime) as ranks, resumable(place, ranks):
        finished, checkpoint = ranks.on_main(lambda: place.enter(wanted, resume=resume, overwrite=overwrite))
        if finished:
            console.log(f"{out} is finished already, nothing to do")
            return report_type.from_dict(finished["result"])
        console.log(f"computing on {runtime}{ranks}")
        stage = open_stage(runtime, ranks)
        trained = _train(stage, place, checkpoint)
        return ranks.on_main(lambda: _finish(stage, place, asked, trained))


def _train(stage: Stage[Model, Any], place: RunFolder, checkpoint: Checkpoint | None) -> _Trained[Model]:
    """Train from the start or from a checkpoint, with a progress line."""
    plan, ranks = stage.plan, stage.ranks
    run = ranks.on_main(lambda: _identify(stage, checkpoint))
    stage.begin()
    model = _new_model(stage)
    watch = Watch(
        place,
        stage.dev,
        stage.settings,
        steps_per_epoch=plan.steps_per_epoch,
        run=run,
        checkpoint=checkpoint,
        ranks=ranks,
    )
    done = plan.num_rows_of(checkpoint.facts["step"]) if checkpoint else 0
    sentences = console.Progress(stage.name, plan.num_rows_of(plan.num_steps), stage.unit, initial=done)
    with closing(watch), sentences as progress:

        def on_step(record: StepRecord) -> None:
            facts = f"loss {record.loss:.4f}, lr {record.lr:.2e}, scale {record.scale:.2f}"
            progress.update(plan.num_rows_of(record.step) - plan.num_rows_of(record.step - 1), facts)

        with ranks.told_once(NonFiniteLoss), _keeping_last_good(place, model, ranks):
            state = stage.train(model, on_step, watch)
    return _Trained(model, state, run["run"], watch.stopwatch.seconds)


def _identify(stage: Stage[Any, Any], checkpoint: Checkpoint | None) -> dict[str, Any]:
    """The marks of this run, which all its checkpoints carry; a resumed run has to bear the same."""
    identity = {
        "stage": stage.name,
        **compared(asdict(stage.settings)),
        **stage.marks(),
        "processes": stage.ranks.world_size,
        "device": stage.runtime.device.partition(":")[0],
        "compute_dtype": stage.runtime.dtype,
        "development scores": stage.dev.name if stage.dev else None,
    }
    if checkpoint is None:
        return {"run": secrets.token_hex(8), "identity": identity}
    require_same_run(checkpoint.facts["identity"], identity)
    return {name: checkpoint.facts[name] for name in ("run", "identity")}


def _new_model(stage: Stage[Model, Any]) -> Model:
    set_seed(stage.settings.seed)
    model = stage.new_model()
    if stage.runtime.device == "cpu" and stage.runtime.dtype == "bfloat16":
        # the backward pass of the fused kernel takes twice as long in bf16; in fp32 it is the faster one
        stage.student.set_attention("eager")
    if stage.ranks.rank:
        set_seed(stage.settings.seed + stage.ranks.rank)  # each process another dropout
    return model


@contextmanager
def _keeping_last_good(place: RunFolder, model: StageModel, ranks: Ranks) -> Iterator[None]:
    """On a non-finite loss keep the last good student beside `out`."""
    try:
        yield
    except NonFiniteLoss as error:
        rescued = place.out.with_name(place.out.name + ".last-good")
        if ranks.is_main:
            shutil.rmtree(rescued, ignore_errors=True)
            save_student(model.encoder.cpu(), rescued, card=f"Stopped: {error.message}\n", settings={})
        raise NonFiniteLoss(f"{error.message}; the last good student is in {rescued}", hint=error.hint) from error


def _finish(stage: Stage[Model, Report], place: RunFolder, asked: dict[str, Any], trained: _Trained[Model]) -> Report:
    """Put the best student into `out`, and the last one beside it where that is another."""
    state, selection, dev = trained.state, trained.state.selection, stage.dev
    best_step = selection.best_step if selection.best_score is not None else state.step
    records = read_json_lines(place.metrics)
    curves = place.work / "curves.png"
    draw_curves(records, curves, dev_measure=dev.measure if dev else "")
    beside = [place.metrics, place.speed, curves, *place.event_files()]

    def publish(target: Path, step: int) -> Report:
        at = next(record for record in reversed(records) if record["kind"] == "step" and record["step"] == step)
        scores = {record["step"]: record["dev_score"] for record in records if record["kind"] == "evaluation"}
        report = stage.report(
            {
                "folder": place.out,
                "num_steps": state.step,
                "seconds": trained.seconds,
                "final_loss": at["loss"],
                "logit_scale": state.model.scale.item(),
                "kept_step": step,
                "dev_set": dev.name if dev else None,
                "dev_score": scores.get(step),
            }
        )
        facts = {
            "run": trained.run,
            "asked": asked,
            **_resolved(stage),
            "result": report.as_dict(),
        }
        student, card = stage.saved(trained.model), stage.card(facts)
        place.publish(lambda folder: save_student(student, folder, card=card, settings=facts, beside=beside), target)
        return report

    if best_step != state.step:
        publish(place.last, state.step)
        state.model.load_state_dict(load_tensors(place.best(best_step)))
        console.log(f"kept the student of step {best_step:,}; the last one is in {place.last}")
    report = publish(place.out, best_step)
    place.remove_work()
    stage.tell(report)
    return report


def _resolved(stage: Stage[Any, Any]) -> dict[str, Any]:
    """All that is needed to run this again, for `distilcse.json` and the card."""
    import transformers

    runtime = stage.runtime
    return {
        "stage": stage.name,
        "versions": {"distilcse": __version__, "torch": torch.__version__, "transformers": transformers.__version__},
        **stage.facts(),
        "settings": asdict(stage.settings),
        "runtime": {
            "device": runtime.device,
            "dtype": runtime.dtype,
            "reason": runtime.reason,
            "num_processes": stage.ranks.world_size,
        },
    }
