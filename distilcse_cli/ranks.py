"""The processes of one run: the number of this one, and how they exchange values.

torchrun and `--nproc` give each process its number in the environment. Any other process is
alone, and then every operation here does nothing. Rank 0 decides, prints and writes.

Waiting may take long (while rank 0 extracts a corpus), so it has no useful time limit. If a
process dies, the launcher ends all others.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from distilcse_cli import console
from distilcse_cli.errors import DistilCSEError
from distilcse_cli.rendezvous import MINUTES, in_a_group, meet, place
from distilcse_cli.runtime import Runtime

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

LAUNCHER = "DISTILCSE_LAUNCHER"
"""Environment variable that our own launcher sets to its process id."""
_LONGEST_WAIT = timedelta(days=7)


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among those of the run. Make it with `joined`, or take `ALONE` for a single process."""

    rank: int = 0
    """Number of this process, from 0, over all machines."""
    world_size: int = 1
    """Number of processes in the run."""
    local_rank: int = 0
    """Number of this process on its machine; also the number of its GPU."""

    def __str__(self) -> str:
        return f", {self.world_size} processes" if self.world_size > 1 else ""

    @property
    def is_main(self) -> bool:
        """Whether this is the process that decides, prints and writes."""
        return self.rank == 0

    def share(self, rows: Sequence[T] | Any) -> Any:
        """Return this rank's part of `rows`: every `world_size`-th, so that sorted lengths are shared evenly."""
        return rows[self.rank :: self.world_size]

    def sum_(self, tensor: "torch.Tensor") -> None:
        """Replace a tensor by the sum over all ranks."""
        if self.world_size > 1:
            import torch.distributed as dist

            dist.all_reduce(tensor)

    def copy_(self, tensors: "Sequence[torch.Tensor]") -> None:
        """Replace tensors by rank 0's."""
        if self.world_size > 1:
            import torch.distributed as dist

            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def decided(self, value: T) -> T:
        """Return rank 0's value on every rank; the other ranks' values are dropped."""
        if self.world_size == 1:
            return value
        import torch
        import torch.distributed as dist

        box = [value if self.is_main else None]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]  # type: ignore[return-value]

    def gathered(self, value: T) -> list[T]:
        """Return the values of all ranks, in the order of ranks, on rank 0, and an empty list elsewhere."""
        if self.world_size == 1:
            return [value]
        import torch.distributed as dist

        everyone: list[Any] = [None] * self.world_size
        dist.gather_object(value, everyone if self.is_main else None, dst=0)
        return everyone if self.is_main else []

    def exchanged(self, task: Callable[[], T]) -> list[T]:
        """Run `task` on every rank; return all results on every rank, in the order of ranks.

        Raises:
            DistilCSEError: on rank 0, the error of the first rank where `task` failed; the others
                exit with its code. A rank with another exception ends with a traceback, and the
                launcher ends the rest.
        """
        if self.world_size == 1:
            return [task()]
        import torch.distributed as dist

        outcomes: list[Any] = [None] * self.world_size
        dist.all_gather_object(outcomes, attempted(task))
        failure = next((error for _, error in outcomes if error is not None), None)
        if failure is None:
            return [result for result, _ in outcomes]
        if self.is_main:
            raise failure
        sys.exit(failure.exit_code)

    def main_first(self, task: Callable[[], T]) -> T:
        """Run `task` on rank 0 first and then on the others, so that they find what rank 0 has downloaded.

        Raises:
            DistilCSEError: as from `exchanged`.
        """
        results: list[T] = []
        self.on_main(lambda: results.append(task()))
        self.exchanged(lambda: None if results else results.append(task()))
        return results[0]

    def on_main(self, task: Callable[[], T]) -> T:
        """Run `task` on rank 0 only; return its result on every rank.

        Raises:
            DistilCSEError: on rank 0, the error that `task` raised; the others exit with its code.
        """
        if self.world_size == 1:
            return task()
        outcome: tuple[int | None, Any] = (None, None)
        if self.is_main:
            try:
                outcome = (None, task())
            except BaseException as error:
                self.decided((error.exit_code if isinstance(error, DistilCSEError) else 1, None))
                raise
        failure, result = self.decided(outcome)
        if failure is not None:
            sys.exit(failure)
        return result

    @contextmanager
    def told_once(self, *kinds: type[DistilCSEError]) -> Iterator[None]:
        """Report errors of these kinds, which all ranks raise at the same point, on rank 0 only."""
        try:
            yield
        except kinds as error:
            if self.is_main:
                raise
            sys.exit(error.exit_code)


