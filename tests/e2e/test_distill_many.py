"""`--nproc`: workers that the command starts, and what becomes of the run when one dies or Ctrl-C is pressed."""

import os
import re
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import DISTILCSE
from tests.training.conftest import write_corpus

pytestmark = pytest.mark.e2e


@pytest.fixture
def command(tiny: Callable[..., Path], tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two processes over very many steps."""
    monkeypatch.delenv("DISTILCSE_DATA", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert not home.exists()
    write_corpus(tmp_path / "corpus.txt", 120)
    teacher, student = (str(tiny("bert", num_layers=layers, seed=layers)) for layers in (2, 1))
    arguments = f"--pooler avg --teacher-pooler avg --corpus {tmp_path}/corpus.txt --out {tmp_path}/out"
    sizes = "--batch-size 4 --epochs 100000 --eval-every 1 --save-every 1 --bank-size 32 --nproc 2"
    return [str(DISTILCSE), "distill", "--teacher", teacher, "--student", student, *f"{arguments} {sizes}".split()]


@pytest.fixture
def running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """The command, when it has saved its first step."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        # behind the second step's score the first step is saved
        assert any(line.startswith("step 2:") for line in process.stderr)
        yield process
    finally:
        process.kill()
        process.communicate()


def _workers(launcher: int) -> list[int]:
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return [pid for pid in map(int, children) if b"distill" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_dead_worker_ends_the_run_and_says_so(running: subprocess.Popen[str]) -> None:
    workers = _workers(running.pid)
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 128 + signal.SIGKILL
    assert re.search(r"error: worker \d was killed by SIGKILL", errors)
    assert all(not Path(f"/proc/{pid}").exists() for pid in workers)


def test_a_dead_launcher_takes_its_workers_along(running: subprocess.Popen[str]) -> None:
    watched = [os.pidfd_open(pid) for pid in _workers(running.pid)]
    assert len(watched) == 2
    running.kill()
    for descriptor in watched:
        assert select.select([descriptor], [], [], 60)[0], "a worker lives on"
        os.close(descriptor)


def test_ctrl_c_saves_once_and_the_run_goes_on_from_there(
    running: subprocess.Popen[str], command: list[str], tmp_path: Path
) -> None:
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 130
    assert errors.count("--resume continues from there") == 1
    saved = int(re.search(r"stopped after step ([\d,]+)", errors)[1].replace(",", ""))  # type: ignore[index]
    assert (tmp_path / "out.run" / "checkpoints" / f"step-{saved:08d}").exists()

    again = subprocess.Popen([*command, "--resume"], stderr=subprocess.PIPE, text=True)
    assert again.stderr is not None
    line = next(line for line in again.stderr if "resuming after step" in line)
    assert f"step {saved:,}" in line
    again.send_signal(signal.SIGINT)
    again.communicate(timeout=120)
    assert again.returncode == 130


def test_an_error_with_many_processes_is_one_line_with_its_own_code(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").unlink()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3
    assert "corpus.txt" in done.stderr
    assert "Traceback" not in done.stderr
