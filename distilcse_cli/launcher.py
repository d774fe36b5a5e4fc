"""`--nproc N`: run this command line again in N local processes, under torch's elastic agent.

The agent gives each process its number (in the same environment variables as torchrun), forwards
signals, and ends all of them when one dies.
"""

import logging
import os
import secrets
import sys
from typing import TYPE_CHECKING

from distilcse_cli import console
from distilcse_cli.errors import DataError, DeviceError, DistilCSEError, ModelError, NetworkError, UsageError
from distilcse_cli.ranks import LAUNCHER
from distilcse_cli.rendezvous import in_a_group
from distilcse_cli.runtime import check_device, num_usable_cores
from distilcse_cli.signals import heard

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

_REPORTED = {kind.exit_code for kind in (UsageError, DataError, ModelError, DeviceError, NetworkError)}
"""Exit codes of workers that have printed their error."""
_SECONDS_TO_SAVE = 300
"""Time that an interrupted run has to write a checkpoint."""


class WorkersFailed(DistilCSEError):
    """A worker crashed, or was killed or interrupted."""

    def __init__(self, message: str, exit_code: int, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


def launch(num_processes: int, arguments: list[str], device: str | None) -> bool:
    """Run the command line in several processes, unless this is one of them or one is enough.

    Args:
        num_processes: workers on this machine.
        arguments: the command line, starting with the command's name.
        device: as on the command line; it is checked here once rather than by every worker.

    Returns:
        True if the workers have done the work, False if the caller has to.

    Raises:
        UsageError: fewer than one process, or an unknown device.
        DeviceError: there are fewer GPUs than processes.
        WorkersFailed: a worker crashed or was killed, or the run was interrupted.
        SystemExit: a worker failed and has printed its error; the exit code is the worker's.
    """
    if num_processes < 1:
        raise UsageError(f"--nproc is {num_processes}, but must be at least 1")
    if num_processes == 1 or in_a_group():
        return False
    import torch
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if device is not None or torch.cuda.is_available():
        check_device(device or "cuda", num_processes)
    os.environ[LAUNCHER] = str(os.getpid())
    # one thread too many per core costs ten times as much as one too few
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, num_usable_cores() // num_processes)))
    # the agent reports each failure at length; the worker's own message is enough
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        run_id=secrets.token_hex(8),
        nproc_per_node=num_processes,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        shutdown_timeout=_SECONDS_TO_SAVE,
    )
    config.signals_to_handle = ",".join([*(one.name for one in heard()), "SIGQUIT"])
    console.log(f"starting {num_processes} processes of {os.environ['OMP_NUM_THREADS']} threads")
    try:
        elastic_launch(config, sys.executable)(*_python_flags(), "-m", "distilcse_cli", *arguments)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode in _REPORTED:
            sys.exit(failure.exitcode)
        raise _first_failure(error) from error
    except SignalException as error:
        raise WorkersFailed(f"stopped by {error.sigval.name}", 128 + error.sigval.value) from error
    return True


def _python_flags() -> list[str]:
    """Keep the working folder off the workers' path unless we are in it: its `senteval` may be a folder of data."""
    return [] if sys.path[0] in ("", os.getcwd()) else ["-P"]  # noqa: PTH109


def _first_failure(error: "ChildFailedError") -> WorkersFailed:
    rank, failure = error.get_first_failure()
    if failure.exitcode < 0:
        name = failure.signal_name()
        return WorkersFailed(f"worker {rank} was killed by {name}", 128 - failure.exitcode)
    return WorkersFailed(f"worker {rank} stopped with exit code {failure.exitcode}", failure.exitcode)
