"""How a run survives a stop: what is saved, what is restored, and which command may resume which run.

These must survive, and `save` and `restore` handle all of them:

- weights, optimizer, memory bank, counters, the best score so far, and each process's random
  generators (`TrainState`);
- the weights of the best student so far, which `Watch` writes to OUT.run/best;
- the length of the metric files and the seconds of training (`extra`, from `Watch`);
- the identity of the run.

A command may resume a run if it is the same run: the same stage, the same settings except those of
`FREE_TO_CHANGE`, and the same inputs. An unfinished run compares inputs by content, so a renamed file
does not matter. For a finished one nothing is opened, so inputs are compared as they were typed.
"""

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from signal import SIGINT
from typing import Any

from distilcse_cli import console
from distilcse_cli.errors import DataError, UsageError
from distilcse_cli.files import read_json, require_fields
from distilcse_cli.ranks import Ranks
from distilcse_cli.training.checkpoint import Checkpoint
from distilcse_cli.training.dev import DevSet
from distilcse_cli.training.objective import Objective
from distilcse_cli.training.report import Report
from distilcse_cli.training.run_folder import FACTS, RunFolder
from distilcse_cli.training.state import TrainState
from distilcse_cli.training.steps import Interrupted

FREE_TO_CHANGE = ("micro_batch_tokens", "save_every", "tensorboard")
"""Settings that change no number of the result."""
_UNRECORDED = {"save_dtype": "float32"}
"""Settings that students of early releases do not name, and what was done."""
_ANEW = "start anew with --overwrite"


def enter(
    folder: RunFolder, wanted: dict[str, Any], *, resume: bool, overwrite: bool
) -> tuple[dict[str, Any] | None, Checkpoint | None]:
    """Find what there is of the run in a locked folder, and make sure that nothing is in the way.

    Args:
        folder: of the run.
        wanted: the run `as_typed`.
        resume: continue from the newest checkpoint, if there is one.
        overwrite: the student in `out` and, without `resume`, an interrupted run may be replaced.

    Returns:
        The `distilcse.json` of a finished student of this run, and the checkpoint to continue from; at most
        one of them.

    Raises:
        DataError: something is in the way.
        UsageError: the finished student was made with other settings.
    """
    checkpoint = None if overwrite and not resume else folder.checkpoints.latest()
    if checkpoint and not resume:
        raise DataError(
            f"{folder.work} holds a run interrupted at step {checkpoint.facts['step']}",
            hint="--resume continues it, --overwrite starts anew",
        )
    finished = _finished(folder, checkpoint) if resume else None
    if finished is not None:
        stage = {"stage": finished.get("stage")}
        require_same_run(stage, {"stage": wanted["stage"]})  # of another stage, all else would differ too
        settings = compared(_UNRECORDED | finished.get("settings", {}))
        require_same_run(stage | finished.get("asked", {}) | settings, wanted)
        folder.remove_work()
        return finished, None
    folder.require_free(overwrite=overwrite, own_run=checkpoint.facts["run"] if checkpoint else None)
    if checkpoint is None:
        folder.clear()
        if resume:
            console.log(f"no checkpoint in {folder.work}: starting from the beginning")
    return None, checkpoint


def _finished(folder: RunFolder, checkpoint: Checkpoint | None) -> dict[str, Any] | None:
    """The `distilcse.json` of the student in `out`; None if there is none, or an unfinished run beside it."""
    path = folder.out / FACTS
    if not path.exists():
        return None
    facts = read_json(path)
    # a checkpoint of the same run: it was killed after its last write, before it removed its work folder
    for name in ("asked", "settings"):  # which those of early releases have not
        require_fields(path, {name: facts.get(name, {})}, {name: dict}, hint=_ANEW)
    return facts if checkpoint is None or checkpoint.facts["run"] == facts.get("run") else None


def report_of(finished: dict[str, Any], stage: type[Objective], folder: RunFolder) -> Report:
    """The report of a finished student, wherever its folder is now.

    Raises:
        DataError: its `distilcse.json` has none, or a damaged one.
    """
    path = folder.out / FACTS
    require_fields(path, finished, {"result": dict}, hint=_ANEW)
    try:
        return replace(stage.report_type.from_dict(finished["result"]), folder=folder.out)
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: result is damaged: {error}", hint=_ANEW) from error


