"""`extract`, `encode` and `eval` with `--nproc 2`: what one process makes, to the byte, and one line when it fails."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.conftest import DISTILCSE
from tests.evaluation.small import write_sts16
from tests.tiny import WORDS

pytestmark = pytest.mark.e2e
Command = Callable[..., CompletedProcess[str]]

# two whole windows of 8,192 lines and a part of one
NUM_LINES = 2 * 8192 + 100


@pytest.fixture(autouse=True)
def one_thread_each(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:  # noqa: ARG001
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def model(tiny: Callable[..., Path]) -> list[str]:
    return [str(tiny("bert", num_layers=1)), "--pooler", "avg", "--compute-dtype", "float32", "--device", "cpu"]


def write_lines(path: Path, num_lines: int = NUM_LINES) -> Path:
    draw = random.Random(0)
    path.write_text("".join(f"{' '.join(draw.choices(WORDS, k=draw.randint(1, 4)))} {i}\n" for i in range(num_lines)))
    return path


@pytest.mark.parametrize("suffix", ["npy", "parquet"])
def test_encode_writes_the_same_file(distilcse: Command, model: list[str], tmp_path: Path, suffix: str) -> None:
    lines = write_lines(tmp_path / "lines.txt")
    for num_processes in (1, 2):
        out = f"{num_processes}.{suffix}"
        # kept window by window, and joined at the end
        kept = ["--resume"] if out == "2.parquet" else []
        done = distilcse("encode", lines, "--model", *model, "--out", out, "--json", "--nproc", num_processes, *kept)
        assert json.loads(done.stdout)["num_rows"] == NUM_LINES
    assert "starting 2 processes of 1 threads" in done.stderr
    assert (tmp_path / f"1.{suffix}").read_bytes() == (tmp_path / f"2.{suffix}").read_bytes()


def test_encode_of_stdin_with_processes_is_refused(distilcse: Command) -> None:
    done = distilcse("encode", "--model", "m", "--out", "rows.npy", "--nproc", 2, input="a cat\n", code=2)
    assert done.stderr == "error: several processes cannot share stdin (name a FILE, or leave --nproc out)\n"


def test_a_device_that_is_not_there_is_said_before_workers_start(distilcse: Command, tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "lines.txt", 1)
    command = ("encode", lines, "--model", "m", "--out", "rows.npy", "--nproc", 2, "--device")
    assert distilcse(*command, "tpu", code=2).stderr == "error: unknown device 'tpu' (cpu, cuda, or cuda:N)\n"
    done = distilcse(*command, "cuda:99", code=5)
    assert done.stderr.startswith("error: no device cuda:99: this machine has ")
    assert done.stderr.count("\n") == 1


def test_what_all_workers_find_wrong_is_said_once(distilcse: Command, model: list[str], tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_bytes(b"a cat\n" * 9000 + b"\xff\n")
    done = distilcse("encode", lines, "--model", *model, "--out", "rows.npy", "--nproc", 2, code=3)
    assert done.stdout == ""
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "9001" in error.replace(",", "")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.glob("*rows.npy*")) == []

    done = distilcse("encode", lines, "--model", "no-such-model", "--out", "rows.npy", "--nproc", 2, code=4)
    assert done.stderr.count("error: ") == 1
    assert "error: no model no-such-model" in done.stderr


def test_extract_with_a_worker_killed_half_way_then_again(distilcse: Command, model: list[str], tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "lines.txt", 12 * 8192)
    command = ["extract", "--teacher", *model, "--corpus", str(lines)]
    distilcse(*command, "--out", "one")

    many = [*command, "--out", str(tmp_path / "two"), "--nproc", "2"]
    process = subprocess.Popen([str(DISTILCSE), *many], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and _rows_done(tmp_path / "two") == 0:
        os.sched_yield()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [int(pid) for pid in children if b"extract" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGKILL, errors
    assert "was killed by SIGKILL" in errors.splitlines()[-1]
    assert 0 < _rows_done(tmp_path / "two") < 12 * 8192
    assert not (tmp_path / "two" / "manifest.json").exists()

    done = distilcse(*many, "--json")
    assert "resuming after row" in done.stderr
    assert 0 < json.loads(done.stdout)["num_extracted"] < 12 * 8192
    for name in ("embeddings.npy", "sentences.txt", "manifest.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    assert len(list((tmp_path / "two").iterdir())) == 3


def _rows_done(out: Path) -> int:
    try:
        return int(json.loads((out / "manifest.partial.json").read_text(encoding="utf-8"))["rows_done"])
    except FileNotFoundError:
        return 0


def test_eval_gives_the_same_scores(distilcse: Command, model: list[str], tmp_path: Path) -> None:
    # in the working folder, where it must not be taken for the package of that name
    write_sts16(tmp_path / "senteval")
    reports = []
    for num_processes in (1, 2):
        # small batches, so that there are enough to share
        command = ("eval", "--model", *model, "--tasks", "STS16", "--data", "senteval", "--batch-tokens", 256)
        done = distilcse(*command, "--json", "--overwrite", "--out", f"{num_processes}.json", "--nproc", num_processes)
        reports.append(json.loads(done.stdout))
    assert reports[0] == reports[1]
    assert reports[0]["tasks"]["STS16"]["num_pairs"] == 1186

    again = distilcse(*command, "--json", "--nproc", 2)
    assert json.loads(again.stdout) == reports[0]
    assert again.stderr.count("results of 1 of 1 tasks re-used") == 1


def test_torchrun_works_as_it_is(distilcse: Command, model: list[str], tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "lines.txt")
    distilcse("encode", lines, "--model", *model, "--out", "one.npy")
    torchrun = [str(DISTILCSE.with_name("torchrun")), "--standalone", "--nproc-per-node", "2", "-m", "distilcse_cli"]
    command = [*torchrun, "encode", str(lines), "--model", *model, "--out", "two.npy"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("rows of 16 float32") == 1  # only rank 0 speaks
    assert (tmp_path / "one.npy").read_bytes() == (tmp_path / "two.npy").read_bytes()


def test_no_thread_of_a_group_outlives_it(model: list[str]) -> None:
    # one of gloo's that lets go of a tensor while Python is ending would abort the process
    script = (
        "import os, sys\n"
        "from distilcse_cli.ranks import joined\n"
        "from distilcse_cli.runtime import choose_runtime\n"
        "runtime = choose_runtime('cpu', 'float32')\n"
        "num_threads = lambda: len(os.listdir('/proc/self/task'))\n"
        "before = num_threads()\n"
        "with joined(runtime) as ranks:\n"
        "    from distilcse_cli.models.encoder import load_encoder\n"
        "    load_encoder(sys.argv[1], pooler='avg')\n"
        "    within = num_threads()\n"
        "print(within > before, num_threads() - before)\n"
    )
    place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script, model[0]], capture_output=True, text=True, env=os.environ | place
    )
    assert done.stdout == "True 0\n", done.stderr
