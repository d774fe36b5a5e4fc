"""The command under attack: run, judged, counted."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.evaluation.small import write_sts16
from tests.hostile.case import Case
from tests.server import Server
from tests.tiny import make_tiny

TEXT = "".join(f"the {size} {who} {what} in the {where}\n" for size in ("red", "big", "small") for who, what, where in (
    ("cat", "sleeps", "house"), ("dog", "runs", "river"), ("man", "eats", "market"), ("woman", "plays", "bank"),
))  # fmt: skip
TRIPLES = "anchor,positive,negative\n" + "".join(
    f"a {who} sleeps,the {who} is asleep,a {who} runs {number}\n"
    for number in range(8)
    for who in ("cat", "dog", "man", "child")
)


@dataclass
class Ended:
    """How a command ended."""

    code: int | str
    out: str
    err: str
    events: int | None
    seconds: float

    @property
    def error(self) -> str:
        """The one line that says what is wrong; log lines may stand before it."""
        lines = self.err.splitlines()
        assert "Traceback" not in self.err, self.err
        assert [line for line in lines if line.startswith("error: ")] == lines[-1:], self.err
        return lines[-1]


@dataclass
class Tally:
    """What the suites count; printed at the end of the test run."""

    inputs: int = 0
    refused: int = 0
    kills: dict[str, int] = field(default_factory=dict)


TALLY = Tally()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if TALLY.inputs:
        terminalreporter.write_line(
            f"hostile inputs: {TALLY.inputs} tried, {TALLY.refused} refused in one line, the others survived;"
            " tracebacks or partial outputs fail their test"
        )
    if TALLY.kills:
        each = ", ".join(f"{command} {count}" for command, count in TALLY.kills.items())
        terminalreporter.write_line(f"killed with SIGKILL: {sum(TALLY.kills.values())} times ({each})")


Command = Callable[..., Ended]


def ask(
    server: Server,
    line: str | list[str],
    materials: dict[str, Path],
    *,
    folder: Path,
    home: Path,
    environment: Mapping[str, str] | None = None,
    **job: Any,
) -> Ended:
    """Have the server run a command line in `folder`."""
    words = line.split() if isinstance(line, str) else line
    argv = [word.format(**materials) if "{" in word else word for word in words]
    added = {"DISTILCSE_HOME": str(home)} | dict(environment or {})
    return Ended(**server.run(argv, folder, server.environment | added, **job))


@pytest.fixture
def command(server: Server, tmp_path: Path, materials: dict[str, Path]) -> Command:
    """`command("encode {text} --out rows.npy", kill_at=3)`: run in the test's own folder, with its own data home."""
    work = tmp_path / "work"

    def run(line: str | list[str], **job: Any) -> Ended:
        work.mkdir(exist_ok=True)
        return ask(server, line, materials, folder=work, home=tmp_path / "home", **job)

    return run


@pytest.fixture(scope="session")
def materials(tmp_path_factory: pytest.TempPathFactory, server: Server) -> dict[str, Path]:
    """Good inputs by name, for command lines and for cases that spoil a copy of one."""
    del server
    folder = tmp_path_factory.mktemp("good")
    made = {name: folder / name for name in ("model", "other", "text.txt", "triples.csv", "weights.pth", "data")}
    make_tiny("bert", made["model"])
    make_tiny("bert", made["other"], num_layers=2, seed=1)
    made["text.txt"].write_text(TEXT, encoding="utf-8")
    made["triples.csv"].write_text(TRIPLES, encoding="utf-8")
    torch.save(load_file(made["model"] / "model.safetensors"), made["weights.pth"])
    write_sts16(made["data"])
    return {name.partition(".")[0]: path for name, path in made.items()}


def snapshot(folder: Path) -> dict[str, str]:
    """Every path below a folder, with a hash of what is there."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_file():
            found[name] = "folder" if path.is_dir() else "special"
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@pytest.fixture
def refuse(command: Command, tmp_path: Path, materials: dict[str, Path]) -> Callable[[Case], Ended]:
    """Run a case and hold it to what all cases promise."""

    def run(case: Case) -> Ended:
        work, home = tmp_path / "work", tmp_path / "home"
        case.prepare(work, materials)
        before = snapshot(work)
        ended = command(case.line, **case.job)
        TALLY.inputs += 1
        assert ended.code == case.code, f"exit {ended.code}\n{ended.out}\n{ended.err}"
        assert case.says in ended.error, ended.error
        # scores that cost an hour are shown even if they cannot be written, and so are damages found
        assert ended.out == "" or case.line.startswith(("eval ", "download --verify")), ended.out
        # a usage error names the value wanted, every other one what to do
        assert case.code == 2 or ended.error.endswith(")"), f"no remedy: {ended.error}"
        assert snapshot(work) == before
        check_home(home)
        TALLY.refused += 1
        return ended

    return run


@pytest.fixture
def survive(command: Command, tmp_path: Path, materials: dict[str, Path]) -> Callable[[Case], Ended]:
    """Run a case that looks hostile and is not."""

    def run(case: Case) -> Ended:
        case.prepare(tmp_path / "work", materials)
        ended = command(case.line, **case.job)
        TALLY.inputs += 1
        assert ended.code == 0, f"exit {ended.code}\n{ended.out}\n{ended.err}"
        assert case.says in ended.out + ended.err, ended.out + ended.err
        return ended

    return run


def check_home(home: Path, kinds: Sequence[str] = ("corpora", "tokens", "triplets", "results", "embeddings")) -> None:
    """What is cached is whole, and nothing is left of what was not finished."""
    for kind in kinds:
        assert list((home / kind).rglob(".*.tmp-*")) == []
        if kind not in ("corpora", "tokens", "triplets"):
            continue
        for cached in (home / kind).glob("[!.]*"):
            assert (cached / "manifest.json").is_file(), cached
