"""Runs `distilcse` again and again, each time in a process of its own, forked from one that has torch loaded.

A job a line on stdin, as JSON, is answered by a line. In the forked process the installed command's
own `run()` is called with the job's arguments, folder and environment, and may be hampered:

    ordinary     root is bound by file permissions as everybody else is
    file_limit   no file may grow beyond so many bytes, as on a full disk
    isolated     the first look at a network or start of another program ends it with exit code 99
    kill_at      SIGKILL hits before the disk is touched for the time of this number
    kill_after   SIGKILL hits after so many seconds

The answer has exit code (or minus the signal), stdout, stderr, seconds, and the number of touches of the disk.
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
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

from tests.download.instant import CAUGHT, NETWORK_EVENTS

TIME_LIMIT = 120.0
TIMED_OUT = "timed out"
_LATE = ("transformers.models.bert.modeling_bert", "transformers.models.auto", "matplotlib.pyplot", "pyarrow.parquet")
_CAPABILITIES_3 = 0x20080522


def serve() -> None:
    _load_everything()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    environment = dict(os.environ)
    for line in sys.stdin:
        job = json.loads(line)
        with tempfile.TemporaryDirectory() as folder:
            job["environment"] = environment | job["environment"]
            print(json.dumps(_answer(job, Path(folder))), file=answers)


def _load_everything() -> None:
    """Import what commands import late, so that no forked process spends its time on that."""
    import distilcse_cli
    import senteval

    for package in (distilcse_cli, senteval):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    for name in _LATE:
        importlib.import_module(name)
    with contextlib.redirect_stderr(io.StringIO()):  # the command line's own late imports
        sys.argv = ["distilcse", "encode", "--out", "rows.npy", "nowhere.txt"]
        importlib.import_module("distilcse_cli.__main__").run()
    gc.freeze()  # else each forked process looks through, and so copies, all that was loaded


def _answer(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    started = time.monotonic()
    # pipes, as files would be subject to the file limit
    pipes = {"out": os.pipe(), "err": os.pipe()}
    pid = os.fork()
    if pid == 0:
        _enter(job, folder, [end for _, end in pipes.values()])
    heard = {name: bytearray() for name in pipes}
    for read, write in pipes.values():
        os.close(write)
        os.set_blocking(read, False)
    limit = job.get("kill_after") or TIME_LIMIT
    status = None
    while status is None and time.monotonic() - started < limit:
        done, code = os.waitpid(pid, os.WNOHANG)
        status = code if done else None
        for name, (read, _) in pipes.items():
            heard[name] += _whatever_is_there(read)
        time.sleep(0.001)
    hung = status is None and not job.get("kill_after")
    if status is None:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    for name, (read, _) in pipes.items():
        heard[name] += _whatever_is_there(read)
        os.close(read)
    events = folder / "events"
    return {
        "code": TIMED_OUT if hung else os.waitstatus_to_exitcode(status),
        "out": heard["out"].decode("utf-8", "replace"),
        "err": heard["err"].decode("utf-8", "replace"),
        "events": int(events.read_text() or 0) if events.exists() else None,
        "seconds": time.monotonic() - started,
    }


def _whatever_is_there(pipe: int) -> bytes:
    try:
        return os.read(pipe, 1 << 20)
    except BlockingIOError:
        return b""


def _enter(job: dict[str, Any], folder: Path, pipes: list[int]) -> NoReturn:
    """Be the command, and end as it ends."""
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    for stream, pipe in zip((1, 2), pipes, strict=True):
        os.dup2(pipe, stream)
    os.dup2(os.open(job.get("stdin") or os.devnull, os.O_RDONLY), 0)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    code = 1
    try:
        code = _run(job, folder)
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
    events = FileEvents(job.get("kill_at"))
    code = run()
    num_events = events.count
    if not job.get("file_limit"):
        (folder / "events").write_text(str(num_events))
    return code


def _forbid_network() -> None:
    """As a user who is online, but whose every attempt to use that is caught."""
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = False
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        os.environ.pop(name, None)
    sys.addaudithook(_catch)


def _catch(event: str, arguments: tuple[Any, ...]) -> None:
    if event in NETWORK_EVENTS:
        os.write(2, f"caught: {event} {arguments}\n".encode())
        os._exit(CAUGHT)


def _bow_to_permissions() -> None:
    """Give up root's power over files that it may not read or write."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, nothing) != 0:
        raise OSError(ctypes.get_errno(), "capset")


if __name__ == "__main__":
    serve()
