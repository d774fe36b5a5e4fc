"""Run one function on many items, on all cores: in forked processes on Linux, else in this process.

Threads do not help: the work is thousands of torch calls of a few microseconds each, and passing
Python's lock between threads costs more than a second core gains (measured: no gain). A fork copies
nothing and needs no guard in the caller's script; torch's DataLoader forks too.
"""

import multiprocessing
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection
from typing import Any, TypeVar, cast

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
Count = Callable[[int], object]
"""Called with the amount of work done since the last call."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one torch thread: with small operations on busy cores, threads that wait for each other are very slow."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def map_on_cores(
    function: Callable[[Item, Count], Result], items: Sequence[Item], num_workers: int, count: Count
) -> list[Result]:
    """Return the results of `function(item, count)`, in the order of the items.

    Args:
        function: may call its `count`, which calls the caller's. It must not use a GPU.
        items: the most costly first, so that the work is shared evenly.
        num_workers: largest number of processes.
        count: called in this process.

    Raises:
        RuntimeError: a process ended without a result; it may have been killed for lack of memory.
        Exception: any exception of `function`; the other processes are stopped.
    """
    with one_thread():
        if min(num_workers, len(items)) < 2 or not _can_fork():
            return [function(item, count) for item in items]
        return _map_forked(function, items, min(num_workers, len(items)), count)


def _can_fork() -> bool:
    # macOS can fork too, but its frameworks break; a daemon process may have no children
    return sys.platform == "linux" and not multiprocessing.current_process().daemon


def _map_forked(
    function: Callable[[Item, Count], Result], items: Sequence[Item], num_workers: int, count: Count
) -> list[Result]:
    context = multiprocessing.get_context("fork")
    taken = context.Value("q", 0)
    readers: list[connection.Connection] = []
    workers = []
    results: dict[int, Result] = {}
    try:
        with _quiet_fork():
            for _ in range(num_workers):
                reader, writer = context.Pipe(duplex=False)
                readers.append(reader)
                worker = context.Process(target=_work, args=(function, items, taken, writer, readers), daemon=True)
                worker.start()
                workers.append(worker)
                writer.close()
        while len(results) < len(items):
            for reader in cast(list[connection.Connection], connection.wait(readers)):
                try:
                    number, value = reader.recv()
                except EOFError:
                    readers.remove(reader)
                    continue
                if isinstance(value, BaseException):
                    raise value
                if number is None:
                    count(value)
                else:
                    results[number] = value
            if not readers and len(results) < len(items):
                raise RuntimeError("a worker process ended before its work was done")
        return [results[number] for number in range(len(items))]
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()
        for reader in readers:
            reader.close()


def _work(
    function: Callable[[Any, Count], Any],
    items: Sequence[Any],
    taken: Any,
    writer: connection.Connection,
    readers: Sequence[connection.Connection],
) -> None:
    """Take one item after another; send `(None, count)` during the work and `(number, result)` after each item."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and stops its workers
    for reader in readers:
        reader.close()  # else a worker would not notice that its parent was killed
    try:
        while True:
            with taken.get_lock():
                number, taken.value = taken.value, taken.value + 1
            if number >= len(items):
                break
            writer.send((number, function(items[number], lambda more: writer.send((None, more)))))
    except BrokenPipeError:
        pass
    except Exception as error:
        error.add_note(traceback.format_exc())  # a traceback cannot be sent to another process
        writer.send((None, error))


@contextmanager
def _quiet_fork() -> Iterator[None]:
    """Silence the warnings that threads and tokenizers break after a fork: the workers use neither."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ.setdefault(name, "true")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork", category=DeprecationWarning)
            yield
    finally:
        if before is None:
            del os.environ[name]
