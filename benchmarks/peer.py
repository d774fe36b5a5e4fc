"""A side of a comparison in a process of its own, which does its work whenever it is its turn.

Each side so has its own weights, heap, threads and global settings, and may have its own virtual
environment. All sides are children of one process and inherit its cores; while one works, the
others wait for a line on their standard input. Standard library only: a side's environment need
not have this project's packages.

A side is a class. Its constructor takes keywords, loads and warms up, and may leave facts in
`facts`; `run()` does the work of one round and returns its figures as a dict.
"""

import importlib
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class SideFailed(Exception):
    """A side could not be set up, or broke off; the message is its last line."""


class Peer:
    """A side running in another process.

    Args:
        side: `module:Class` of the side.
        settings: the keywords of its constructor.
        threads: threads of its matrix products.
        python: interpreter to run it with; None takes this one.

    Raises:
        SideFailed: with the reason, when it could not be set up.
    """

    def __init__(self, side: str, settings: Mapping[str, Any], *, threads: int, python: str | None = None) -> None:
        command = [python or sys.executable, "-m", "benchmarks.peer", side, json.dumps(settings)]
        several = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
        environment = os.environ | dict.fromkeys(several, str(threads)) | {"TOKENIZERS_PARALLELISM": "true"}
        try:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        except OSError as error:
            raise SideFailed(f"cannot run {command[0]}: {error.strerror}") from error
        try:
            self.facts = self._answer()
        except SideFailed:
            self._process.wait()
            raise

    def run(self) -> dict[str, Any]:
        """The figures of one round, with its `seconds`."""
        assert self._process.stdin is not None
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SideFailed(f"ended with exit code {self._process.wait()}")
        answer = json.loads(line)
        if "failed" in answer:
            raise SideFailed(answer["failed"])
        return answer


def memory_now() -> dict[str, int]:
    """Memory of this process that is in RAM, `resident_bytes`; of it, `anonymous_bytes` are no mapped files' pages."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    fields = {"resident_bytes": "VmRSS", "anonymous_bytes": "RssAnon"}
    return {name: 1024 * int(status[field].split()[0]) for name, field in fields.items()}


def serve(side: str, settings: Mapping[str, Any]) -> None:
    """Set the side up, then do a round for every line of standard input."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever libraries print is no answer

    def answer(figures: Mapping[str, Any]) -> None:
        print(json.dumps(figures), file=answers, flush=True)

    try:
        module, _, name = side.partition(":")
        started = time.perf_counter()
        worker = getattr(importlib.import_module(module), name)(**settings)
        answer({"setup_seconds": time.perf_counter() - started} | getattr(worker, "facts", {}))
        for _ in sys.stdin:
            started = time.perf_counter()
            figures = worker.run()
            answer({"seconds": time.perf_counter() - started} | memory_now() | figures)
    except BaseException as error:
        traceback.print_exc()
        answer({"failed": f"{type(error).__name__}: {error}".splitlines()[0]})


if __name__ == "__main__":
    serve(sys.argv[1], json.loads(sys.argv[2]))
