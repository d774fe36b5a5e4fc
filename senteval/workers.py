"""One function on many items, on all cores: by forked processes where the system forks, else in this one.

Threads would not do: the work is thousands of torch calls of some microseconds each, and handing
Python's lock back and forth between them costs more than a second core brings (measured: no gain).
A fork copies nothing, needs no guard in the caller's script, and is what torch's DataLoader does.
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
"""Told how much more is done."""


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread: where operations are small, threads that wait for each other on busy cores crawl."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def map_on_cores(
    function: Callable[[Item, Count], Result], items: Sequence[Item], num_workers: int, count: Count
) -> list[Result]:
    """Results of `function(item, count)`, in the items' order.

    Args:
        function: may call its `count`; what it is told reaches the caller's. Must not use a GPU.
        items: the costliest first, for an even share.
        num_workers: most processes at work.
        count: called in this process.

    Raises:
        RuntimeError: a process ended without a word, killed for its memory perhaps.
        Exception: whatever `function` raised; the other processes are ended.
    """
    with one_thread():
        if min(num_workers, len(items)) < 2 or not _can_fork():
            return [function(item, count) for item in items]
        return _map_forked(function, items, min(num_workers, len(items)), count)


def _can_fork() -> bool:
    # macOS has fork too, but its frameworks do not survive it; a daemon may have no children
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
    """Take item after item; send `(None, count)` on the way and `(number, result)` at the end of each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle: it ends its workers
    for reader in readers:
        reader.close()  # or a worker whose parent was killed would not notice that nobody listens
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
        error.add_note(traceback.format_exc())  # the traceback itself does not travel
        writer.send((None, error))


@contextmanager
def _quiet_fork() -> Iterator[None]:
    """Fork without being told that threads and tokenizers do not survive it: the workers use neither."""
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
