"""A run of any objective, from its settings to the student folder: lock, resume, train, keep the best student."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distilcse_cli import console
from distilcse_cli.files import write_toml
from distilcse_cli.models.folder import save_student, versions
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.ranks import Ranks, joined, own_device
from distilcse_cli.rendezvous import MINUTES
from distilcse_cli.runtime import Runtime, choose_runtime, set_seed
from distilcse_cli.setting import settings_of
from distilcse_cli.training import resume as resuming
from distilcse_cli.training.checkpoint import Checkpoint, load_tensors
from distilcse_cli.training.curves import draw_curves
from distilcse_cli.training.dev import DevSet, choose_dev
from distilcse_cli.training.loop import train
from distilcse_cli.training.metrics import read_json_lines, require_tensorboard
from distilcse_cli.training.model import StudentModel
from distilcse_cli.training.objective import Objective
from distilcse_cli.training.report import Report, card_of
from distilcse_cli.training.run_folder import RunFolder
from distilcse_cli.training.settings import TrainSettings
from distilcse_cli.training.state import TrainState
from distilcse_cli.training.steps import NonFiniteLoss, StepRecord
from distilcse_cli.training.watch import Watch


@dataclass(frozen=True)
class _Trained:
    """The end of training, before any of it is in a student folder."""

    state: TrainState
    run: str
    """The run's mark. Its students carry it."""
    seconds: float


def run(
    stage: type[Objective],
    open_objective: Callable[[Runtime, Ranks], Objective],
    out: Path,
    settings: TrainSettings,
    *,
    typed: dict[str, Any],
    device: str | None = None,
    compute_dtype: str = "auto",
    rendezvous_timeout: float = MINUTES,
    resume: bool = False,
    overwrite: bool = False,
) -> Any:
    """Train a student and save it in `out`. In a group of processes, each one calls this.

    Args:
        stage: the kind of objective.
        open_objective: prepares the data and makes the objective. Called on all processes.
        out: folder for the student.
        settings: those of the stage.
        typed: names and values of everything else that the user chose, such as models and data.
        device, compute_dtype: as for `choose_runtime`.
        rendezvous_timeout: minutes to wait for the other processes.
        resume: continue an interrupted run; if there is none, start one.
        overwrite: replace the student in `out`, and start an interrupted run anew.

    Returns:
        A report of the stage's `report_type`.

    Raises:
        DistilCSEError: the inputs do not fit, `out` is not empty, or the loss is no longer finite. In that
            last case the last good student is kept beside `out`.
        Interrupted: by Ctrl-C or SIGTERM. The run can be resumed.
    """
    runtime = choose_runtime(own_device(device), compute_dtype)
    if settings.tensorboard:
        require_tensorboard()
    folder, asked = RunFolder(out), resuming.asked(typed)
    wanted = resuming.as_typed(stage.name, asked, asdict(settings))
    with joined(runtime, rendezvous_timeout) as ranks, resuming.hint_at_resume(folder, ranks), ExitStack() as held:
        ranks.on_main(lambda: held.enter_context(folder.locked()))
        finished, checkpoint = ranks.on_main(lambda: resuming.enter(folder, wanted, resume=resume, overwrite=overwrite))
        if finished:
            console.log(f"{out} is already finished: nothing to do")
            return resuming.report_of(finished, stage, folder)
        console.log(f"computing on {runtime}{ranks}")
        objective = open_objective(runtime, ranks)
        dev = choose_dev(objective.student, runtime, ranks, fallback=objective.dev_fallback, unit=objective.unit)
        machine = {"nproc": ranks.world_size, "device": device, "compute_dtype": compute_dtype}
        config = {**typed, "out": out, **_options(settings), **machine, **objective.chosen}
        trained = _train(objective, dev, folder, checkpoint, config)
        return ranks.on_main(lambda: _finish(objective, dev, folder, asked, trained))


def models_as_typed(student: ModelRef, teacher: ModelRef | None) -> dict[str, Any]:
    """What the user chose about the models, under the names of the options; for `typed`."""
    prompts = {
        "prompt": student.prompt,
        "prompt_name": student.prompt_name,
        "teacher_prompt": teacher and teacher.prompt,
        "teacher_prompt_name": teacher and teacher.prompt_name,
    }
    return {
        **{name: value for name, value in prompts.items() if value is not None},
        "pooler": student.pooler,
        "teacher_pooler": teacher and teacher.pooler,
        "revision": student.revision,
        "teacher_revision": teacher and teacher.revision,
        "base": student.base,
        "tokenizer": student.tokenizer,
    }


def _options(settings: TrainSettings) -> dict[str, Any]:
    """The settings that the command line has, for `distilcse.toml`."""
    return {name: getattr(settings, name) for name, one in settings_of(type(settings)).items() if not one.internal}


