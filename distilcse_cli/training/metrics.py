"""What a run writes down: metrics, curves, and numbers that show whether the student still learns.

`metrics.jsonl` has a line for each step and each evaluation, and nothing that depends on the clock:
a resumed run writes the same file as an uninterrupted one. `speed.jsonl` has what does depend on it.
`curves.png` shows both kinds of lines.
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distilcse_cli.errors import UsageError
from distilcse_cli.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLLAPSED_SPREAD = 0.05
COLLAPSED_RANK = 2.0
COSINES = {"teacher_cosine": "mean cosine to teacher", "positive_cosine": "mean cosine of anchor and positive"}
_MOST_ROWS = 2048
_LARGEST_WINDOW = 50


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
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._file.truncate(size)
        self._file.seek(0, os.SEEK_END)

    def write(self, record: dict[str, Any]) -> None:
        """Append one record. NaN and infinity are refused."""
        self._file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
        self._file.flush()

    def sync(self) -> int:
        """Make all lines survive a power cut. Returns the file's size."""
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
        self._speed = JsonLines(speed, facts.get("speed_bytes", 0))
        self._tensorboard = TensorBoard(tensorboard, step) if tensorboard else None

    def write(self, record: dict[str, Any]) -> None:
        """Write a step, an evaluation or, into its own file, a speed, by the record's `kind`."""
        (self._speed if record["kind"] == "speed" else self._metrics).write(record)
        if self._tensorboard:
            self._tensorboard.write(record)

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


def draw_curves(records: list[dict[str, Any]], path: Path, *, dev_measure: str) -> None:
    """Draw loss, score, cosines, scale, gradient and rank over the steps.

    Args:
        records: those of `metrics.jsonl`.
        path: the PNG file.
        dev_measure: what the development score is.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    steps = [record for record in records if record["kind"] == "step"]
    evaluations = [record for record in records if record["kind"] == "evaluation"]
    figure = Figure(figsize=(14, 7), layout="constrained")
    FigureCanvasAgg(figure)
    loss, score, cosine, gradient, scale, rank = figure.subplots(2, 3, sharex=True).flat
    _draw_steps(loss, steps, "loss", "C0")
    loss.set(title="loss")
    _draw_steps(gradient, steps, "grad_norm", "C4")
    norms = [record["grad_norm"] for record in steps if record["grad_norm"] > 0]
    if norms and max(norms) > 20 * min(norms):
        gradient.set_yscale("log")
    gradient.set(title="norm of the gradient, before clipping")
    for color, (name, words) in zip(("C5", "C6"), COSINES.items(), strict=True):
        if steps and name in steps[0]:
            _draw_steps(cosine, steps, name, color, words)
    cosine.set(title="cosines of the training sentences")
    scale.plot([record["step"] for record in steps], [record["scale"] for record in steps], color="C1")
    scale.set(title="logit scale")
    scale.ticklabel_format(axis="y", useOffset=False)
    _draw_evaluations(score, evaluations, "dev_score", "C2")
    dev_set = evaluations[0]["dev_set"] if evaluations else "no development score"
    score.set(title=f"{dev_set}\n{dev_measure}".strip())
    _draw_evaluations(rank, evaluations, "effective_rank", "C3")
    rank.set(title="effective rank of the development embeddings")
    rank.set_ylim(0, 1.25 * max((record["effective_rank"] for record in evaluations), default=1.0))
    for axes in (loss, score, cosine, gradient, scale, rank):
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    for axes in (gradient, scale, rank):
        axes.set_xlabel("step")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _draw_steps(axes: "Axes", steps: list[dict[str, Any]], name: str, color: str, label: str = "") -> None:
    """Draw a number of each step in a pale color, with its running mean on top."""
    numbers, values = [record["step"] for record in steps], [record[name] for record in steps]
    window = max(1, min(_LARGEST_WINDOW, len(values) // 20))
    axes.plot(numbers, values, color=color, alpha=0.3, linewidth=0.8)
    axes.plot(numbers, _smooth(values, window), color=color, label=label or f"mean of {window} steps")
    axes.legend(frameon=False)


def _draw_evaluations(axes: "Axes", evaluations: list[dict[str, Any]], name: str, color: str) -> None:
    """Draw a number of each evaluation, and mark the one with the best score."""
    if not evaluations:
        axes.text(0.5, 0.5, "no evaluation", ha="center", va="center", transform=axes.transAxes)
        return
    at, values = [record["step"] for record in evaluations], [record[name] for record in evaluations]
    axes.plot(at, values, color=color, marker="o", markersize=3)
    best = max(evaluations, key=lambda record: record["dev_score"])
    axes.plot(best["step"], best[name], color=color, marker="o", markersize=7, linestyle="none")
    axes.annotate(
        f"{best[name]:.2f} after step {best['step']:,}, the best",
        (best["step"], best[name]),
        textcoords="offset points",
        # toward the middle, so that the words stay within the frame
        xytext=(-8, 8) if best["step"] > sum(at) / len(at) else (8, 8),
        ha="right" if best["step"] > sum(at) / len(at) else "left",
    )
    axes.margins(y=0.25)


def _smooth(values: list[float], window: int) -> list[float]:
    """The mean of each value and those before it, at most `window` together."""
    means, total = [], 0.0
    for index, value in enumerate(values):
        total += value - (values[index - window] if index >= window else 0.0)
        means.append(total / min(index + 1, window))
    return means
