"""What a run writes down: metrics, and numbers that show whether the student still learns.

`metrics.jsonl` has a line for each step and each evaluation, and nothing that depends on the clock:
a resumed run writes the same file as an uninterrupted one. `speed.jsonl` has what does depend on it.
"""

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from distilcse_cli import console
from distilcse_cli.errors import DataError, UsageError

COLLAPSED_SPREAD = 0.05
COLLAPSED_RANK = 2.0
COSINES = {"teacher_cosine": "mean cosine to teacher", "positive_cosine": "mean cosine of anchor and positive"}
_NUMBERS_OF = {
    "step": ("loss", "scale", "grad_norm"),
    "evaluation": ("dev_score", "effective_rank"),
}
"""What the report and the curves read, by kind of record."""
_ANEW = "start the run anew with --overwrite"
_MOST_ROWS = 2048


def spread(embeddings: np.ndarray) -> float:
    """Standard deviation of unit rows over the N sentences: 0 if all are the same, 1 at most.

    Args:
        embeddings: (N, H) of any length.
    """
    unit = _unit(embeddings)
    return float(np.sqrt(unit.var(axis=0).sum()))


def effective_rank(embeddings: np.ndarray) -> float:
    """Number of directions that the embeddings use: e to the entropy of their covariance's spectrum.

    1 if they lie on a line, H if they fill all directions equally (Roy and Vetterli, 2007).

    Args:
        embeddings: (N, H) of any length.
    """
    rows = _unit(embeddings[:_MOST_ROWS])
    rows = rows - rows.mean(axis=0)
    spectrum = np.linalg.svd(rows, compute_uv=False) ** 2
    if spectrum.sum() < 1e-12:
        return 1.0
    shares = spectrum / spectrum.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


class JsonLines:
    """A file of JSON lines that can be cut back to its length at a checkpoint.

    Args:
        path: made if missing.
        size: bytes of the file to keep. Lines that a killed run wrote after its checkpoint are dropped.

    Raises:
        DataError: the file has fewer bytes.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        if size and (not path.is_file() or path.stat().st_size < size):
            raise DataError(f"{path} has lost lines that its checkpoint counts", hint=_ANEW)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b", buffering=0)
        self._file.truncate(size)
        self._file.seek(0, os.SEEK_END)

    def write(self, record: dict[str, Any]) -> None:
        """Append one record. NaN and infinity are refused.

        Raises:
            DataError: the disk is full. The run can be resumed: lines after its checkpoint are dropped then.
        """
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            hint = "make room, then continue with --resume"
            raise DataError(f"cannot write {self._file.name}: {error.strerror}", hint=hint) from error

    def sync(self) -> int:
        """Make all lines survive a power cut. Returns the file's size."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_json_lines(path: Path, size: int | None = None) -> list[dict[str, Any]]:
    """All records of a run's `metrics.jsonl`, or those of its first bytes.

    Raises:
        DataError: the file is missing or damaged; the line is named.
    """
    try:
        lines = path.read_bytes()[:size].splitlines()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint=_ANEW) from error
    return [_record(path, number, line) for number, line in enumerate(lines, start=1)]


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
        values = [record[name] for name in ("step", *_NUMBERS_OF[record["kind"]])]
    except (ValueError, KeyError, TypeError, RecursionError):
        values = [None]
    if not all(isinstance(value, int | float) for value in values):
        raise DataError(f"{path}, line {number}, is damaged: it is no record of a run", hint=_ANEW)
    return dict(record)


def require_tensorboard() -> None:
    """Check that TensorBoard's writer is installed.

    Raises:
        UsageError: the package is not installed.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise UsageError("--tensorboard needs a package that is missing", hint="pip install tensorboard") from error


class TensorBoard:
    """Writes records as TensorBoard scalars.

    Args:
        folder: for its event files.
        step: the last step taken. Later steps, written by a killed run, are dropped.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # the step named by purge_step is dropped too
        self._writer: Any = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, record: dict[str, Any]) -> None:
        """Add every number of a record under the name of its `kind`."""
        for name, value in record.items():
            if name not in ("step", "kind") and isinstance(value, int | float):
                self._writer.add_scalar(f"{record['kind']}/{name}", value, record["step"])

    def flush(self) -> None:
        """Write the buffer. A thread does so every two minutes, too."""
        self._writer.flush()

    def close(self) -> None:
        """Write the buffer and close the files."""
        self._writer.close()


class Journal:
    """Everything that a run writes down while it trains.

    Args:
        metrics, speed: files of JSON lines.
        tensorboard: folder for TensorBoard's files; None writes none.
        facts: those of the checkpoint to continue from; empty for a new run.
        step: the last step taken.
    """

    def __init__(self, metrics: Path, speed: Path, tensorboard: Path | None, facts: dict[str, Any], step: int) -> None:
        self._metrics = JsonLines(metrics, facts.get("metrics_bytes", 0))
        # damage is found now, and not when the run has ended
        steps = [record["step"] for record in read_json_lines(metrics) if record["kind"] == "step"]
        if len(steps) != step or steps != list(range(1, step + 1)):
            raise DataError(f"{metrics} has not every step from 1 to {step}, as its checkpoint says", hint=_ANEW)
        self._speed = JsonLines(speed, facts.get("speed_bytes", 0))
        self._tensorboard = TensorBoard(tensorboard, step) if tensorboard else None

    def write(self, record: dict[str, Any]) -> None:
        """Write a step, an evaluation or, into its own file, a speed, by the record's `kind`."""
        if record["kind"] != "speed":
            self._metrics.write(record)
        try:
            if record["kind"] == "speed":
                self._speed.write(record)
            if self._tensorboard:
                self._tensorboard.write(record)
        except (DataError, OSError) as error:  # nothing depends on these files
            console.warn(f"the log misses step {record['step']}: {error}")

    def sync(self) -> dict[str, int]:
        """Make all lines survive a power cut. Returns what a checkpoint has to know."""
        if self._tensorboard:
            self._tensorboard.flush()  # a resumed run does not write the steps before its checkpoint again
        return {"metrics_bytes": self._metrics.sync(), "speed_bytes": self._speed.sync()}

    def close(self) -> None:
        """Close the files."""
        for file in (self._metrics, self._speed, self._tensorboard):
            if file:
                file.close()
