"""README's table of models and its picture, drawn from the rows of benchmarks/results/models.json."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from benchmarks import tables
from senteval import STS_TASKS

README = tables.DOCUMENT.parent.parent / "README.md"
PICTURE = tables.DOCUMENT.parent / "models.svg"
RESULTS = tables.RESULTS / "models.json"
BEGIN = "<!-- begin: drawn by `python -m benchmarks.results table --write` -->"
COLORS = {
    "teacher": "#444444",
    "ours": "#0072b2",
    "sentence-transformers": "#d55e00",
    "packaged": "#009e73",
    "other": "#999999",
}
"""Whose model -> its color in the picture."""
SHORT = dict(zip(STS_TASKS, ("STS12", "13", "14", "15", "16", "STS-B", "SICK-R"), strict=True))
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 820, 440, 60, 210, 40, 56
"""Of the picture and of the margins around its axes, in pixels."""
LINE = 14
"""Least distance of two names, in pixels."""

Rows = Mapping[str, Mapping[str, Any]]
"""Name of a model -> what was measured."""


def draw_table(rows: Rows) -> str:
    """Markdown: a table of all models, then the command of each."""
    cpus = list(dict.fromkeys(cpu for row in rows.values() for cpu in row["rates"]))
    header = ["model", "layers", "weights, M", "MB", *(f"sentences/s, {cpu}" for cpu in cpus)]
    header += [*SHORT.values(), "avg", "news only", "transfer", "sentences", "CPU s"]
    lines = [[name, *_cells(row, cpus)] for name, row in rows.items()]
    commands = [f"- {name}: `{row['command']}`" for name, row in rows.items() if row.get("command")]
    return "\n".join([tables.markdown(header, lines), *([""] if commands else []), *commands])


def _cells(row: Mapping[str, Any], cpus: Sequence[str]) -> Iterator[str]:
    yield str(row.get("layers", ""))
    yield f"{row['weights'] / 1e6:.1f}" if "weights" in row else ""
    yield f"{row['bytes'] / 1e6:.1f}"
    for cpu in cpus:
        yield " / ".join("no" if rate is None else f"{rate:,.0f}" for rate in row["rates"].get(cpu, {}).values())
    for task in STS_TASKS:
        yield _mean(row["tasks"].get(task))
    for name in ("sts", "news_only", "transfer"):
        yield _with_range(row.get(name))
    yield f"{row['num_sentences']:,}" if "num_sentences" in row else ""
    yield f"{statistics.mean(row['cpu_seconds']):,.0f}" if "cpu_seconds" in row else ""


def _mean(values: Sequence[float] | None) -> str:
    return f"{statistics.mean(values):.2f}" if values else ""


def _with_range(values: Sequence[float] | None) -> str:
    """Mean, and the range over the seeds if there are several."""
    if not values or len(values) == 1:
        return _mean(values)
    return f"{_mean(values)} ({min(values):.2f} to {max(values):.2f})"


def with_table(document: str, drawn: str) -> str:
    """The document with a new table between the markers."""
    return tables.with_tables(document, drawn, begin=BEGIN)


def left_out(rows: Rows) -> list[str]:
    """Models that the picture cannot show."""
    shown = {name for name, *_ in _points(rows)}
    return [name for name in rows if name not in shown]


def _points(rows: Rows) -> Iterator[tuple[str, str, float, list[tuple[str, float]]]]:
    """Name, group, quality, and (who embeds, rate) on the CPU that most models were measured on."""
    cpus = [cpu for row in rows.values() for cpu in row["rates"]]
    cpu = max(cpus, key=cpus.count, default="")
    for name, row in rows.items():
        rates = [(who, rate) for who, rate in row["rates"].get(cpu, {}).items() if rate is not None]
        if rates and row.get("sts"):
            yield name, row["group"], statistics.mean(row["sts"]), rates


def draw_picture(rows: Rows) -> str:
    """SVG of STS average over sentences a second: filled by our encoder, hollow by sentence-transformers."""
    points = list(_points(rows))
    rates = [rate for *_, pairs in points for _, rate in pairs] or [1.0]
    qualities = [quality for _, _, quality, _ in points] or [0.0]
    slowest, fastest = math.log10(min(rates)) - 0.1, math.log10(max(rates)) + 0.1
    worst, best = math.floor(min(qualities)) - 1, math.ceil(max(qualities)) + 1

    def x(rate: float) -> float:
        return LEFT + (math.log10(rate) - slowest) / (fastest - slowest) * (WIDTH - LEFT - RIGHT)

    def y(quality: float) -> float:
        return TOP + (best - quality) / (best - worst) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for power in range(math.floor(slowest), math.ceil(fastest) + 1):
        for rate in (leading * 10.0**power for leading in (1, 2, 5)):
            if slowest <= math.log10(rate) <= fastest:
                parts += _grid(x(rate), TOP, x(rate), HEIGHT - BOTTOM)
                parts.append(_text(x(rate), HEIGHT - BOTTOM + 16, f"{rate:,.0f}", anchor="middle"))
    for quality in range(worst, best + 1, max(1, (best - worst) // 8)):
        parts += _grid(LEFT, y(quality), WIDTH - RIGHT, y(quality))
        parts.append(_text(LEFT - 8, y(quality) + 4, str(quality), anchor="end"))
    last = -LINE
    for name, group, quality, pairs in sorted(points, key=lambda point: -point[2]):
        last = label = max(y(quality), last + LINE)  # models of one quality have their names under each other
        ends = [x(rate) for _, rate in pairs]
        parts.append(_line(min(ends), y(quality), max(ends), y(quality), COLORS[group]))
        for (who, _), at in zip(pairs, ends, strict=True):
            fill = COLORS[group] if who == "ours" else "white"
            parts.append(
                f'<circle cx="{at:.1f}" cy="{y(quality):.1f}" r="4.5" fill="{fill}" stroke="{COLORS[group]}"/>'
            )
        parts.append(_text(max(ends) + 8, label + 4, name, color=COLORS[group]))
    title = "STS average over sentences a CPU second (filled: our encoder, hollow: sentence-transformers)"
    parts.append(_text(LEFT, TOP - 16, title))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "sentences a CPU second, one thread", anchor="middle"))
    return "\n".join([*parts, "</svg>\n"])


def _grid(x1: float, y1: float, x2: float, y2: float) -> list[str]:
    return [_line(x1, y1, x2, y2, "#dddddd")]


def _line(x1: float, y1: float, x2: float, y2: float, color: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}"/>'


def _text(x: float, y: float, words: str, *, anchor: str = "start", color: str = "#222222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}">{escape(words)}</text>'
