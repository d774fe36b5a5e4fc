"""Choose an evaluation's tasks, find their data, and read it before any model is loaded."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import senteval
from distilcse_cli import console
from distilcse_cli.config import senteval_folder
from distilcse_cli.errors import UsageError
from distilcse_cli.evaluation.boundary import senteval_errors
from distilcse_cli.evaluation.settings import TASK_SETS, EvalSettings, Mode, one_of
from distilcse_cli.files import sha256_file
from distilcse_cli.paths import expanded
from senteval.loading import TaskData, load_task
from senteval.tasks import TASKS, resolve_tasks

STSB, RAW_STSB = "STSBenchmark", "STSBenchmark-raw"


@dataclass(frozen=True)
class EvalData:
    """Tasks read into memory, shared by all models of an evaluation."""

    folder: Path
    """The one that holds `downstream/`."""
    tasks: tuple[TaskData, ...]
    fingerprints: dict[str, str]
    """By task: sha256 over names and contents of its files."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tasks, in the order in which they were named."""
        return tuple(data.task.name for data in self.tasks)


def choose_tasks(task_set: str | None, tasks: Sequence[str]) -> tuple[str, ...]:
    """Names of tasks, from a task set or a list of names.

    Args:
        task_set: one of `TASK_SETS`; None is `na` if there are names, else `sts`. A set other than
            `na` overrides the names, as in the authors' scripts.
        tasks: each a name, or several separated by commas or blanks.

    Raises:
        UsageError: no such set or task, or no task at all.
    """
    names = [name for part in tasks for name in part.replace(",", " ").split()]
    if task_set is not None:
        one_of("--task-set", task_set, TASK_SETS)
    if task_set not in (None, "na") and names:
        console.warn(f"--tasks is not used, since --task-set {task_set} overrides it")
    if task_set == "na" and not names:
        raise UsageError("--task-set na names no tasks", hint=f"--tasks A,B with some of {', '.join(TASKS)}")
    chosen = names if task_set in (None, "na") and names else [task_set or "sts"]
    with senteval_errors():
        return tuple(task.name for task in resolve_tasks(chosen))


def data_folder(given: Path | None = None) -> Path:
    """The folder that holds `downstream/`: the given one, else the one that `senteval_folder` finds."""
    return senteval_folder() if given is None else expanded(given)


def load_data(names: Sequence[str], folder: Path, settings: EvalSettings) -> EvalData:
    """Check that all files are there, then read them.

    Args:
        names: what `choose_tasks` returned.
        folder: the one that holds `downstream/`.
        settings: the mode decides which splits are needed, `stsb_text` which files STSBenchmark is read from.

    Raises:
        UsageError: raw STSBenchmark text is wanted without that task.
        DataError: files are missing (all are named before any is read), malformed or not of the known size.
    """
    mode = cast(Mode, settings.mode)
    if settings.stsb_text == "raw" and STSB not in names:
        raise UsageError(
            f"--stsb-text raw is of no use without the task {STSB}", hint=f"add it to --tasks, or {RAW_STSB}"
        )
    sources = {name: RAW_STSB if name == STSB and settings.stsb_text == "raw" else name for name in names}
    with senteval_errors():
        senteval.check_data(sources.values(), folder, mode=mode)
        return EvalData(
            folder=folder,
            tasks=tuple(
                load_task(replace(TASKS[source], name=name), folder, mode=mode) for name, source in sources.items()
            ),
            fingerprints={
                name: _fingerprint(senteval.required_files([source], folder, mode=mode), folder)
                for name, source in sources.items()
            },
        )


def _fingerprint(files: Sequence[Path], folder: Path) -> str:
    lines = (f"{file.relative_to(folder).as_posix()} {sha256_file(file)}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
