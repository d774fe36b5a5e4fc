"""Every command that writes, killed with SIGKILL at random moments and run again.

Half of the kills hit right before a touch of the disk, which is where the dangerous moments are, the other
half at any time. Downloads are killed in `tests/download/test_kill.py`, `tests/download/test_resume.py` and
`tests/data/test_catalogue_kill.py`,
training at finer steps and in several processes in `tests/training/`, extraction window by window in
`tests/teacher/`.
"""

import json
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.conftest import TALLY, Ended, ask, check_home

NUM_KILLS = 10
MOST_IN_A_ROW = 6
FEW = "--compute-dtype float32 --max-steps 3 --save-every 1 --eval-every 1 --batch-size 4"


def content(path: Path) -> object:
    """The bytes of a file."""
    return path.read_bytes()


def scores(path: Path) -> object:
    """Results without the dates on which they were scored."""
    found = json.loads(path.read_text(encoding="utf-8"))
    del found["settings"]["dates"]
    return found


def model(path: Path) -> object:
    """What a model folder holds, without what the clock has a part in."""
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*"))
    return names, (path / "model.safetensors").read_bytes(), (path / "tokenizer.json").read_bytes()


def store(path: Path) -> object:
    """The rows of a store that says it is complete; a killed process leaves its lock file, which blocks nobody."""
    if not (path / "manifest.json").exists():
        return None
    names = sorted(file.name for file in path.iterdir() if file.name not in (".lock", "manifest.partial.json"))
    return names, (path / "embeddings.npy").read_bytes(), (path / "sentences.txt").read_bytes()


@dataclass(frozen=True)
class Job:
    """A command that writes `out`, and what counts of it."""

    line: str
    out: str
    read: Callable[[Path], object]
    again: str = ""
    """What is added to run it again."""
    num_kills: int = NUM_KILLS

    def found(self, work: Path) -> object:
        """What is under the final name; None if nothing is."""
        path = work / self.out
        return self.read(path) if path.exists() else None


JOBS = {
    "encode": Job("encode {text} --model {model} --out rows.npy --compute-dtype float32", "rows.npy", content),
    "encode to parquet": Job(
        "encode {text} --model {model} --out rows.parquet --compute-dtype float32", "rows.parquet", content, num_kills=5
    ),
    "encode, kept": Job(
        "encode {text} --model {model} --out rows.jsonl --resume --compute-dtype float32",
        "rows.jsonl",
        content,
        num_kills=4,
    ),
    "encode in files": Job(
        "encode {text} --model {model} --out rows.npy --rows-per-file 5 --compute-dtype float32",
        "rows-00002-of-00003.npy",  # the last
        lambda path: [file.read_bytes() for file in sorted(path.parent.glob("rows-*"))],
        "--resume",
        num_kills=4,
    ),
    "extract": Job("extract --teacher {model} --corpus {text} --out rows --compute-dtype float32", "rows", store),
    "distill": Job(
        f"distill --teacher {{model}} --student {{other}} --corpus {{text}} --out student {FEW}",
        "student",
        model,
        "--resume",
        num_kills=4,  # and ten in tests/training/test_resume.py
    ),
    "finetune": Job(
        f"finetune --student {{other}} --triplets {{triples}} --out student {FEW}",
        "student",
        model,
        "--resume",
        num_kills=6,
    ),
    "eval": Job(
        "eval --model {model} --tasks STS16 --data {data} --out r.json --compute-dtype float32", "r.json", scores
    ),
    "convert": Job("convert {weights} --base {model} --out student", "student", model),
}


@pytest.mark.parametrize("name", JOBS)
def test_killed_at_any_moment_nothing_is_lost_or_wrong_and_nothing_blocks(
    server: Any, materials: dict[str, Path], tmp_path: Path, name: str
) -> None:
    job, choose = JOBS[name], random.Random(name)
    whole = run(server, job, materials, new_life(tmp_path, "whole"), kill_at=0)
    assert whole.code == 0, whole.err
    assert whole.events is not None
    expected = job.found(tmp_path / "whole" / "work")
    assert expected is not None

    num_kills = num_lives = 0
    while num_kills < job.num_kills:
        num_lives += 1
        life = new_life(tmp_path, "life")
        for number in range(choose.randint(1, MOST_IN_A_ROW)):
            moment: dict[str, Any] = (
                {"kill_at": choose.randint(1, max(whole.events, 1))}
                if num_lives % 2
                else {"kill_after": choose.uniform(0.0, whole.seconds)}
            )
            ended = run(server, job, materials, life, again=number > 0, **moment)
            assert ended.code in (0, -signal.SIGKILL), ended.err
            num_kills += ended.code == -signal.SIGKILL
            assert job.found(life / "work") in (None, expected)
            if name == "convert" and job.found(life / "work") is not None:  # which never writes over a model
                break
        if name == "convert" and job.found(life / "work") is not None:
            continue
        done = run(server, job, materials, life, again=True)
        assert done.code == 0, done.err
        assert job.found(life / "work") == expected
        assert not (life / "work" / f"{job.out}.run").exists()
        check_home(life / "home", ("corpora", "tokens", "triplets"))
    TALLY.kills[name] = num_kills


def new_life(tmp_path: Path, name: str) -> Path:
    """An empty folder and an empty data home."""
    life = tmp_path / name
    shutil.rmtree(life, ignore_errors=True)
    (life / "work").mkdir(parents=True)
    return life


def run(server: Any, job: Job, materials: dict[str, Path], life: Path, *, again: bool = False, **moment: Any) -> Ended:
    line = f"{job.line} {job.again if again else ''}"
    return ask(server, line, materials, folder=life / "work", home=life / "home", **moment)
