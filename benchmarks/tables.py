"""Draw the tables of docs/performance.md from benchmarks/results/*.json, between two markers.

python -m benchmarks.tables
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- begin: drawn by `python -m benchmarks.tables` -->", "<!-- end -->"
WITHOUT_BF16 = "on a CPU without bf16 instructions"
COMPARISONS = {
    "encode": "Encoding",
    "encode_fp32": f"Encoding {WITHOUT_BF16}",
    "distill": "Stage-1 training",
    "distill_fp32": f"Stage-1 training {WITHOUT_BF16}",
    "finetune": "Stage-2 training",
}
PACKAGES = ("torch", "transformers", "sentence-transformers", "numpy")


def draw(results: Path = RESULTS) -> str:
    """Markdown tables of all results found."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))}
    sections = [_comparison(name, title, found[name]) for name, title in COMPARISONS.items() if name in found]
    sections += [section(found[name]) for name, section in OTHERS.items() if name in found]
    return "\n\n".join(sections) or "Nothing measured yet."


def with_tables(document: str, tables: str) -> str:
    """The document with new tables between its markers.

    Raises:
        ValueError: a marker is missing.
    """
    before, _, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"the document lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


def _section(
    name: str, title: str, result: dict[str, Any], header: Sequence[str], rows: Sequence[Sequence[str]]
) -> str:
    machine = result["machine"]
    packages = ", ".join(f"{package} {machine[package]}" for package in PACKAGES if package in machine)
    threads = f", {_counted(machine['threads'], 'thread')}" if "threads" in machine else ""
    command = result.get("command", f"python -m benchmarks.{name}")
    facts = (
        f"`{command}`, {result['measured']}, {_counted(result['rounds'], 'round')}: {machine['cpu']}, "
        f"{_counted(machine['cores'], 'core')}{threads}, load {machine['load_before']:.2f} before; {packages}."
    )
    lines = [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]
    return "\n".join([f"### {title}", "", facts, "", *lines])


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _of(values: dict[str, float], digits: int) -> str:
    """Median, and the range over the rounds."""
    return f"{values['median']:,.{digits}f} ({values['min']:,.{digits}f} to {values['max']:,.{digits}f})"


def _comparison(name: str, title: str, result: dict[str, Any]) -> str:
    with_cosines = any("min_cosine" in side for side in result["sides"].values())
    unit = next(iter(result["sides"].values()))["unit"]
    header = ["side", f"{unit}/s", "ours is × as fast", *["least cosine to fp32"] * with_cosines]
    rows = []
    for side, told in result["sides"].items():
        rows.append([side, _of(told["rate"], 0), _of(told["ratio"], 2)])
        if with_cosines:
            rows[-1].append(f"{told['min_cosine']:.4f}")
    section = _section(name, title, result, header, rows)
    first = result["sides"]["ours"]["facts"].get("first_call_seconds")
    if first is None:
        return section
    later = result["sides"]["ours"]["last_round"]["seconds"]
    return f"{section}\n\nThe first pass of ours took {first:.1f} s, the last {later:.1f} s."


def _sts(result: dict[str, Any]) -> str:
    rows = [[name, _of(side["seconds"], 1), f"{side['average']:.2f}"] for name, side in result["sides"].items()]
    rows.append(["ours is × as fast", _of(result["ratio"], 1), ""])
    return _section("sts", "STS, seven tasks", result, ("", "seconds", "average"), rows)


def _transfer(result: dict[str, Any]) -> str:
    rows = [
        [name, _of(task["sequential_seconds"], 1), _of(task["batched_seconds"], 2), _of(task["ratio"], 1)]
        for name, task in result["tasks"].items()
    ]
    header = ("task", "sequential, s", "batched, s", "ours is × as fast")
    note = f"Sequential: {result['sequential']}."
    return _section("transfer", "Transfer classifiers", result, header, rows) + f"\n\n{note}"


def _extract(result: dict[str, Any]) -> str:
    rows = [
        [name, _of(rate, 0), f"{result['resident_bytes'][name] / 1e6:,.0f}"] for name, rate in result["rates"].items()
    ]
    rows.append(["extract over encode", _of(result["ratio"], 3), ""])
    title = f"`extract` of {result['num_sentences']:,} sentences"
    return _section("extract", title, result, ("", "sentences/s", "resident, MB"), rows)


OTHERS = {"sts": _sts, "transfer": _transfer, "extract": _extract}


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    document = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(with_tables(document, draw()), encoding="utf-8")


if __name__ == "__main__":
    main()