def _train(
    objective: Objective, dev: DevSet | None, folder: RunFolder, checkpoint: Checkpoint | None, config: dict[str, Any]
) -> _Trained:
    """Train from the start or from a checkpoint, with a progress line."""
    plan, ranks = objective.plan, objective.ranks
    run = ranks.on_main(lambda: resuming.identify(objective, dev, checkpoint))
    objective.begin(dev)
    state = new_state(objective)
    if checkpoint:
        resuming.restore(state, checkpoint, ranks)
    watch = Watch(
        folder,
        dev,
        objective.settings,
        steps_per_epoch=plan.steps_per_epoch,
        run=run,
        facts=checkpoint.facts if checkpoint else {},
        step=state.step,
        ranks=ranks,
    )
    if ranks.is_main:
        write_toml(folder.settings, config)
    num_rows, num_done = plan.num_rows_of(plan.num_steps), plan.num_rows_of(state.step)
    with closing(watch), console.Progress(objective.name, num_rows, objective.unit, initial=num_done) as progress:

        def on_step(record: StepRecord) -> None:
            facts = f"loss {record.loss:.4f}, lr {record.lr:.2e}, scale {record.scale:.2f}"
            progress.update(plan.num_rows_of(record.step) - plan.num_rows_of(record.step - 1), facts)

        with ranks.told_once(NonFiniteLoss), _keeping_last_good(folder, state.model, ranks):
            train(objective, state, on_step, watcher=watch)
    return _Trained(state, run["run"], watch.stopwatch.seconds)


def new_state(objective: Objective) -> TrainState:
    """The state before the first step."""
    seed, runtime, ranks = objective.settings.seed, objective.runtime, objective.ranks
    set_seed(seed)
    model = objective.new_model()
    if runtime.device == "cpu" and runtime.dtype == "bfloat16":
        # the backward pass of the fused kernel takes twice as long in bf16; in fp32 it is the faster one
        model.encoder.set_attention("eager")
    if ranks.rank:
        set_seed(seed + ranks.rank)  # other dropout in each process
    return TrainState(model, objective.new_bank())


@contextmanager
def _keeping_last_good(folder: RunFolder, model: StudentModel, ranks: Ranks) -> Iterator[None]:
    """If the loss is no longer finite, save the last good student beside `out`."""
    try:
        yield
    except NonFiniteLoss as error:
        encoder, card = model.encoder.cpu(), f"Stopped: {error.message}\n"
        if ranks.is_main:
            folder.publish(lambda path: save_student(encoder, path, card=card, settings={}), folder.last_good)
        message = f"{error.message}; the last good student is in {folder.last_good}"
        raise NonFiniteLoss(message, hint=error.hint) from error


def _finish(
    objective: Objective, dev: DevSet | None, folder: RunFolder, asked: dict[str, Any], trained: _Trained
) -> Report:
    """Put the best student into `out`, and the last one beside it if that is another."""
    state, selection = trained.state, trained.state.selection
    best_step = selection.best_step if selection.best_score is not None else state.step
    records = read_json_lines(folder.metrics)
    draw_curves(records, folder.curves, dev_measure=dev.measure if dev else "")
    losses = {record["step"]: record["loss"] for record in records if record["kind"] == "step"}
    scores = {record["step"]: record["dev_score"] for record in records if record["kind"] == "evaluation"}

    def publish(target: Path, step: int) -> Report:
        student = state.model.finished
        report = objective.report_type(
            folder=folder.out,
            num_steps=state.step,
            seconds=trained.seconds,
            final_loss=losses[step],
            logit_scale=state.model.scale().item(),
            kept_step=step,
            dev_set=dev.name if dev else None,
            dev_score=scores.get(step),
            **objective.measured(student),
        )
        facts = {"run": trained.run, "asked": asked, **_resolved(objective), "result": report.as_dict()}
        card, beside = card_of(student, facts, report, target), folder.beside()
        dtype = objective.settings.save_dtype
        folder.publish(
            lambda path: save_student(student, path, card=card, settings=facts, beside=beside, dtype=dtype), target
        )
        return report

    if best_step != state.step:
        publish(folder.last, state.step)
        state.model.load_state_dict(load_tensors(folder.best(best_step)))
        console.log(f"kept the student of step {best_step:,}; the last one is in {folder.last}")
    report = publish(folder.out, best_step)
    folder.remove_work()
    objective.log_result(report)
    return report


def _resolved(objective: Objective) -> dict[str, Any]:
    """Everything that repeats this run, for `distilcse.json` and the card."""
    runtime = objective.runtime
    return {
        "stage": objective.name,
        "versions": versions(),
        **objective.facts,
        "settings": asdict(objective.settings),
        "runtime": {
            "device": runtime.device,
            "dtype": runtime.dtype,
            "reason": runtime.reason,
            "machine": runtime.machine,
            "num_processes": objective.ranks.world_size,
        },
    }
