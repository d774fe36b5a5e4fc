"""Whether bf16 pays on this CPU: measured once, and kept in the data home.

Flags do not say it. A CPU with avx512_bf16 alone multiplies bf16 more slowly than fp32, one with AMX four times as
fast. The figures are kept by CPU, torch and number of threads, so that two runs of one machine compute alike.
"""

import json
import math
import os
import platform
import select
import signal
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distilcse_cli.config import data_home
from distilcse_cli.errors import DataError
from distilcse_cli.files import lock, read_json, write_json

if TYPE_CHECKING:
    from torch import Tensor

FILE = "bf16.json"
_TOKENS, _WIDTH, _INNER = 256, 384, 1536
_SECONDS, _LEAST_ROUNDS, _LONGEST = 1.0, 3, 60.0


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Seconds for the products of a layer of MiniLM, forward and backward."""

    float32: float
    bfloat16: float

    def __str__(self) -> str:
        return f"measured here: {1e3 * self.bfloat16:.1f} ms in bfloat16, {1e3 * self.float32:.1f} ms in float32"


def speed(flags: Sequence[str]) -> Speed | None:
    """The figures of this CPU, measured if they are not known yet; None if they cannot be kept.

    Args:
        flags: the CPU's instruction sets for bf16.
    """
    path, key = data_home() / FILE, _key(flags)
    if key in (known := _known(path)):
        return known[key]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock(path.with_name(f".{FILE}.lock"), on_wait=lambda: None):  # processes of one run have to agree
            known = _known(path)
            if key not in known:
                known[key] = measure()
                write_json(path, {name: asdict(one) for name, one in known.items()})
            return known[key]
    except (DataError, OSError):  # figures of the moment would make two runs differ
        return None


def measure() -> Speed:
    """Multiply in both formats in turn for about a second, in one thread of a forked process.

    Two threads on busy cores wait for each other, which hides what a product costs. And a number of threads that is
    changed and set back here could change the last digits of what this process computes later.

    Raises:
        OSError: the process cannot be started, or has ended without figures.
    """
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork", category=DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, json.dumps(asdict(_measured())).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        try:
            in_time = select.select([answer], [], [], _LONGEST)[0]
            text = answer.read() if in_time else b""
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    if not text:
        raise OSError("no figures")
    return Speed(**json.loads(text))


def _measured() -> Speed:
    import torch

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)  # the global one decides the numbers of a training
    shapes = [(_WIDTH, _WIDTH)] * 4 + [(_INNER, _WIDTH), (_WIDTH, _INNER)]
    weights = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    rows = {width: torch.randn(_TOKENS, width, generator=generator).requires_grad_() for width in (_WIDTH, _INNER)}
    seconds = {narrow: [math.inf] * len(weights) for narrow in (False, True)}
    end, num_rounds = time.perf_counter() + _SECONDS, 0
    while num_rounds < _LEAST_ROUNDS or time.perf_counter() < end:
        num_rounds += 1
        for index, weight in enumerate(weights):
            for narrow, fastest in seconds.items():
                started = time.perf_counter()
                _product(rows[weight.shape[1]], weight, narrow=narrow)
                fastest[index] = min(fastest[index], time.perf_counter() - started)
    return Speed(float32=sum(seconds[False]), bfloat16=sum(seconds[True]))


def _product(rows: "Tensor", weight: "Tensor", *, narrow: bool) -> None:
    import torch

    with torch.enable_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow):
            product = torch.nn.functional.linear(rows, weight)
        torch.autograd.grad(product.float().sum(), (rows, weight))


def _key(flags: Sequence[str]) -> str:
    import torch

    limits = [f"{name}={os.environ[name]}" for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA") if name in os.environ]
    parts = [cpu_model(), *flags, f"torch {torch.__version__}", f"{torch.get_num_threads()} threads", *limits]
    return ", ".join(parts)


def cpu_model() -> str:
    """The CPU's name, for the record of a measurement."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _known(path: Path) -> dict[str, Speed]:
    """The figures kept; a file that is damaged is measured anew."""
    try:
        known = {name: Speed(**figures) for name, figures in read_json(path).items()}
        return {name: one for name, one in known.items() if min(one.float32, one.bfloat16) > 0}
    except (DataError, TypeError):
        return {}
