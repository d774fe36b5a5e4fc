"""Runs `distilcse` again and again, each time in its own process, forked from one that has torch loaded.

Each line on stdin is a job, as JSON; each gets one line as its answer. The forked process calls the installed
command's own `run()` with the job's `argv`, `folder`, `environment` and `input`. A job may hamper it:

    ordinary     root has to obey file permissions as everybody else does
    file_limit   no file may grow beyond this many bytes, as on a full disk
    isolated     the first use of a network or start of another program ends it with exit code 99
    kill_at      SIGKILL hits before this number of touches of the disk; 0 only counts them
    kill_after   SIGKILL hits after this many seconds
    time_limit   seconds until the process counts as hung, 120 if not given

The answer holds the exit code (or minus the signal), stdout, stderr, seconds, and the touches of the disk
if they were counted.

The server itself never computes and never starts a thread, because a forked process would not have it.
What is read once at import (`PYTHON…`, `ATEN_…`, `HF_…`) keeps the value that it had when the server started.
"""

import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import pkgutil
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, Self

from distilcse_cli.bf16 import Speed

FASTER_IN_BF16 = Speed(float32=0.04, bfloat16=0.02)
ROOT = Path(__file__).resolve().parent.parent
TIME_LIMIT = 120.0
TIMED_OUT = "timed out"
_CAPABILITIES_3 = 0x20080522
_PIPE_BYTES = 1 << 16
"""What a pipe takes before somebody reads from it."""


class Server:
    """The server as its user sees it: `with Server() as server: server.run(["env"], folder, environment)`."""

    def __init__(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DISTILCSE_", "HF_"))}
        self.environment = kept | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        self._process = subprocess.Popen(
            # not with -m, after which usage errors would name the module rather than `distilcse`
            [sys.executable, "-c", "from tests.server import serve; serve()"],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, argv: list[str], folder: Path, environment: Mapping[str, str], **job: Any) -> dict[str, Any]:
        """Run a command line in `folder` with exactly this environment; the module says what else a job may hold."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        job |= {"argv": argv, "folder": str(folder), "environment": dict(environment)}
        stdin.write(json.dumps(job) + "\n")
        stdin.flush()
        return dict(json.loads(stdout.readline()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)


def serve() -> None:
    """Answer jobs until stdin ends."""
    _load_everything()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    for line in sys.stdin:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(_answer(json.loads(line), Path(folder))), file=answers)


def _load_everything() -> None:
    """Import what commands import late, so that no forked process spends its time on that."""
    import distilcse_cli
    import senteval

    for package in (distilcse_cli, senteval):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    from distilcse_cli import bf16

    bf16.speed = lambda _flags: FASTER_IN_BF16  # what a measurement says may change from run to run
    for name in ("tests.preload", "tests.download.instant", "tests.training.processes"):
        importlib.import_module(name)
    with contextlib.redirect_stderr(io.StringIO()):  # the command line's own late imports
        sys.argv = ["distilcse", "encode", "--out", "rows.npy", "nowhere.txt"]
        importlib.import_module("distilcse_cli.__main__").run()
    sys.path[0] = str(Path(sys.executable).parent)  # as in the installed command
    gc.freeze()  # else each forked process looks through, and so copies, all that was loaded


def _answer(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    started = time.monotonic()
    stdin, stdout, stderr = os.pipe(), os.pipe(), os.pipe()  # files would be subject to the file limit
    text = job.get("input", "").encode()
    assert len(text) <= _PIPE_BYTES
    os.write(stdin[1], text)
    os.close(stdin[1])
    pid = os.fork()
    if pid == 0:
        _enter(job, folder, (stdin[0], stdout[1], stderr[1]))
    for end in (stdin[0], stdout[1], stderr[1]):
        os.close(end)
    kill_after = job.get("kill_after")
    deadline = started + (kill_after or job.get("time_limit", TIME_LIMIT))
    status, in_time, (out, err) = _listen(pid, (stdout[0], stderr[0]), deadline)
    events = folder / "events"
    return {
        "code": os.waitstatus_to_exitcode(status) if in_time or kill_after else TIMED_OUT,
        "out": out.decode("utf-8", "replace"),
        "err": err.decode("utf-8", "replace"),
        "events": int(events.read_text() or 0) if events.exists() else None,
        "seconds": time.monotonic() - started,
    }


def _listen(pid: int, pipes: tuple[int, int], deadline: float) -> tuple[int, bool, list[bytes]]:
    """Read the pipes until the process ends; kill it at the deadline.

    A process that it started may hold the pipes open for longer, so this does not wait for their end.

    Returns:
        The wait status, whether it ended before the deadline, and what came through each pipe.
    """
    heard = dict.fromkeys(pipes, b"")
    watch, process = select.poll(), os.pidfd_open(pid)
    for descriptor in (process, *pipes):
        watch.register(descriptor, select.POLLIN)
    ended = False
    while not ended and (seconds := deadline - time.monotonic()) > 0:
        for descriptor, what in watch.poll(1000 * seconds):
            ended |= descriptor == process
            if descriptor != process and what & select.POLLIN:
                heard[descriptor] += os.read(descriptor, _PIPE_BYTES)
            elif descriptor != process:  # closed, which poll would say for ever
                watch.unregister(descriptor)
    if not ended:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(process)
    for pipe in pipes:
        os.set_blocking(pipe, False)
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(pipe, _PIPE_BYTES):
                heard[pipe] += piece
        os.close(pipe)
    return status, ended, list(heard.values())


def _enter(job: dict[str, Any], folder: Path, streams: tuple[int, int, int]) -> NoReturn:
    """Be the command, and end as it ends."""
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", 1, errors="backslashreplace")  # noqa: SIM115
    code = 1
    try:
        code = _run(job, folder)
    except SystemExit as asked:
        code = asked.code if isinstance(asked.code, int) else int(asked.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)


def _run(job: dict[str, Any], folder: Path) -> int:
    from distilcse_cli.__main__ import run
    from tests.training.processes import FileEvents

    if job.get("ordinary"):
        _bow_to_permissions()
    if job.get("isolated"):
        _forbid_network()
    if job.get("file_limit"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_limit"], job["file_limit"]))
    sys.argv = ["distilcse", *job["argv"]]
    if "kill_at" not in job:
        return run()
    events = FileEvents(job["kill_at"])
    code = run()
    num_events = events.count
    (folder / "events").write_text(str(num_events))
    return code


def _forbid_network() -> None:
    """As a user who is online, but whose every attempt to use that is caught."""
    from huggingface_hub import constants

    from tests.download.instant import CAUGHT, NETWORK_EVENTS

    def catch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in NETWORK_EVENTS:
            os.write(2, f"caught: {event} {arguments}\n".encode())
            os._exit(CAUGHT)

    constants.HF_HUB_OFFLINE = False
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        os.environ.pop(name, None)
    sys.addaudithook(catch)


def _bow_to_permissions() -> None:
    """Give up root's power over files that it may not read or write."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, nothing) != 0:
        raise OSError(ctypes.get_errno(), "capset")
