"""Tables as in the papers: header and rows of strings, for any program that draws tables.

Scores are rounded only here. A task that did not run or is undefined shows a dash, and so does the
average.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from senteval.loading import Mode
from senteval.results import Results
from senteval.tasks import STS_TASKS, TASKS, TRANSFER_TASKS

DASH = "-"
AVERAGE = "Avg."
# only these two have a development set; the papers show no average over them
STS_DEV_TASKS = ("STSBenchmark", "SICKRelatedness")


@dataclass(frozen=True)
class Table:
    """A table of strings."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sts_columns(mode: Mode) -> tuple[str, ...]:
    """STS12 to STS16, STSBenchmark, SICKRelatedness and `Avg.`; in `dev` mode, the two with a development set."""
    return STS_DEV_TASKS if mode == "dev" else (*STS_TASKS, AVERAGE)


def sts_table(results: Mapping[str, Results] | Results, *, baseline: str | None = None) -> Table:
    """Spearman × 100. Arguments as for `score_table`."""
    return score_table(results, sts_columns(_mode(results)), baseline=baseline)


def transfer_table(results: Mapping[str, Results] | Results, *, baseline: str | None = None) -> Table:
    """Accuracies in percent. Arguments as for `score_table`."""
    return score_table(results, (*TRANSFER_TASKS, AVERAGE), baseline=baseline)


def other_table(results: Mapping[str, Results] | Results, *, baseline: str | None = None) -> Table | None:
    """Tasks of the results that are in neither of the two other tables; None if there are none."""
    shown = {*STS_TASKS, *TRANSFER_TASKS}
    ran = {task for one in _by_name(results).values() for task in one.scores}
    columns = tuple(task for task in TASKS if task in ran and task not in shown)
    return score_table(results, columns, baseline=baseline) if columns else None


def score_table(
    results: Mapping[str, Results] | Results, columns: Sequence[str], *, baseline: str | None = None
) -> Table:
    """Return one row for each model.

    Args:
        results: of one model, whose row has no name; or of several models by name, all of the same mode.
        columns: names of tasks; `Avg.` is the mean of the others.
        baseline: a name in the results, such as the teacher's. Each other row is followed by its difference to it.

    Raises:
        ValueError: the results are of different modes, or the baseline is not among them.
    """
    _mode(results)
    by_name = _by_name(results)
    if baseline is not None and baseline not in by_name:
        raise ValueError(f"the baseline {baseline!r} is not among {', '.join(by_name)}")
    values = {name: column_values(one, columns) for name, one in by_name.items()}
    rows = []
    for name, own in values.items():
        rows.append((name, *(format_score(value) for value in own)))
        if baseline is not None and name != baseline:
            differences = (_difference(a, b) for a, b in zip(own, values[baseline], strict=True))
            rows.append((f"{name} - {baseline}", *(format_score(value, signed=True) for value in differences)))
    if isinstance(results, Results):
        return Table(tuple(columns), tuple(row[1:] for row in rows))
    return Table(("Model", *columns), tuple(rows))


def column_values(results: Results, columns: Sequence[str]) -> list[float | None]:
    """The unrounded numbers of a row; None stands for a dash."""
    tasks = [column for column in columns if column != AVERAGE]
    return [results.average(tasks) if column == AVERAGE else results.headline(column) for column in columns]


def format_score(value: float | None, *, signed: bool = False) -> str:
    """Format with two decimals, or as a dash."""
    if value is None:
        return DASH
    # adding zero turns a rounded -0.0 into 0.0
    rounded = round(value, 2) + 0.0
    return f"{rounded:+.2f}" if signed else f"{rounded:.2f}"


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _by_name(results: Mapping[str, Results] | Results) -> Mapping[str, Results]:
    return {"": results} if isinstance(results, Results) else results


def _mode(results: Mapping[str, Results] | Results) -> Mode:
    modes = {one.mode for one in _by_name(results).values()}
    if len(modes) != 1:
        raise ValueError(f"a table needs results of one mode, not of {len(modes)}")
    return modes.pop()
