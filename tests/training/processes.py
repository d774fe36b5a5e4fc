"""Training in processes that can be killed, forked from a server that has torch loaded already."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

FILE_EVENTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree")
"""What Python announces before it touches the disk."""


def start(task: Callable[..., object], *arguments: object) -> Any:
    """Start `task` in a process of one thread."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.preload"])
    process = context.Process(target=_enter, args=(dict(os.environ), task, arguments), daemon=True)
    process.start()
    return process


def start_group(world_size: int, task: Callable[..., object], *arguments: object) -> list[Any]:
    """Start `task` in each of so many processes that find each other as torchrun's do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    places = [group | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world_size)]
    return [start(_in_place, place, task, arguments) for place in places]


def run_all(processes: list[Any]) -> list[int]:
    """Wait for processes; when one fails, kill the others, as a launcher does. Their exit codes.

    Like a launcher, it lets those end that are about to: one that exits with an error may be ahead
    of the one that tells of it.
    """
    waiting = list(processes)
    while waiting:
        multiprocessing.connection.wait([process.sentinel for process in waiting])
        ended = [process for process in waiting if not process.is_alive()]
        waiting = [process for process in waiting if process not in ended]
        if any(process.exitcode for process in ended):
            for process in waiting:
                if all(other.exitcode >= 0 for other in ended):
                    process.join(timeout=20)
                if process.is_alive():
                    process.kill()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


class FileEvents:
    """Counts this process's touches of the disk from now on.

    Args:
        kill_at: SIGKILL hits right before the touch of this number.
    """

    def __init__(self, kill_at: int | None = None) -> None:
        self.count = 0
        self._kill_at = kill_at
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in FILE_EVENTS and not (event == "open" and _is_read(arguments)):
            self.count += 1
            if self.count == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


def _is_read(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    return (mode is not None and set(mode) <= set("rbtU")) or (mode is None and not flags & (os.O_WRONLY | os.O_RDWR))


def _in_place(place: dict[str, str], task: Callable[..., object], arguments: tuple[object, ...]) -> None:
    os.environ.update(place)
    task(*arguments)


def _enter(environment: dict[str, str], task: Callable[..., object], arguments: tuple[object, ...]) -> None:
    import torch

    os.environ.update(environment)  # the server's is that of the first test
    os.environ.pop("DISTILCSE_DATA", None)
    torch.set_num_threads(1)
    task(*arguments)
