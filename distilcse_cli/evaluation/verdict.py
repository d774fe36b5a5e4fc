"""Is a student good enough? Least values of its metrics: the default gate, and those that the user names."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distilcse_cli.errors import UsageError, VerdictError

GATE = {"spearman_random": 0.72, "spearman_near": 0.4, "rank_ratio": 0.5}
"""The default gate. docs/compare.md says how these values were found."""
METRICS = (
    *("spearman", "spearman_random", "spearman_near", "shared1", "shared10", "shared100"),
    *("asymmetric1", "asymmetric10", "asymmetric100", "cosine", "effective_rank", "rank_ratio"),
    *("sentences_per_second", "labels_spearman", "ndcg10", "recall1", "recall10", "recall100"),
)
"""Metrics that can have a least value: those of which more is better."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A metric below its least value."""

    metric: str
    value: float | None
    """None: it could not be measured."""
    least: float

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.metric} could not be measured, and {self.least:g} is asked for"
        return f"{self.metric} {_below(self.value, self.least)} < {self.least:g}"


def faults(metrics: Mapping[str, float | None], least: Mapping[str, float]) -> tuple[Fault, ...]:
    """The metrics that are below their least values, in the order of the least values."""
    found = (Fault(metric=name, value=metrics[name], least=limit) for name, limit in least.items())
    return tuple(fault for fault in found if fault.value is None or not fault.value >= fault.least)


def require_known(least: Mapping[str, float]) -> None:
    """Check that all of these metrics can have a least value.

    Raises:
        UsageError: an unknown metric; all metrics are listed.
    """
    for name in least:
        if name not in METRICS:
            raise UsageError(f"there is no metric {name!r}", hint=f"one of {', '.join(METRICS)}")


def parse_limits(typed: Sequence[str]) -> dict[str, float]:
    """Least values as typed, such as `shared10=0.6`; of two for one metric the higher counts.

    Raises:
        UsageError: not of that form, or an unknown metric; all metrics are listed.
    """
    limits: dict[str, float] = {}
    for text in typed:
        name, sign, value = (part.strip() for part in text.partition("="))
        if name not in METRICS:
            raise UsageError(f"--fail-under {text}: there is no metric {name!r}", hint=f"one of {', '.join(METRICS)}")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not sign or not math.isfinite(number):
            raise UsageError(f"--fail-under {text}: {value!r} is no number", hint=f"such as {name}=0.6")
        limits[name] = max(number, limits.get(name, number))
    return limits


def require(found: Mapping[str, Sequence[Fault]]) -> None:
    """Fail if any student has a fault.

    Args:
        found: the faults of each student, by its name.

    Raises:
        VerdictError: the first such student's faults are named, and how many students have some.
    """
    failed = {name: some for name, some in found.items() if some}
    if not failed:
        return
    name, some = next(iter(failed.items()))
    more = f"; {len(failed)} of {len(found)} students failed" if len(found) > 1 else ""
    raise VerdictError(
        f"{name} is not good enough: {', '.join(map(str, some))}{more}",
        hint="train it longer, keep more layers, or ask for less",
    )


def _below(value: float, least: float) -> str:
    """The value with as many digits as it takes to differ from the least one."""
    for digits in range(3, 12):
        text = f"{value:.{digits}f}"
        if float(text) < least:
            return text
    return repr(value)
