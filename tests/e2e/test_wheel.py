"""A wheel in an environment of its own, far from the repository, is all that the command needs."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from distilcse_cli import __version__
from tests.conftest import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.real_model, pytest.mark.slow]


def test_a_wheel_runs_without_the_repository(tmp_path: Path, minilm: Path) -> None:  # noqa: ARG001, it is downloaded
    source, new, away = tmp_path / "source", tmp_path / "new", tmp_path / "away"
    for package in ("distilcse_cli", "senteval"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("LICENSE", "README.md", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / file, source)
    away.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=away, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    pip = (sys.executable, "-m", "pip", "--quiet", "--no-input")
    run(*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, source)
    [wheel] = tmp_path.glob("*.whl")
    venv.create(new, symlinks=True)
    run(*pip, f"--python={new}", "install", "--no-deps", "--no-index", wheel)
    # what the package needs comes from the environment of the tests, but for the package itself
    packages = Path(run(new / "bin" / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    shared = [path for path in sys.path if path.endswith("-packages")]
    (packages / "shared.pth").write_text("\n".join(shared), encoding="utf-8")

    where = "import distilcse_cli, senteval; print(distilcse_cli.__file__, senteval.__file__)"
    assert all(Path(file).is_relative_to(packages) for file in run(new / "bin" / "python", "-c", where).split())
    assert json.loads(run(new / "bin" / "distilcse", "env", "--json"))["distilcse"] == __version__
    assert "student" in run(new / "bin" / "distilcse", "demo", "--sentences", "500", "--out", "demo")
    assert (away / "demo").is_dir()
