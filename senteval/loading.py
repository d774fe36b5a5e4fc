"""From task names to rows in memory: list the files that a run needs, check that they exist, read them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from senteval.errors import DataError, UsageError
from senteval.readers import Rows
from senteval.tasks import Part, SplitSpec, Task, resolve_tasks

Mode = Literal["test", "dev", "fasttest"]
Splits = Literal["needed", "all"]
MODES = ("test", "dev", "fasttest")
SPLITS = ("needed", "all")


@dataclass(frozen=True)
class Split:
    """Rows of a split, in the order in which SentEval encodes them.

    The order decides which fold of a cross-validation a sentence belongs to.
    """

    sentences: list[str]
    """N sentences, or the first sentences of N pairs."""
    partners: list[str] | None
    """The second sentences of the pairs; None for single sentences."""
    labels: np.ndarray
    """(N,) gold scores as float64, or class numbers as int64."""

    def __len__(self) -> int:
        return len(self.sentences)


@dataclass(frozen=True)
class TaskData:
    """A task and its splits that a run needs; no splits if the mode reports nothing for it."""

    task: Task
    splits: dict[str, Split]

    def sentences(self) -> Iterator[str]:
        """Yield every sentence of every split, repetitions included: SentEval's `samples`."""
        for split in self.splits.values():
            yield from split.sentences
            yield from split.partners or ()


def required_files(
    tasks: str | Iterable[str], data: Path | str, *, mode: Mode = "test", splits: Splits = "needed"
) -> tuple[Path, ...]:
    """List the files that an evaluation reads, each once, in task order.

    Args:
        tasks: names of tasks or task sets.
        data: the folder that holds `downstream/`.
        mode: `test`, `dev` or `fasttest`.
        splits: `needed` takes only the STS splits that the mode reports, `all` every split.

    Raises:
        UsageError: there is no such task, mode or choice of splits.
    """
    files = (
        Path(data) / file
        for task in resolve_tasks(tasks)
        for split in _chosen_splits(task, mode, splits)
        for part in split.parts
        for file in part.files
    )
    return tuple(dict.fromkeys(files))


def check_data(tasks: str | Iterable[str], data: Path | str, *, mode: Mode = "test", splits: Splits = "needed") -> None:
    """Check that the files of an evaluation exist, before any model is loaded.

    Arguments as for `required_files`.

    Raises:
        DataError: files are missing; one line names them.
        UsageError: there is no such task, mode or choice of splits.
    """
    missing = [file for file in required_files(tasks, data, mode=mode, splits=splits) if not file.is_file()]
    if missing:
        raise _missing(missing, Path(data))


def load_tasks(
    tasks: str | Iterable[str], data: Path | str, *, mode: Mode = "test", splits: Splits = "needed"
) -> tuple[TaskData, ...]:
    """Read the tasks' files, check their sizes, and put their rows in SentEval's order.

    Arguments as for `required_files`.

    Raises:
        DataError: a file is missing, malformed, or has an unexpected number of rows.
        UsageError: there is no such task, mode or choice of splits.
    """
    check_data(tasks, data, mode=mode, splits=splits)
    return tuple(load_task(task, data, mode=mode, splits=splits) for task in resolve_tasks(tasks))


def load_task(task: Task, data: Path | str, *, mode: Mode = "test", splits: Splits = "needed") -> TaskData:
    """Read one task, which need not be in the table; otherwise like `load_tasks`."""
    chosen = _chosen_splits(task, mode, splits)
    return TaskData(task, {split.name: _load_split(split, task, Path(data)) for split in chosen})


def _chosen_splits(task: Task, mode: str, splits: str) -> list[SplitSpec]:
    if mode not in MODES:
        raise UsageError(f"there is no mode {mode!r}", hint=f"one of {', '.join(MODES)}")
    if splits not in SPLITS:
        raise UsageError(f"there is no choice of splits {splits!r}", hint=f"one of {', '.join(SPLITS)}")
    if task.kind != "sts" or splits == "all":
        return list(task.splits)
    reported = task.dev_splits if mode == "dev" else task.test_splits
    return [split for split in task.splits if split.name in reported]


def _load_split(spec: SplitSpec, task: Task, data: Path) -> Split:
    rows = [_read_part(part, task.name, data) for part in spec.parts]
    sentences = [sentence for part in rows for sentence in part.sentences]
    partners = [partner for part in rows for partner in part.partners or ()]
    labels = [label for part in rows for label in part.labels]

    def key(row: int) -> tuple[float, ...]:
        lengths = (_num_tokens(texts[row]) for texts in (sentences, partners) if texts)
        return (*lengths, labels[row])

    # sorted() is stable, as in SentEval: rows with equal keys keep their order in the file
    order = sorted(range(len(labels)), key=key) if task.sort_rows else range(len(labels))
    return Split(
        sentences=[sentences[row] for row in order],
        partners=[partners[row] for row in order] if partners else None,
        labels=np.array([labels[row] for row in order], dtype=np.int64 if task.num_classes else np.float64),
    )


def _read_part(part: Part, task: str, data: Path) -> Rows:
    files = [data / file for file in part.files]
    rows = part.read(files)
    if len(rows.labels) != part.size:
        raise DataError(
            f"{' with '.join(map(str, files))} holds {len(rows.labels)} rows, but {task} has {part.size}",
            hint="restore the file from SentEval's senteval.tar",
            files=files,
        )
    return rows


def _num_tokens(sentence: str) -> int:
    return sentence.count(" ") + 1 if sentence else 0


def _missing(files: Sequence[Path], data: Path) -> DataError:
    names = ", ".join(str(file.relative_to(data)) for file in files[:3])
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    return DataError(
        f"SentEval data is missing in {data}: {names}{more}",
        hint="the data folder must hold downstream/, as unpacked from SentEval's senteval.tar",
        files=files,
    )
