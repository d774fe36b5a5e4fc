"""What a model takes: bytes on the disk, and memory at its peak, measured in a process of its own.

`python -m distilcse_cli.evaluation.footprint` is that process: it reads a model and sentences as JSON from stdin,
embeds them, and prints the peak of its memory in bytes.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distilcse_cli import console
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.runtime import Runtime


def bytes_on_disk(path: Path) -> int:
    """Bytes of a model: of its folder without `onnx/`, which no command reads, or of the file of weights."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files if file.relative_to(path).parts[:1] != ("onnx",))


def peak_memory(model: ModelRef, sentences: Sequence[str], runtime: Runtime) -> int | None:
    """Peak memory in bytes of a process that loads the model and embeds the sentences; on a GPU also the GPU's.

    That includes Python and torch themselves. None, with a warning, where such a process fails.
    """
    fields = {name: value for name, value in asdict(model).items() if name not in ("path", "revision")}
    # located before, so that the other process neither looks for it nor downloads it
    job = {"model": fields | {"ref": str(model.locate().absolute())}, "runtime": asdict(runtime)}
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(job | {"sentences": list(sentences)}),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    try:
        return int(done.stdout.split()[-1])
    except (IndexError, ValueError):
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        console.warn(f"the peak memory of {model.ref} was not measured: {reason}")
        return None


def _peak() -> int:
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent had, too
        lines = status.read_text(encoding="utf-8").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


def _main() -> None:
    job = json.load(sys.stdin)
    import torch

    from distilcse_cli.models.embed import Embedder

    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in job["model"].items()
    }
    runtime = Runtime(**job["runtime"])
    Embedder(ModelRef(**fields | {"revision": None}).load(), runtime).sentences(job["sentences"])
    console.result(str(_peak() + (torch.cuda.max_memory_allocated() if runtime.device_type == "cuda" else 0)))


if __name__ == "__main__":
    _main()
