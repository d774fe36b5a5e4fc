"""Signs of life: what a run writes down, and numbers that tell a student that is learning from one that is not.

`metrics.jsonl` has a line a step and a line an evaluation, and nothing that depends on the clock:
a resumed run writes the very file of an uninterrupted one. `speed.jsonl` has the clock's part.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from distilcse_cli.errors import UsageError

COLLAPSED_SPREAD = 0.05
COLLAPSED_RANK = 2.0
_MOST_ROWS = 2048


def spread(embeddings: np.ndarray) -> float:
    """Standard deviation of unit rows over the N sentences, 0 where all are the same, 1 at most.

    Args:
        embeddings: (N, H) of any length.
    """
    unit = _unit(embeddings)
    return float(np.sqrt(unit.var(axis=0).sum()))


def effective_rank(embeddings: np.ndarray) -> float:
    """Directions that the embeddings really use: e to the entropy of their covariance's spectrum.

    1 where they lie on a line, H where they fill all directions alike (Roy and Vetterli, 2007).

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
    """A file of JSON lines that can be cut back to where a checkpoint left it.

    Args:
        path: made if missing.
        size: bytes to keep of what is there; what a killed run wrote behind its checkpoint goes.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._file.truncate(size)
        self._file.seek(0, os.SEEK_END)

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; NaN and infinity are refused."""
        self._file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
        self._file.flush()

    def sync(self) -> int:
        """Make all lines survive a power cut; the file's size."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """All records of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def require_tensorboard() -> None:
    """Check that TensorBoard's writer can be had.

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
        step: the last one taken; what a killed run wrote of later ones is dropped.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # the step that it is told is dropped too
        self._writer: Any = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, record: dict[str, Any]) -> None:
        """Add every number of a record with a `step`, named after its `kind`."""
        for name, value in record.items():
            if name not in ("step", "kind") and isinstance(value, int | float):
                self._writer.add_scalar(f"{record['kind']}/{name}", value, record["step"])

    def flush(self) -> None:
        """Write what is buffered, as its thread does every two minutes."""
        self._writer.flush()

    def close(self) -> None:
        """Write what is buffered, and end."""
        self._writer.close()
