"""The fake hub, and `distilcse` as its client."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.download.fake_hub import FakeHub

TOKEN = "hf_test-token-that-must-never-be-seen"


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The last line of stderr, of which there must be one, and no traceback."""
        assert "Traceback" not in self.err, self.err
        return self.err.splitlines()[-1]


class Client:
    """`client("download", "a/b", code=0)`: the command, its hub client talking to the fake hub."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.environment: dict[str, str] = {}

    def job(self, **job: Any) -> dict[str, Any]:
        """Have the driver do one thing."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def resolve(self, ref: str, revision: str | None = None, *, code: int = 0, **environment: str) -> Done:
        """Resolve a model reference as every command does."""
        done = Done(**self.job(resolve=ref, revision=revision, environment=self.environment | environment))
        assert done.code == code, f"{ref}: exit {done.code}\n{done.out}\n{done.err}"
        return done

    def __call__(self, *argv: object, code: int = 0, forbid: bool = False, **environment: str) -> Done:
        job = {"argv": [str(one) for one in argv], "environment": self.environment | environment, "forbid": forbid}
        done = Done(**self.job(**job))
        assert done.code == code, f"{argv}: exit {done.code}\n{done.out}\n{done.err}"
        return done


@pytest.fixture(scope="session")
def served_hub() -> Iterator[FakeHub]:
    with FakeHub().serve() as hub:
        yield hub


@pytest.fixture
def hub(served_hub: FakeHub) -> FakeHub:
    """The fake hub, empty."""
    served_hub.reset()
    return served_hub


@pytest.fixture(scope="session")
def driver(served_hub: FakeHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.download.driver"],
        cwd=ROOT,
        env=hub_environment(served_hub, tmp_path_factory.mktemp("hf")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=60)


@pytest.fixture
def client(hub: FakeHub, driver: subprocess.Popen[str], home: Path) -> Client:
    """`distilcse` with an empty data home."""
    del hub  # emptied before the client starts
    made = Client(driver)
    made.environment = {"DISTILCSE_HOME": str(home)}
    return made


def hub_environment(hub: FakeHub, hf_home: Path) -> dict[str, str]:
    """The environment of a process that knows no other hub, with a token to be careful with."""
    dropped = ("HF_", "TRANSFORMERS_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(dropped)}
    settings = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(hf_home),
        "HF_TOKEN": TOKEN,
        "NO_PROXY": "127.0.0.1,localhost",
    }
    return kept | settings | {"OMP_NUM_THREADS": "1"}


def run_instant(*argv: object, code: int, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `distilcse` in a process of its own; check its exit code and that it does not show a traceback."""
    command = [sys.executable, "-m", "tests.download.instant", *map(str, argv)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{argv}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done
