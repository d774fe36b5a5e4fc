"""Draw the tables of docs/performance.md from benchmarks/results/*.json, between two markers.

python -m benchmarks.tables
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- begin: drawn by `python -m benchmarks.tables` -->", "<!-- end -->"
WITHOUT_BF16 = "on a CPU without bf16 instructions"
TITLES = {
    "encode": "Encoding",
    "encode_fp32": f"Encoding {WITHOUT_BF16}",
    "distill": "Stage-1 training",
    "distill_fp32": f"Stage-1 training {WITHOUT_BF16}",
    "finetune": "Stage-2 training",
    "sts": "STS, seven tasks",
    "transfer": "Transfer classifiers",
    "extract": "`extract` of {num_sentences:,} sentences",
}
"""Result file -> its title, in the order of the page. Other files keep studies whose tables stand below the markers."""
PACKAGES = ("torch", "transformers", "sentence-transformers", "numpy")


def draw(results: Path = RESULTS) -> str:
    """Markdown tables of all results found."""
    files = [(name, results / f"{name}.json") for name in TITLES]
    sections = [section(name, json.loads(file.read_text(encoding="utf-8"))) for name, file in files if file.is_file()]
    return "\n\n".join(sections) or "Nothing measured yet."


def with_tables(document: str, tables: str, begin: str = BEGIN) -> str:
    """The document with new tables between its markers.

    Raises:
        ValueError: a marker is missing.
    """
    before, _, rest = document.partition(begin)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"the document lacks {begin} or {END}")
    return f"{before}{begin}\n\n{tables}\n\n{END}{after}"


def section(name: str, result: dict[str, Any]) -> str:
    """Title, machine and table of a result."""
    machine = result["machine"]
    packages = ", ".join(f"{package} {machine[package]}" for package in PACKAGES if package in machine)
    threads = f", {_counted(machine['threads'], 'thread')}" if "threads" in machine else ""
    facts = (
        f"`{result['command']}`, {result['measured']}, {_counted(result['rounds'], 'round')}: {machine['cpu']}, "
        f"{_counted(machine['cores'], 'core')}{threads}, load {machine['load_before']:.2f} before; {packages}."
    )
    table = TABLES.get(name, comparison)(result)
    return f"### {TITLES.get(name, name).format(**result)}\n\n{facts}\n\n{table}"


def comparison(result: dict[str, Any], digits: int = 2) -> str:
    """Rates of the sides and, with `digits` decimals, their ratios."""
    with_cosines = any("min_cosine" in side for side in result["sides"].values())
    unit = next(iter(result["sides"].values()))["unit"]
    header = ["side", f"{unit}/s", "ours is × as fast", *["least cosine to fp32"] * with_cosines]
    rows = []
    for name, side in result["sides"].items():
        rows.append([name, _of(side["rate"], 0), _of(side["ratio"], digits)])
        if with_cosines:
            rows[-1].append(f"{side['min_cosine']:.4f}")
    ours = result["sides"]["ours"]
    first = ours["facts"].get("first_call_seconds")
    if first is None:
        return markdown(header, rows)
    return (
        markdown(header, rows)
        + f"\n\nThe first pass of ours took {first:.1f} s, the last {ours['last_round']['seconds']:.1f} s."
    )


def _sts(result: dict[str, Any]) -> str:
    rows = [[name, _of(side["seconds"], 1), f"{side['average']:.2f}"] for name, side in result["sides"].items()]
    return markdown(("", "seconds", "average"), [*rows, ["ours is × as fast", _of(result["ratio"], 1), ""]])


def _transfer(result: dict[str, Any]) -> str:
    rows = [
        [name, _of(task["sequential_seconds"], 1), _of(task["batched_seconds"], 2), _of(task["ratio"], 1)]
        for name, task in result["tasks"].items()
    ]
    header = ("task", "sequential, s", "batched, s", "ours is × as fast")
    return f"{markdown(header, rows)}\n\nSequential: {result['sequential']}."


def _extract(result: dict[str, Any]) -> str:
    memory = result["resident_bytes"]
    rows = [[name, _of(rate, 0), f"{memory[name] / 1e6:,.0f}"] for name, rate in result["rates"].items()]
    rows.append(["extract over encode", _of(result["ratio"], 3), ""])
    return markdown(("", "sentences/s", "resident, MB"), rows)


def _checkouts(result: dict[str, Any]) -> str:
    return "\n\n".join(f"{job}:\n\n{comparison({'sides': sides}, 3)}" for job, sides in result["jobs"].items())


TABLES = {"sts": _sts, "transfer": _transfer, "extract": _extract, "checkouts": _checkouts}
"""Results with another table than `comparison`."""


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _of(values: dict[str, float], digits: int) -> str:
    """Median, and the range over the rounds."""
    return f"{values['median']:,.{digits}f} ({values['min']:,.{digits}f} to {values['max']:,.{digits}f})"


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    document = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(with_tables(document, draw()), encoding="utf-8")


if __name__ == "__main__":
    main()
