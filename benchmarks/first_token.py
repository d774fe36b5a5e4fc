"""First-token pooling: the last layer computed for the first token alone, against all of it.

    python -m benchmarks.first_token

Stage-1 training of a student of a few layers, and encoding with it. Both sides are this project's,
as they are and with `models.first_token` never asked.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import (
    add_options,
    compare,
    mixed_lines,
    pinned_machine,
    run,
    save,
    show,
    whole,
)
from benchmarks.distill import OUR_STEPS, add_slices, slice_settings, write_corpus, write_student
from benchmarks.encode import Ours
from benchmarks.peer import Peer
from benchmarks.training_sides import OursDistill
from distilcse_cli.models import encoder, prepacked

POOLER = "cls_before_pooler"
FIRST, ALL = "first token", "all tokens"


def _compute_all_tokens() -> None:
    """From here on, in this process."""
    for module in (encoder, prepacked):
        assert hasattr(module, "reads_first_token")  # or both sides would be the same
        module.reads_first_token = lambda *_: False  # type: ignore[assignment]


class TrainAll(OursDistill):
    """`OursDistill`, with all tokens of the last layer."""

    def __init__(self, **settings: Any) -> None:
        _compute_all_tokens()
        super().__init__(**settings)


class EncodeAll(Ours):
    """`Ours` of `benchmarks.encode`, with all tokens of the last layer."""

    def __init__(self, **settings: Any) -> None:
        _compute_all_tokens()
        super().__init__(**settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    add_slices(parser)
    parser.add_argument("--sentences", type=whole(), default=20_000, help="lines of news to train on")
    parser.add_argument("--lines", type=whole(), default=4_000, help="lines to encode")
    parser.add_argument("--bank-size", type=int, default=65_536)
    arguments = parser.parse_args()

    before = pinned_machine(arguments.threads)
    jobs: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        student, made = write_student(arguments, folder, pooler=POOLER), write_corpus(arguments, folder)
        (folder / "lines.json").write_text(json.dumps(mixed_lines(arguments.lines)), encoding="utf-8")
        train = slice_settings(arguments, OUR_STEPS) | {"bank_size": arguments.bank_size, "student": student}
        train |= {"tokens": made["tokens"], "rows": made["rows"]}
        encode = {"model": student, "sentences": str(folder / "lines.json"), "rows": name}
        jobs["train"] = _measure("training_sides:OursDistill", "first_token:TrainAll", train, arguments)
        jobs["encode"] = _measure("encode:Ours", "first_token:EncodeAll", encode, arguments)
    facts = {"rounds": arguments.rounds, "pooler": POOLER, "layers": arguments.layers, "jobs": jobs}
    save("first_token", facts, before, arguments.out)


def _measure(first: str, all_tokens: str, settings: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    def starter(side: str) -> Any:
        return lambda: Peer(f"benchmarks.{side}", settings, threads=arguments.threads)

    starters = {FIRST: starter(first), ALL: starter(all_tokens)}
    sides, _ = compare(starters, arguments.rounds, unit="sentences", ours=FIRST, against=ALL)
    for side in sides.values():
        side["facts"].pop("rows", None)
    show(sides, {})
    return sides


if __name__ == "__main__":
    run(main)
