"""The pictures of a comparison, as SVG that takes its colours from the page."""

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from distilcse_cli.evaluation.compared import HISTOGRAM_EDGES, CompareResult, StudentResult

WIDTH, HEIGHT = 360, 270
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 40
COLOURS = 5
"""Students beyond these share colours; each has its name beside its point."""


class _Axes:
    """A plane with ticks: from values to places in the picture."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], x_label: str, y_label: str) -> None:
        self.x_range, self.y_range, self._labels = x, y, (x_label, y_label)

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)

    def drawn(self, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> str:
        """Grid, ticks and the names of the axes."""
        bottom, parts = HEIGHT - BOTTOM, []
        for value in y_ticks:
            at = self.y(value)
            parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:,.3g}</text>')
        for value in x_ticks:
            at = self.x(value)
            parts.append(f'<path class="grid" d="M{at:.1f} {TOP}V{bottom}"/>')
            number = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
            parts.append(f'<text x="{at:.1f}" y="{bottom + 15}" text-anchor="middle">{number}</text>')
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(self._labels[0])}</text>')
        center = (TOP + bottom) / 2
        turned = f'transform="rotate(-90 12 {center})"'
        parts.append(f'<text x="12" y="{center}" text-anchor="middle" {turned}>{escape(self._labels[1])}</text>')
        return "".join(parts)


def scatter(student: StudentResult, number: int) -> str:
    """Cosines of pairs, by the teacher to the right and by the student upwards."""
    low = math.floor(5 * min(0.0, float(student.scatter.min(initial=0.0)))) / 5
    axes = _Axes((low, 1.0), (low, 1.0), "cosine by the teacher", "cosine by the student")
    points = "".join(f"M{axes.x(x):.1f} {axes.y(y):.1f}h0" for x, y in student.scatter.tolist())
    ticks = _ticks(low, 1.0)
    return _svg(
        f"{student.name}: agreement of cosines",
        axes.drawn(ticks, ticks)
        + f'<path class="same" d="M{axes.x(low):.1f} {axes.y(low):.1f}L{axes.x(1):.1f} {axes.y(1):.1f}"/>'
        + f'<path d="{points}" style="stroke:var(--{colour(number)})" stroke-width="4" stroke-linecap="round"'
        ' stroke-opacity=".45" fill="none"/>',
    )


def quality_and_speed(result: CompareResult) -> str:
    """A point for each model: sentences per second to the right, ten nearest shared upwards."""
    points = [(result.teacher.name, result.teacher.sentences_per_second, 1.0, "c0")]
    for number, one in enumerate(result.students, start=1):
        quality = one.closeness.shared10 if one.closeness.shared10 is not None else one.closeness.shared1
        points.append((one.name, one.sentences_per_second, quality or 0.0, colour(number)))
    known = [(name, speed, quality, color) for name, speed, quality, color in points if speed is not None]
    fastest = _round_up(1.08 * max(speed for _, speed, _, _ in known)) if known else 1.0
    axes = _Axes((0.0, fastest), (0.0, 1.0), "sentences per second", "ten nearest shared")
    drawn = axes.drawn(_ticks(0.0, fastest), _ticks(0.0, 1.0))
    places = [(axes.x(speed), axes.y(quality)) for _, speed, quality, _ in known]
    taken: list[tuple[float, float]] = []
    for (name, _, _, color), (x, y) in zip(known, places, strict=True):
        is_left = x < (LEFT + WIDTH) / 2
        line = y + (16 if y < TOP + 20 else 4)
        # a name moves down until it stands clear of the other names and points
        dots = [(other_y + 4, other_x > x) for other_x, other_y in places if (other_x, other_y) != (x, y)]
        while any(abs(line - other) < 13 and is_left == side for other, side in (*taken, *dots)):
            line += 1
        taken.append((line, is_left))
        shown = name if len(name) <= 24 else f"…{name[-23:]}"
        anchor, at = ("start", x + 9) if is_left else ("end", x - 9)
        drawn += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5" style="fill:var(--{color})"/>'
        where = f'x="{at:.1f}" y="{line:.1f}" text-anchor="{anchor}"'
        drawn += f'<text {where} style="fill:var(--{color})">{escape(shown)}</text>'
    return _svg("Quality against speed", drawn)


def histogram(result: CompareResult) -> str:
    """Shares of the random pairs by their cosine, a line for each model."""
    models = [result.teacher, *result.students]
    shares = [one.random_histogram / max(1, one.random_histogram.sum()) for one in models]
    top = _round_up(float(max(share.max() for share in shares)) or 1.0)
    filled = np.flatnonzero(np.sum(shares, axis=0))
    low = float(min(-0.2, HISTOGRAM_EDGES[filled[0]])) if len(filled) else -0.2
    axes = _Axes((low, 1.0), (0.0, top), "cosine", "share of random pairs")
    drawn = axes.drawn(_ticks(low, 1.0), _ticks(0.0, top))
    centers = (HISTOGRAM_EDGES[:-1] + HISTOGRAM_EDGES[1:]) / 2
    for number, share in enumerate(shares):
        line = "L".join(f"{axes.x(c):.1f} {axes.y(s):.1f}" for c, s in zip(centers, share, strict=True) if c >= low)
        name = "c0" if number == 0 else colour(number)
        drawn += f'<path d="M{line}" fill="none" style="stroke:var(--{name})" stroke-width="2"/>'
    return _svg("Histogram of cosines", drawn)


def key(result: CompareResult) -> str:
    """Which colour is which model."""
    names = [f"{result.teacher.name} (teacher)", *(one.name for one in result.students)]
    parts = [
        f'<span style="--of:var(--{"c0" if number == 0 else colour(number)})">{escape(name)}</span>'
        for number, name in enumerate(names)
    ]
    return f'<div class="key">{"".join(parts)}</div>'


def colour(number: int) -> str:
    """Name of the page's colour of the student with that number, counted from 1."""
    return f"c{(number - 1) % COLOURS + 1}"


def _svg(title: str, content: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{content}</svg>"
    )


def _round_up(value: float) -> float:
    """The next of 1, 1.5, 2, 3, 4, 5, 6, 8, 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15) if step * power >= value * (1 - 1e-9))


def _ticks(low: float, high: float) -> list[float]:
    """Round values between the two, four to seven of them."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]
