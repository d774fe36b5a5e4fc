"""How the processes of one run find each other. Whoever is missing is named, and nobody waits for ever.

Variables of a launcher may be left in the environment (a pod, SLURM, a notebook) where only one process is started.
"""

import os
import socket
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from distilcse_cli import console
from distilcse_cli.config import MachineSettings
from distilcse_cli.errors import DistilCSEError, UsageError

if TYPE_CHECKING:
    from torch.distributed import Store

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
MINUTES = MachineSettings.rendezvous_timeout
_FIRST_WORD, _NEXT_WORD, _PAUSE = 10.0, 60.0, 0.1
_ALONE = "start the others, or unset RANK and WORLD_SIZE to compute alone"


@dataclass(frozen=True, kw_only=True)
class Place:
    """This process's place among those of the run, as torchrun or a similar launcher says it."""

    rank: int
    world_size: int
    local_rank: int
    host: str
    port: int

    @property
    def address(self) -> str:
        """Where rank 0 listens."""
        return f"{self.host}:{self.port}"


def in_a_group() -> bool:
    """Whether torchrun or a similar launcher started this process."""
    return set(VARIABLES) <= os.environ.keys()


def place() -> Place:
    """The place that the environment gives this process.

    Raises:
        UsageError: a variable is no number, or one out of range.
    """
    world_size = _number("WORLD_SIZE", 1, 1_000_000)
    return Place(
        rank=_number("RANK", 0, world_size - 1),
        world_size=world_size,
        local_rank=_number("LOCAL_RANK", 0, world_size - 1),
        host=os.environ["MASTER_ADDR"],
        port=_number("MASTER_PORT", 0, 65_535),
    )


def _number(name: str, low: int, high: int) -> int:
    text = os.environ[name]
    if not (text.isascii() and text.isdecimal() and low <= int(text[:9]) <= high):
        hint = "unset it, unless a launcher such as torchrun has set it"
        raise UsageError(f"{name} in the environment is {text!r}, but must be within {low} and {high}", hint=hint)
    return int(text)


def meet(here: Place, minutes: float = MINUTES) -> "Store":
    """Wait until all processes of the run are here; return what they exchange their addresses through.

    Raises:
        UsageError: another program uses the port, or a process is still missing after that many minutes.
        DistilCSEError: the connection to rank 0 is lost.
    """
    from torch.distributed import PrefixStore

    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    patience = _Patience(here, minutes)
    store = PrefixStore(f"distilcse/{attempt}", _connected(here, patience))
    try:
        store.set(str(here.rank), "here")
        missing = list(range(here.world_size))
        while missing := [rank for rank in missing if not store.check([str(rank)])]:
            patience.wait_for(missing)
    except RuntimeError as error:
        raise DistilCSEError(f"lost the connection to rank 0 at {here.address}", hint="see what ended it") from error
    return store


def _connected(here: Place, patience: "_Patience") -> "Store":
    """The store that rank 0 serves, or the agent of torchrun or `--nproc`."""
    from torch.distributed import TCPStore

    serves = here.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    while not serves and not _answers(here):  # torch would wait deaf to Ctrl-C
        patience.wait_for([0])
    try:
        return TCPStore(
            here.host,
            here.port,
            here.world_size,
            is_master=serves,
            timeout=timedelta(minutes=patience.minutes),
            wait_for_workers=False,
        )
    except RuntimeError as error:
        if not serves:
            raise DistilCSEError(f"rank 0 does not answer at {here.address}", hint="see what ended it") from error
        used = "EADDRINUSE" in str(error) or "in use" in str(error)
        reason = "another program uses it" if used else "it is no port of this machine"
        raise UsageError(
            f"cannot wait for the other processes at {here.address}: {reason}",
            hint="choose another MASTER_PORT, or unset RANK and WORLD_SIZE to compute alone",
        ) from error


def _answers(here: Place) -> bool:
    try:
        socket.create_connection((here.host, here.port), timeout=1.0).close()
    except OSError:  # a name may be unknown until its machine has started
        return False
    return True


class _Patience:
    """Says who is waited for, after ten seconds and then each minute, and when to give up."""

    def __init__(self, here: Place, minutes: float) -> None:
        self._here, self.minutes = here, minutes
        self._started = time.monotonic()
        self._next_word = self._started + _FIRST_WORD

    def wait_for(self, missing: list[int]) -> None:
        """Wait a moment. Rank 0 speaks for all, and the others if it is missing."""
        now, here = time.monotonic(), self._here
        speaks = here.rank == 0 or 0 in missing
        names = ", ".join(map(str, missing[:8])) + (", …" if len(missing) > 8 else "")
        who = f"rank {names} of {here.world_size} processes at {here.address}"
        if now - self._started >= 60 * self.minutes:
            if not speaks:
                sys.exit(UsageError.exit_code)
            waited = console.duration(now - self._started)
            raise UsageError(f"waited {waited} for {who}", hint=_ALONE)
        if now >= self._next_word:
            self._next_word += _NEXT_WORD
            if speaks:
                console.log(f"waiting for {who}", always=True)
        time.sleep(_PAUSE)
