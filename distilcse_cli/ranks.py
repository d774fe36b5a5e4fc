"""The processes of one run: who this one is, and what they say to each other.

A process started by torchrun or by `--nproc` finds its place in the environment; any other is
alone, and every operation here does nothing then. Rank 0 decides, prints and writes.

A wait may be long (rank 0 extracting a corpus), so waits have no useful time limit. What ends
them when a process dies is the launcher, which then ends all others.
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
from distilcse_cli.runtime import Runtime

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

LAUNCHER = "DISTILCSE_LAUNCHER"
"""Environment variable that our own launcher sets to its process number."""
_LONGEST_WAIT = timedelta(days=7)


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among those of the run. Start with `joined`, or `ALONE` for one process."""

    rank: int = 0
    """Number of this process, from 0, over all machines."""
    world_size: int = 1
    """Processes of the run."""
    local_rank: int = 0
    """Number of this process on its machine; also the number of its GPU."""

    def __str__(self) -> str:
        return f", {self.world_size} processes" if self.world_size > 1 else ""

    @property
    def is_main(self) -> bool:
        """Whether this is the process that decides, prints and writes."""
        return self.rank == 0

    def share(self, rows: Sequence[T] | Any) -> Any:
        """This rank's part of `rows`: every `world_size`-th, so that sorted lengths are dealt out evenly."""
        return rows[self.rank :: self.world_size]

    def sum_(self, tensor: "torch.Tensor") -> None:
        """Replace a tensor by the sum of all ranks' tensors."""
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
        """What rank 0 says; the other ranks' values are dropped."""
        if self.world_size == 1:
            return value
        import torch
        import torch.distributed as dist

        box = [value if self.is_main else None]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]  # type: ignore[return-value]

    def gathered(self, value: T) -> list[T]:
        """On rank 0 the values of all ranks in their order, elsewhere an empty list."""
        if self.world_size == 1:
            return [value]
        import torch.distributed as dist

        everyone: list[Any] = [None] * self.world_size
        dist.gather_object(value, everyone if self.is_main else None, dst=0)
        return everyone if self.is_main else []

    def exchanged(self, task: Callable[[], T]) -> list[T]:
        """Run `task` on every rank; all ranks get all results, in the order of ranks.

        Raises:
            DistilCSEError: that of the first rank where `task` failed, on rank 0; the others exit
                with its code. A rank that fails otherwise ends with its traceback, and the launcher
                ends the rest.
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
        """Run `task` on rank 0 and then on the others, which find what it has downloaded.

        Raises:
            DistilCSEError: as from `exchanged`.
        """
        own: list[T] = []
        self.on_main(lambda: own.append(task()))
        self.exchanged(lambda: None if own else own.append(task()))
        return own[0]

    def on_main(self, task: Callable[[], T]) -> T:
        """Run `task` on rank 0 alone; all ranks get what it returns.

        Raises:
            DistilCSEError: what `task` raised, on rank 0; the others exit with its code.
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
        """For errors of these kinds, which all ranks raise at the same point: only rank 0 tells of them."""
        try:
            yield
        except kinds as error:
            if self.is_main:
                raise
            sys.exit(error.exit_code)


ALONE = Ranks()


def attempted(task: Callable[[], T]) -> tuple[T | None, DistilCSEError | None]:
    """What `task` returns, or the error that the user can mend, to be told where others know of it too."""
    try:
        return task(), None
    except DistilCSEError as error:
        return None, error


MANY_ROWS = 4096
"""A matrix with at least so many rows is taken for a table of embeddings, most of whose rows a step does not touch."""


def sum_gradients(ranks: Ranks, parameters: "Sequence[torch.nn.Parameter]", sums: "torch.Tensor") -> "torch.Tensor":
    """Sum gradients, and a few numbers beside them, over all processes.

    A sum, where DistributedDataParallel takes the mean: each process's loss is already its share
    of the whole batch's, so shares may differ in size, or be empty. Of an embedding table, two thirds
    of a small student's weights, only the rows that some process has used are sent: of MiniLM's 30,522
    a batch uses some 2,000. A small message says which, a large one carries the sums.

    Args:
        ranks: the processes.
        parameters: their `.grad` is replaced. A process that had nothing to do may have None there.
        sums: (n,) numbers to add up too.

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
    """Numbers of the rows of each gradient that are not all zero in some process."""
    import torch

    if not tables:
        return []
    used = torch.cat([table.ne(0).any(dim=1) for table in tables]).to(torch.int32)
    ranks.sum_(used)
    return [part.nonzero().squeeze(1) for part in used.split([len(table) for table in tables])]


def in_a_group() -> bool:
    """Whether torchrun, or a launcher like it, started this process."""
    return {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()


def mute_others() -> None:
    """Let only rank 0 print, from the start: the others would say the same."""
    if in_a_group() and os.environ["RANK"] != "0":
        console.mute()


def own_device(device: str | None) -> str | None:
    """The device of this process: of several on a machine with GPUs, each takes one."""
    if not in_a_group() or device not in (None, "cuda"):
        return device
    import torch

    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" or torch.cuda.is_available() else None


@contextmanager
def joined(runtime: Runtime) -> Iterator[Ranks]:
    """Join the other processes, if there are any, for the length of the context.

    GPUs talk through NCCL, everything on the CPU through gloo. Ranks other than 0 print nothing
    but errors.
    """
    if not in_a_group():
        yield ALONE
        return
    import torch
    import torch.distributed as dist

    # imported later, its functions would have the group as a default and keep it alive, and with it
    # threads of gloo, which abort the process if they let go of a tensor while Python is ending
    import torch.distributed.nn.functional

    _end_with_launcher()
    on_gpu = runtime.device_type == "cuda"
    if on_gpu:
        torch.cuda.set_device(runtime.torch_device())
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=_LONGEST_WAIT)
    ranks = Ranks(rank=dist.get_rank(), world_size=dist.get_world_size(), local_rank=int(os.environ["LOCAL_RANK"]))
    mute_others()
    try:
        yield ranks
    finally:
        dist.destroy_process_group()


def _end_with_launcher() -> None:
    """Let the kernel end this process when our launcher is killed; torchrun's workers look after themselves."""
    launcher = os.environ.get(LAUNCHER)
    if launcher is None or not sys.platform.startswith("linux"):
        return
    import ctypes

    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != int(launcher):  # it was killed before we asked
        os._exit(1)