def asked(typed: dict[str, Any]) -> dict[str, Any]:
    """What the user typed, in the values of JSON, but for paths of folders: what is in them counts, not where."""
    values = {name: value for name, value in typed.items() if not isinstance(value, Path)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def as_typed(stage: str, asked: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The identity of a run by what the user typed."""
    return {"stage": stage, **asked, **compared(settings)}


def identify(objective: Objective, dev: DevSet | None, checkpoint: Checkpoint | None) -> dict[str, Any]:
    """The identity of a run by the content of its inputs, and a random mark, for all its checkpoints.

    Raises:
        UsageError: the checkpoint is of another run.
    """
    identity = {
        "stage": objective.name,
        **{name: value for name, value in compared(asdict(objective.settings)).items() if name != "save_dtype"},
        **objective.marks,
        "processes": objective.ranks.world_size,
        "device": objective.runtime.device.partition(":")[0],
        "compute_dtype": objective.runtime.dtype,
        "development scores": dev.name if dev else None,
    }
    if checkpoint is None:
        return {"run": secrets.token_hex(8), "identity": identity}
    require_same_run(checkpoint.facts["identity"], identity)
    return {name: checkpoint.facts[name] for name in ("run", "identity")}


def compared(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that must be the same when a run is resumed."""
    return {name: value for name, value in settings.items() if name not in FREE_TO_CHANGE}


def require_same_run(saved: dict[str, Any], now: dict[str, Any]) -> None:
    """Compare the identity of a saved run with that of the command.

    Raises:
        UsageError: the names that differ, each with both values.
    """
    differing = [
        f"{name} was {saved.get(name)!r}, is {now.get(name)!r}"
        for name in dict.fromkeys([*saved, *now])
        if saved.get(name) != now.get(name)
    ]
    if differing:
        raise UsageError(
            f"cannot resume with other settings: {'; '.join(differing)}",
            hint="use those of the saved run, or start anew with --overwrite",
        )


def save(folder: RunFolder, state: TrainState, ranks: Ranks, extra: dict[str, Any]) -> None:
    """Write a checkpoint. Every process calls it; rank 0 writes for all.

    Args:
        folder: of the run.
        state: the state to save.
        ranks: the processes.
        extra: further facts, for rank 0: the run's identity, and what `Watch` needs.
    """
    everyone = ranks.gathered(state.own_tensors())
    if not ranks.is_main:
        return
    tensors = state.tensors()
    for rank, own in enumerate(everyone):
        tensors |= {f"{name}-{rank}": group for name, group in own.items()}
    folder.checkpoints.save(state.step, tensors, {**state.facts(), **extra})
    folder.prune_best({kept["selection"]["best_step"] for kept in folder.checkpoints.facts()})


def restore(state: TrainState, checkpoint: Checkpoint, ranks: Ranks) -> None:
    """Turn a new state into the saved one."""
    own = state.own_tensors()
    state.load(lambda name: checkpoint.tensors(f"{name}-{ranks.rank}" if name in own else name), checkpoint.facts)
    console.log(f"resuming after step {state.step:,}")


@contextmanager
def hint_at_resume(folder: RunFolder, ranks: Ranks) -> Iterator[None]:
    """Say, on rank 0, how to continue a run that is stopped inside the block.

    Raises:
        Interrupted: for every `Interrupted` and KeyboardInterrupt, with the folder and the hint.
    """
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as error:
        stopped = error if isinstance(error, Interrupted) else Interrupted("stopped", getattr(error, "by", SIGINT))
        if not ranks.is_main:
            sys.exit(stopped.exit_code)
        if folder.checkpoints:
            message = f"{stopped.message}; progress is saved in {folder.work}"
            raise Interrupted(message, stopped.by, hint="the same command with --resume continues from there") from None
        hint = "the same command starts it again; what it has prepared is kept"
        raise Interrupted(f"{stopped.message} before the first checkpoint", stopped.by, hint=hint) from None
