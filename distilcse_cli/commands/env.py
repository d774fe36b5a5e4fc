"""`distilcse env`: versions, hardware and folders for a bug report, without secrets."""

import importlib.metadata
import os
import platform
import re
import sys
from typing import Any

from distilcse_cli import __version__, console, runtime
from distilcse_cli.commands import options
from distilcse_cli.config import data_home
from distilcse_cli.errors import UsageError
from distilcse_cli.files import disk_of

PACKAGES = (
    *("torch", "transformers", "tokenizers", "datasets", "huggingface_hub", "safetensors", "numpy", "scipy"),
    *("faiss-cpu", "faiss-gpu", "sentence-transformers"),
)
SHOWN_VARIABLES = (
    *("DISTILCSE_HOME", "DISTILCSE_DATA", "DISTILCSE_MODEL"),
    *("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "ATEN_CPU_CAPABILITY", "TOKENIZERS_PARALLELISM"),
    *("HF_HOME", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"),
    *("PIP_NO_INDEX", "PIP_CONFIG_FILE", "PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
)
# tokens, or addresses that may carry a password: only whether they are set
HIDDEN_VARIABLES = (
    *("HF_TOKEN", "HF_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"),
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"),
)
FLAGS_THAT_MATTER = re.compile(r"avx2|fma|avx512\w*|amx\w*|\w*vnni\w*|\w*bf16\w*")


def env(json: options.Json = False) -> None:
    """Show versions, device, CPU and folders, for a bug report."""
    report = {"distilcse": __version__} | _python() | _torch() | _cpu() | _folders() | {"variables": _variables()}
    if json:
        console.result_json(report)
    else:
        console.result(_lines(report))


def _python() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    # read from the package's metadata: importing them all takes half a minute on a cold disk
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torch() -> dict[str, Any]:
    """Device and number format of torch, or why it does not load."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return {"torch_error": " ".join(str(error).split())}
    chosen = runtime.choose_runtime()
    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return {
        "device": chosen.device,
        "dtype": chosen.dtype,
        "dtype_reason": chosen.reason,
        "gpus": [
            {"name": gpu.name, "capability": f"{gpu.major}.{gpu.minor}", "memory_bytes": gpu.total_memory}
            for gpu in gpus
        ],
        "cuda": torch.version.cuda,
        "torch_threads": torch.get_num_threads(),
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def _cpu() -> dict[str, Any]:
    return {
        "cores_usable": runtime.num_usable_cores(),
        "cores_total": os.cpu_count(),
        "cpu_flags": sorted(flag for flag in runtime.cpu_flags() if FLAGS_THAT_MATTER.fullmatch(flag)),
    }


def _folders() -> dict[str, Any]:
    from distilcse_cli import catalogue

    try:
        home = data_home()
    except UsageError as error:  # a bug report is needed just then
        return {"data_home": f"unknown: {error.message}", "data_home_free_bytes": None, "downloaded": []}
    disk = disk_of(home)
    return {
        "data_home": str(home),
        "data_home_free_bytes": disk and disk[1],
        "downloaded": [name for name in catalogue.names() if catalogue.present(name)],
    }


def _variables() -> dict[str, str | None]:
    shown = {name: os.environ.get(name) for name in SHOWN_VARIABLES}
    return shown | {name: "set" if os.environ.get(name) else None for name in HIDDEN_VARIABLES}


def _lines(report: dict[str, Any]) -> str:
    """The report as aligned lines that can be pasted into an issue."""
    rows = [("distilcse", report["distilcse"]), ("python", f"{report['python']}, {report['executable']}")]
    rows += [("platform", report["platform"])]
    rows += [(name, version or "not installed") for name, version in report["packages"].items()]
    if "torch_error" in report:
        rows += [("torch", f"does not load: {report['torch_error']}")]
    else:
        rows += _device_rows(report)
    rows += [
        ("cores", f"{report['cores_usable']} usable of {report['cores_total']}"),
        ("CPU flags", " ".join(report["cpu_flags"]) or "unknown"),
        ("data home", report["data_home"]),
        ("free disk there", _gigabytes(report["data_home_free_bytes"])),
        ("downloaded", ", ".join(report["downloaded"]) or "nothing"),
    ]
    variables = report["variables"]
    rows += [(name, value) for name, value in variables.items() if value is not None]
    rows += [("not set", " ".join(name for name, value in variables.items() if value is None))]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _device_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    gpus = [f"{gpu['name']} ({gpu['capability']}, {_gigabytes(gpu['memory_bytes'])})" for gpu in report["gpus"]]
    return [
        ("device", report["device"]),
        ("dtype", f"{report['dtype']} ({report['dtype_reason']})"),
        ("GPUs", ", ".join(gpus) or "none"),
        ("CUDA", report["cuda"] or "torch is built without it"),
        ("torch threads", f"{report['torch_threads']}, {report['torch_cpu_capability']}"),
    ]


def _gigabytes(num_bytes: int | None) -> str:
    return "unknown" if num_bytes is None else f"{num_bytes / 1e9:.1f} GB"
