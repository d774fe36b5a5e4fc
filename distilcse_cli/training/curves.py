"""`curves.png`: loss, development score, logit scale and effective rank of a run, to be looked at."""

from pathlib import Path
from typing import Any

from distilcse_cli.files import atomic_path

_LARGEST_WINDOW = 50


def draw_curves(records: list[dict[str, Any]], path: Path, *, dev_measure: str) -> None:
    """Draw a run's metrics.

    Args:
        records: of `metrics.jsonl`.
        path: of the PNG.
        dev_measure: what the development score is.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [record for record in records if record["kind"] == "step"]
    evaluations = [record for record in records if record["kind"] == "evaluation"]
    figure = Figure(figsize=(10, 7), layout="constrained")
    FigureCanvasAgg(figure)
    loss, score, scale, rank = figure.subplots(2, 2).flat
    numbers = [record["step"] for record in steps]
    losses = [record["loss"] for record in steps]
    window = max(1, min(_LARGEST_WINDOW, len(losses) // 20))
    loss.plot(numbers, losses, color="0.75", linewidth=0.8, label="each step")
    loss.plot(numbers, _smooth(losses, window), color="C0", label=f"mean of {window} steps")
    loss.set(title="loss (nats)", xlabel="step")
    loss.legend(frameon=False)
    scale.plot(numbers, [record["scale"] for record in steps], color="C1")
    scale.set(title="logit scale", xlabel="step")
    at = [record["step"] for record in evaluations]
    scores = [record["dev_score"] for record in evaluations]
    score.plot(at, scores, color="C2", marker="o", markersize=3)
    if scores:
        best = scores.index(max(scores))
        score.annotate(f"{scores[best]:.2f}", (at[best], scores[best]), textcoords="offset points", xytext=(0, 6))
        score.margins(y=0.2)
    name = evaluations[0]["dev_set"] if evaluations else "development score"
    score.set(title=f"{name} ({dev_measure})", xlabel="step")
    ranks = [record["effective_rank"] for record in evaluations]
    rank.plot(at, ranks, color="C3", marker="o", markersize=3)
    rank.set(title="effective rank of the embeddings", xlabel="step", ylim=(0, 1.1 * max(ranks, default=1.0)))
    for axes in (loss, score, scale, rank):
        axes.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _smooth(values: list[float], window: int) -> list[float]:
    """Each value's mean with those before it, of at most `window`."""
    means, total = [], 0.0
    for index, value in enumerate(values):
        total += value - (values[index - window] if index >= window else 0.0)
        means.append(total / min(index + 1, window))
    return means
