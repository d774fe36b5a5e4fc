"""Work on all cores: order, progress, failures, and nothing left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch

from senteval import workers
from senteval.workers import map_on_cores

linux = pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux only")


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    variable, num_threads = os.environ.get("TOKENIZERS_PARALLELISM"), torch.get_num_threads()
    yield
    assert not multiprocessing.active_children()
    assert os.environ.get("TOKENIZERS_PARALLELISM") == variable
    assert torch.get_num_threads() == num_threads


def square(number: int, count: Callable[[int], object]) -> tuple[int, int]:
    count(number)
    return number * number, os.getpid()


@pytest.mark.parametrize("num_workers", [1, 2, 3, 9])
def test_results_come_in_the_items_order_and_counts_arrive(num_workers: int) -> None:
    told: list[int] = []
    results = map_on_cores(square, [1, 2, 3, 4, 5], num_workers, told.append)
    assert [result for result, _ in results] == [1, 4, 9, 16, 25]
    assert sorted(told) == [1, 2, 3, 4, 5]


@linux
def test_several_workers_are_processes_of_their_own_and_one_is_not() -> None:
    assert os.getpid() not in {process for _, process in map_on_cores(square, [1, 2], 2, print)}
    assert {process for _, process in map_on_cores(square, [1, 2], 1, print)} == {os.getpid()}


def test_where_there_is_no_fork_the_work_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.sys, "platform", "darwin")
    assert {process for _, process in map_on_cores(square, [1, 2], 2, print)} == {os.getpid()}


@linux
def test_a_daemon_which_may_have_no_children_works_by_itself() -> None:
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)

    def daemon() -> None:
        writer.send([result for result, _ in map_on_cores(square, [1, 2], 2, lambda _: None)])

    process = context.Process(target=daemon, daemon=True)
    process.start()
    writer.close()
    assert reader.recv() == [1, 4]
    process.join()


def test_each_worker_has_one_torch_thread() -> None:
    def threads(_: int, __: Callable[[int], object]) -> int:
        return torch.get_num_threads()

    assert map_on_cores(threads, [0, 0], 2, print) == [1, 1]
    assert map_on_cores(threads, [0, 0], 1, print) == [1, 1]


def fail(number: int, _: Callable[[int], object]) -> int:
    if number == 2:
        raise ValueError("two is too many")
    return number


@pytest.mark.parametrize("num_workers", [1, 2])
def test_what_a_worker_raises_is_raised_here(num_workers: int) -> None:
    with pytest.raises(ValueError, match="two is too many"):
        map_on_cores(fail, [1, 2, 3], num_workers, print)


@linux
def test_a_workers_traceback_travels_with_its_error() -> None:
    with pytest.raises(ValueError, match="two") as error:
        map_on_cores(fail, [1, 2, 3], 2, print)
    assert "in fail" in error.value.__notes__[0]


@linux
def test_a_killed_worker_is_an_error_and_no_wait_without_end() -> None:
    def die(number: int, _: Callable[[int], object]) -> int:
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with pytest.raises(RuntimeError, match="a worker process ended before its work was done"):
        map_on_cores(die, [0, 1, 2], 2, print)


SCRIPT = """
import os, signal, sys, time
from senteval.workers import map_on_cores

def work(number, count):
    count(os.getpid())
    while True:
        time.sleep(0.01)
        if sys.argv[1] == "kill":
            count(0)

def told(process):
    if process:
        print(process, flush=True)

map_on_cores(work, [0, 1], 2, told)  # no main guard: a script may do without
"""


@linux
@pytest.mark.parametrize("how", ["interrupt", "kill"])
def test_no_worker_outlives_its_parent(how: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert len({parent.stdout.readline() for _ in range(2)}) == 2  # both at work
        parent.send_signal(signal.SIGINT if how == "interrupt" else signal.SIGKILL)
        try:
            # the workers hold the output open: to have read it to its end is to have seen the last of them
            _, errors = parent.communicate(timeout=30)
        finally:
            parent.kill()
    assert (b"KeyboardInterrupt" in errors) == (how == "interrupt")