ALONE = Ranks()


def attempted(task: Callable[[], T]) -> tuple[T | None, DistilCSEError | None]:
    """Return the result of `task`, or its error, to be reported after all ranks know of it."""
    try:
        return task(), None
    except DistilCSEError as error:
        return None, error


MANY_ROWS = 4096
"""A matrix with at least that many rows counts as a table of embeddings; a step uses few of its rows."""


def sum_gradients(ranks: Ranks, parameters: "Sequence[torch.nn.Parameter]", sums: "torch.Tensor") -> "torch.Tensor":
    """Sum gradients and a few other numbers over all processes.

    DistributedDataParallel takes the mean instead. Here each process's loss is its share of the whole
    batch's loss, so that shares may differ in size or be empty. Of an embedding table, which is two
    thirds of a small student, only the rows used by some process are sent: a batch uses about 2,000 of
    MiniLM's 30,522. A small message names these rows, and a large one carries the sums.

    Args:
        ranks: the processes.
        parameters: their `.grad` is replaced. It may be None in a process without rows.
        sums: (n,) other numbers to sum.

    Returns:
        (n,) the sums over all processes.
    """
    if ranks.world_size == 1:
        return sums
    import torch

    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    grads = [cast("torch.Tensor", parameter.grad) for parameter in parameters]
    tables = {index: grad for index, grad in enumerate(grads) if grad.ndim == 2 and len(grad) >= MANY_ROWS}
    rows = dict(zip(tables, _rows_used(ranks, list(tables.values())), strict=True))
    parts = [grad[rows[index]] if index in rows else grad for index, grad in enumerate(grads)]
    flat = torch.cat([*(part.reshape(-1) for part in parts), sums])
    ranks.sum_(flat)
    *pieces, total = flat.split([*(part.numel() for part in parts), len(sums)])
    for index, (grad, part, piece) in enumerate(zip(grads, parts, pieces, strict=True)):
        if index in rows:
            grad[rows[index]] = piece.view_as(part)
        else:
            parameters[index].grad = piece.view_as(grad)
    return total


def _rows_used(ranks: Ranks, tables: "Sequence[torch.Tensor]") -> "list[torch.Tensor]":
    """Return, for each gradient, the numbers of the rows that are not all zero in some process."""
    import torch

    if not tables:
        return []
    used = torch.cat([table.ne(0).any(dim=1) for table in tables]).to(torch.int32)
    ranks.sum_(used)
    return [part.nonzero().squeeze(1) for part in used.split([len(table) for table in tables])]


def mute_others() -> None:
    """Mute all ranks but 0 from the start: they would print the same."""
    if in_a_group() and os.environ["RANK"] != "0":
        console.mute()


def own_device(device: str | None) -> str | None:
    """Return the device of this process. On a machine with GPUs each process takes one."""
    if not in_a_group() or device not in (None, "cuda"):
        return device
    import torch

    return f"cuda:{place().local_rank}" if device == "cuda" or torch.cuda.is_available() else None


@contextmanager
def joined(runtime: Runtime, minutes: float = MINUTES) -> Iterator[Ranks]:
    """Join the other processes, if any, until the context ends.

    Tensors on GPUs are exchanged through NCCL, all others through gloo. Ranks other than 0 print only errors.

    Raises:
        UsageError: the environment names processes that are not there after that many minutes.
    """
    if not in_a_group():
        yield ALONE
        return
    here = place()
    import torch
    import torch.distributed as dist

    # import this before the group exists. Otherwise its functions keep the group as a default argument, and with it
    # threads of gloo, which abort the process if they free a tensor while Python exits
    import torch.distributed.nn.functional

    _end_with_launcher()
    on_gpu = runtime.device_type == "cuda"
    if on_gpu:
        torch.cuda.set_device(runtime.torch_device())
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
        store=meet(here, minutes),
        rank=here.rank,
        world_size=here.world_size,
        timeout=_LONGEST_WAIT,
    )
    ranks = Ranks(rank=here.rank, world_size=here.world_size, local_rank=here.local_rank)
    mute_others()
    try:
        yield ranks
    finally:
        dist.destroy_process_group()


def _end_with_launcher() -> None:
    """Let the kernel kill this process if our launcher dies. Under torchrun, do nothing."""
    launcher = os.environ.get(LAUNCHER)
    if launcher is None or not sys.platform.startswith("linux"):
        return
    import ctypes

    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != int(launcher):  # the launcher died before this call
        os._exit(1)
