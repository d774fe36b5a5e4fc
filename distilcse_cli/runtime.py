"""Device and number format of a run, each decided once with its reason; flags of the CPU, and seeds."""

import os
import platform
import random
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distilcse_cli import bf16
from distilcse_cli.config import COMPUTE_DTYPES
from distilcse_cli.errors import DeviceError, UsageError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Device and number format of matrix products.

    Weights stay in fp32. Autocast computes matrix products in `dtype`; layer norms, softmax and the
    residual stream keep the precision of fp32. (`models.prepacked`, which encodes on CPUs with bf16,
    rounds the residual stream once a layer.)
    """

    device: str
    """`cpu`, `cuda` or `cuda:N`."""
    dtype: str
    """`float32` or `bfloat16`."""
    reason: str
    """Why this dtype was chosen, for the log and the bug report."""

    def autocast(self) -> AbstractContextManager[object]:
        """Return a context in which matrix products run in this runtime's dtype."""
        if self.dtype == "float32":
            return nullcontext()
        import torch

        return torch.autocast(self.device_type, dtype=getattr(torch, self.dtype))

    @property
    def device_type(self) -> str:
        """`cpu` or `cuda`."""
        return self.device.partition(":")[0]

    @property
    def batch_tokens(self) -> int:
        """Tokens of a batch, padding included, that encode well here.

        On a CPU the output of a layer should stay in a core's cache: MiniLM was fastest with 1,536, a tenth
        slower with 1,024 or 512, and a sixth slower with 8,192. A GPU needs large batches.
        """
        return 65_536 if self.device_type == "cuda" else 1_536

    def torch_device(self) -> "torch.device":
        """Return the device as torch's type."""
        import torch

        return torch.device(self.device)

    @property
    def machine(self) -> str:
        """The device by its maker's name, the threads of a CPU, and the number format."""
        import torch

        if self.device_type == "cuda":
            return f"{torch.cuda.get_device_name(self.torch_device())}, {self.dtype}"
        threads = torch.get_num_threads()
        return f"{bf16.cpu_model()}, {threads} thread{'s' * (threads != 1)}, {self.dtype}"

    def __str__(self) -> str:
        return f"{self.device}, {self.dtype} ({self.reason})"


def choose_runtime(device: str | None = None, dtype: str = "auto") -> Runtime:
    """Choose the device (a GPU if there is one) and the dtype (bf16 where the hardware is faster with it).

    Args:
        device: `cpu`, `cuda`, `cuda:N`; None takes the first GPU, else the CPU.
        dtype: one of `config.COMPUTE_DTYPES`.

    Raises:
        UsageError: an unknown dtype or device name.
        DeviceError: the named GPU does not exist.
    """
    if dtype not in COMPUTE_DTYPES:
        raise UsageError(f"unknown dtype {dtype!r}", hint=f"one of {', '.join(COMPUTE_DTYPES)}")
    import torch

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device)
    if dtype != "auto":
        return Runtime(device=device, dtype=dtype, reason="asked for")
    has_bf16, reason = _hardware_bf16(device)
    return Runtime(device=device, dtype="bfloat16" if has_bf16 else "float32", reason=reason)


def check_device(device: str, num_processes: int = 1) -> None:
    """Check that a device exists; for `cuda`, one GPU for each process.

    Raises:
        UsageError: an unknown device name.
        DeviceError: there are too few GPUs, or the named one does not exist.
    """
    import torch

    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()):
        raise UsageError(f"unknown device {device!r}", hint="cpu, cuda, or cuda:N")
    if kind == "cuda":
        num_gpus = torch.cuda.device_count()
        if int(index or 0) >= num_gpus:
            raise DeviceError(f"no device {device}: this machine has {num_gpus} CUDA GPUs", hint="--device cpu")
        if not index and num_processes > num_gpus:
            raise DeviceError(
                f"{num_processes} processes need a GPU each, this machine has {num_gpus}",
                hint=f"--nproc {num_gpus}, or --device cpu",
            )


def _hardware_bf16(device: str) -> tuple[bool, str]:
    """Whether the hardware multiplies bf16 matrices faster than fp32 ones, and the reason."""
    import torch

    if torch.device(device).type == "cuda":
        name = torch.cuda.get_device_name(torch.device(device))
        major, minor = torch.cuda.get_device_capability(torch.device(device))
        # emulated bf16 (before Ampere) is slower than fp32, so is_bf16_supported() does not decide
        return major >= 8, f"{name}, compute capability {major}.{minor}"
    flags = bf16_cpu_flags()
    if not flags:
        return False, "the CPU has no bf16 instructions"
    figures = bf16.speed(flags)
    if figures is None:  # avx512_bf16 alone is slower than fp32
        return "amx_bf16" in flags, f"the CPU has {', '.join(flags)}"
    return figures.bfloat16 < figures.float32, str(figures)


def bf16_cpu_flags() -> list[str]:
    """Return the CPU's instruction sets that multiply bf16; none on other CPUs than x86, which compute in fp32."""
    import torch

    capabilities = torch.backends.cpu.get_cpu_capability()
    found = sorted(cpu_flags() & {"amx_bf16", "avx512_bf16"})
    # a torch that was built without AVX-512, or limited by ATEN_CPU_CAPABILITY, cannot use them
    return found if "AVX512" in capabilities else []


def cpu_flags() -> frozenset[str]:
    """Return all instruction-set flags of the CPU under their Linux names; none on other systems."""
    if platform.system() != "Linux":
        return frozenset()
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        for line in file:
            if line.startswith("flags"):
                return frozenset(line.partition(":")[2].split())
    return frozenset()


def num_usable_cores() -> int:
    """Return how many cores this process may use. In a container these can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_seed(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)
