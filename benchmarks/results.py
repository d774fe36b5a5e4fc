"""Models side by side: measure one, print README's table, draw quality against speed.

    python -m benchmarks.results add NAME --folder FOLDER --command '…' --scores seed0.json seed1.json
    python -m benchmarks.results table [--write]
    python -m benchmarks.results picture

Table and picture come from benchmarks/results/models.json. `add` replaces what it measures of a row and
keeps the rest, so a second machine adds its speed with `add NAME --folder FOLDER`. Score files are what
`distilcse eval --json` prints, one or more seeds in each; without any, a new row runs that command.

Speeds are sentences a second of CPU time, of one thread, in the fastest round: other work on the
machine hardly changes them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import common, scoreboard
from benchmarks.peer import Peer, SideFailed
from distilcse_cli import console
from distilcse_cli.errors import DistilCSEError, UsageError
from distilcse_cli.evaluation.footprint import bytes_on_disk
from distilcse_cli.files import read_json, write_json
from distilcse_cli.models.reference import ModelRef, resolve_reference

ENCODERS = {
    "ours": ("benchmarks.sides:Encode", {}),
    "sentence-transformers": ("benchmarks.st_sides:STEncode", {"dtype": "float32", "batch_size": 32}),
}
"""Who embeds -> its side and settings: both at their defaults."""
HEADLINES = ("spearman", "acc")
"""Of a task's scores, the one that a table shows."""


def read_scores(files: Iterable[Path]) -> dict[str, Any]:
    """Scores of one recipe with several seeds.

    Args:
        files: JSON of `distilcse eval --json`, of one model or several.

    Returns:
        `tasks`: task -> a score for each model that has it; `sts` and `transfer`: the averages.

    Raises:
        DataError: a file is missing or no such JSON.
    """
    tasks: dict[str, list[float]] = {}
    averages: dict[str, list[float]] = {"sts": [], "transfer": []}
    for file in files:
        content = read_json(file)
        for one in content.get("results", [content]):
            for task, scores in one["tasks"].items():
                tasks.setdefault(task, []).append(next(scores[name] for name in HEADLINES if name in scores))
            for name, values in averages.items():
                if one.get(f"avg_{name}") is not None:
                    values.append(one[f"avg_{name}"])
    return {"tasks": tasks, **{name: values for name, values in averages.items() if values}}


def measure_size(folder: Path) -> dict[str, Any]:
    """Layers, weights and bytes of a model folder; layers and weights only if our encoder loads it."""
    num_bytes = bytes_on_disk(folder)
    try:
        encoder = ModelRef(ref=str(folder)).load()
    except DistilCSEError as error:
        console.warn(f"layers and weights are not counted: {error.message}")
        return {"bytes": num_bytes}
    return {"bytes": num_bytes, "layers": encoder.num_layers, "weights": encoder.num_parameters}


def measure_rates(folder: Path, sentences: list[str], rounds: int) -> dict[str, float | None]:
    """Sentences a CPU second of each of `ENCODERS`; None for one that cannot load the folder."""
    rates: dict[str, float | None] = {}
    with tempfile.TemporaryDirectory() as name:
        lines = Path(name) / "sentences.json"
        lines.write_text(json.dumps(sentences), encoding="utf-8")
        common_settings = {"model": str(folder), "sentences": str(lines), "rows": name}
        for who, (side, settings) in ENCODERS.items():
            console.log(f"{folder}: speed by {who}")
            try:
                peer = Peer(side, common_settings | settings, threads=1)
            except SideFailed as error:
                console.warn(f"no speed by {who}: {error}")
                rates[who] = None
                continue
            rates[who] = max(len(sentences) / peer.run()["cpu_seconds"] for _ in range(rounds))
            peer.close()
    return rates


def run_eval(folder: Path) -> dict[str, Any]:
    """STS scores in fp32, by `distilcse eval`."""
    command = [sys.executable, "-m", "distilcse_cli", "eval", "--model", str(folder), "--task-set", "sts", "--json"]
    command += ["--compute-dtype", "float32"]
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "scores.json"
        with file.open("w", encoding="utf-8") as out:
            if code := subprocess.run(command, stdout=out, check=False).returncode:
                raise SystemExit(code)  # the command has said why
        return read_scores([file])


