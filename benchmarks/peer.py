"""A side of a comparison in its own process. It works when its turn comes, and waits otherwise.

Each side has its own weights, heap, threads and global settings, and may use another virtual
environment. All sides are children of one process and inherit its cores. This file needs the
standard library only: a side's environment need not have this project's packages.

A side is a class. Its constructor takes keywords, loads, warms up, and may set `facts`, a dict.
Its `run()` does the work of one round and returns the figures as a dict.
"""

import importlib
import json
import os
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class SideFailed(Exception):
    """A side could not be set up, or failed in a round; the message is one line."""


class Peer:
    """A side that runs in another process.

    Args:
        side: `module:Class` of the side.
        settings: keywords of its constructor.
        threads: threads of its matrix products.
        python: interpreter that runs it; None takes this one.

    Raises:
        SideFailed: the side could not be set up.
    """

    def __init__(self, side: str, settings: Mapping[str, Any], *, threads: int, python: str | None = None) -> None:
        command = [python or sys.executable, "-m", "benchmarks.peer", side, json.dumps(settings)]
        variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        environment = os.environ | variables | {"TOKENIZERS_PARALLELISM": "true"}
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True)
        except OSError as error:
            raise SideFailed(f"cannot run {command[0]}: {error.strerror}") from error
        try:
            self.facts = self._answer()
        except SideFailed:
            self._process.wait()
            raise

    def run(self) -> dict[str, Any]:
        """Do one round; its figures, with `seconds`, `cpu_seconds` (user and system) and `resident_bytes`."""
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


class StepClock:
    """Times the steps of a slice of training, without the first few, where shapes and buffers are new.

    Args:
        num_warmup: steps that are not counted.
    """

    def __init__(self, num_warmup: int) -> None:
        self._num_warmup = num_warmup
        self._num_steps = self._num = 0
        self._started = self._ended = time.perf_counter()

    def tick(self, num: int) -> None:
        """Call this after every step, with the number of sentences or triples in it."""
        self._ended = time.perf_counter()
        self._num_steps += 1
        if self._num_steps <= self._num_warmup:
            self._started = self._ended
        else:
            self._num += num

    def figures(self) -> dict[str, Any]:
        """What a side's `run` returns: `num` and the `seconds` they took."""
        return {"num": self._num, "seconds": self._ended - self._started}


def most_memory(of: int = resource.RUSAGE_SELF) -> int:
    """Bytes of the most memory that this process, or the largest of its ended children, has had in RAM."""
    return 1024 * resource.getrusage(of).ru_maxrss


def serve(side: str, settings: Mapping[str, Any]) -> None:
    """Set the side up, then do a round for every line of standard input."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not mix with the answers

    def answer(figures: Mapping[str, Any]) -> None:
        print(json.dumps(figures), file=answers, flush=True)

    try:
        module, _, name = side.partition(":")
        started = time.perf_counter()
        worker = getattr(importlib.import_module(module), name)(**settings)
        answer({"setup_seconds": time.perf_counter() - started} | getattr(worker, "facts", {}))
        for _ in sys.stdin:
            started, cpu_started = time.perf_counter(), time.process_time()
            figures = worker.run()
            times = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu_started}
            answer(times | {"resident_bytes": most_memory()} | figures)
    except BaseException as error:
        traceback.print_exc()
        answer({"failed": f"{type(error).__name__}: {error}".splitlines()[0]})


if __name__ == "__main__":
    serve(sys.argv[1], json.loads(sys.argv[2]))
