"""The picture of a run, `curves.png`: what `metrics.jsonl` holds, over the steps."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distilcse_cli import console
from distilcse_cli.files import atomic_path
from distilcse_cli.training.metrics import COSINES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LARGEST_WINDOW = 50


@contextmanager
def _without_backend() -> Iterator[None]:
    """Hide MPLBACKEND: notebooks name one that only they have, and matplotlib fails on it when it is imported."""
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        yield
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


def draw_curves(records: list[dict[str, Any]], path: Path, *, dev_measure: str) -> None:
    """Draw loss, score, cosines, scale, gradient and rank over the steps. A picture that fails costs a warning.

    Without matplotlib there is no picture, and the log says so.

    Args:
        records: those of `metrics.jsonl`.
        path: the PNG file.
        dev_measure: what the development score is.
    """
    if not _can_draw():
        return
    try:
        _draw_curves(records, path, dev_measure)
    except Exception as error:  # matplotlib's settings, fonts and folders are the user's own
        console.warn(f"{path.name} is not drawn: {' '.join(str(error).split())}")


@cache  # so that a process with several runs says it once
def _can_draw() -> bool:
    if find_spec("matplotlib"):
        return True
    console.log("curves.png is not drawn: it needs matplotlib (pip install matplotlib)")
    return False


def _draw_curves(records: list[dict[str, Any]], path: Path, dev_measure: str) -> None:
    with _without_backend():
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