def add(arguments: argparse.Namespace) -> None:
    """Measure a model, and add its row or replace what was measured."""
    rows = read_json(arguments.results) if arguments.results.is_file() else {}
    row = rows.get(arguments.name, {"group": "other", "rates": {}})
    given = Path(arguments.folder)
    folder = given if given.is_dir() else resolve_reference(arguments.folder)
    trained = read_json(folder / "rival.json") if (folder / "rival.json").is_file() else {}
    measured = measure_size(folder) | {
        "group": arguments.group,
        "command": arguments.command or trained.get("command"),
        "num_sentences": arguments.sentences or trained.get("num_sentences"),
        "cpu_seconds": arguments.cpu_seconds or ([trained["cpu_seconds"]] if trained else None),
    }
    if arguments.scores:
        measured |= read_scores(arguments.scores)
    elif "sts" not in row:
        measured |= run_eval(folder)
    if arguments.news_scores:
        measured["news_only"] = read_scores(arguments.news_scores)["sts"]
    row |= {name: value for name, value in measured.items() if value is not None}
    if not arguments.no_speed:
        sentences = common.mixed_lines(arguments.speed_sentences)
        rates = measure_rates(folder, sentences, arguments.rounds)
        row["rates"] |= {arguments.cpu or common.cpu_name(): rates}
    write_json(arguments.results, rows | {arguments.name: row})
    console.log(f"{arguments.results}: {arguments.name}")


def table(arguments: argparse.Namespace) -> None:
    """Print the table, and write it into README if asked."""
    drawn = scoreboard.draw_table(read_json(arguments.results))
    console.result(drawn)
    if arguments.write:
        text = scoreboard.README.read_text(encoding="utf-8")
        scoreboard.README.write_text(scoreboard.with_table(text, drawn), encoding="utf-8")


def picture(arguments: argparse.Namespace) -> None:
    """Write the picture; models without a speed or an STS average are named."""
    rows = read_json(arguments.results)
    for name in scoreboard.left_out(rows):
        console.warn(f"{name} is not drawn: it has no speed or no STS average")
    arguments.out.write_text(scoreboard.draw_picture(rows), encoding="utf-8")
    console.log(str(arguments.out))


def new_parser() -> argparse.ArgumentParser:
    """A parser with the three commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=scoreboard.RESULTS, help="file of all rows")
    commands = parser.add_subparsers(required=True)
    adding = commands.add_parser("add", help="measure a model")
    adding.set_defaults(run=add)
    adding.add_argument("name", help="as the table shows it")
    adding.add_argument("--folder", required=True, help="of the model, or a name from the catalogue")
    adding.add_argument("--group", choices=sorted(scoreboard.COLORS), help="whose it is (default: other)")
    adding.add_argument("--command", help="that makes the model (default: that of FOLDER/rival.json)")
    adding.add_argument("--scores", type=Path, nargs="+", help="JSON of `distilcse eval --json`, of all seeds")
    adding.add_argument("--news-scores", type=Path, nargs="+", help="the same, of training on news alone")
    adding.add_argument("--sentences", type=common.whole(), help="trained on")
    adding.add_argument("--cpu-seconds", type=float, nargs="+", help="of training, of each seed")
    adding.add_argument("--cpu", help="name of this CPU in the table (default: as the system has it)")
    adding.add_argument("--no-speed", action="store_true", help="measure no speed")
    adding.add_argument("--speed-sentences", type=common.whole(), default=1000)
    adding.add_argument("--rounds", type=common.whole(), default=3)
    printing = commands.add_parser("table", help="print README's table")
    printing.add_argument("--write", action="store_true", help="and replace it in README.md")
    printing.set_defaults(run=table)
    drawing = commands.add_parser("picture", help="draw quality against speed")
    drawing.add_argument("--out", type=Path, default=scoreboard.PICTURE, help="SVG file")
    drawing.set_defaults(run=picture)
    return parser


def main() -> None:
    arguments = new_parser().parse_args()
    if arguments.run is not add and not arguments.results.is_file():
        raise UsageError(f"{arguments.results} is not there", hint="make it with python -m benchmarks.results add")
    arguments.run(arguments)


if __name__ == "__main__":
    common.run(main)
