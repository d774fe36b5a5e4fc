"""Checkpoints: safetensors and JSON in a folder that appears whole, the newest few kept.

step-00000500/
    state.json                     numbers, and what run they are of
    model.safetensors, …           whatever tensors the stage names
"""

import random
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distilcse_cli.errors import DataError
from distilcse_cli.files import atomic_folder, read_json, write_json

FORMAT_VERSION = 2
NUM_KEPT = 2
STATE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A saved state."""

    folder: Path
    facts: dict[str, Any]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors saved under `name`, on the CPU.

        Raises:
            DataError: the file is missing or damaged.
        """
        return load_tensors(self.folder / f"{name}.safetensors")


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: holds them, one folder each.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], facts: dict[str, Any]) -> None:
        """Write a checkpoint beside the others, then remove all but the newest.

        Args:
            step: names it; one of the same step is replaced.
            tensors: file name to tensor names.
            facts: for `state.json`.

        Raises:
            DataError: it cannot be written; the ones before are untouched.
        """
        target = self.folder / f"step-{step:08d}"
        if target.exists():
            _remove(target)
        with atomic_folder(target) as place:
            for name, group in tensors.items():
                save_tensors(place / f"{name}.safetensors", group)
            write_json(place / STATE, {"format_version": FORMAT_VERSION, **facts})
        for old in self._steps()[:-NUM_KEPT]:
            _remove(old)

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint, None if there is none; what killed saves left behind is removed.

        Raises:
            DataError: it is damaged, or of a newer version.
        """
        for leftover in self.folder.glob(".*"):
            shutil.rmtree(leftover, ignore_errors=True)
        steps = self._steps()
        if not steps:
            return None
        facts = read_json(steps[-1] / STATE)
        if facts.get("format_version") != FORMAT_VERSION:
            raise DataError(
                f"{steps[-1]} has format version {facts.get('format_version')}, this program reads {FORMAT_VERSION}"
            )
        return Checkpoint(steps[-1], facts)

    def facts(self) -> list[dict[str, Any]]:
        """The `state.json` of all checkpoints there are, oldest first."""
        return [read_json(folder / STATE) for folder in self._steps()]

    def _steps(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if re.fullmatch(r"step-\d{8,}", path.name))


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors of any device and layout to a safetensors file.

    Raises:
        DataError: it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"cannot write {path}: {error}", hint="make room, then go on with --resume") from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file onto the CPU.

    Raises:
        DataError: it is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"cannot read {path}: {error}", hint=f"remove {path.parent} to use the one before") from error


def _remove(folder: Path) -> None:
    """Remove a folder; one that a kill leaves half removed no longer has a checkpoint's name."""
    doomed = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def rng_tensors() -> dict[str, Tensor]:
    """The states of all random generators of this process: Python's, NumPy's, torch's, the GPU's."""
    _, python, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    tensors = {
        "python": torch.tensor(python),
        "python_gauss": torch.tensor(np.nan if gauss is None else gauss, dtype=torch.float64),
        "numpy": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
        "numpy_rest": torch.tensor([position, has_gauss, cached], dtype=torch.float64),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    return tensors


def set_rng(tensors: Mapping[str, Tensor]) -> None:
    """Put all random generators into the states that `rng_tensors` found."""
    gauss = tensors["python_gauss"].item()
    random.setstate((3, tuple(tensors["python"].tolist()), None if np.isnan(gauss) else gauss))
    position, has_gauss, cached = tensors["numpy_rest"].tolist()
    keys = tensors["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), cached))  # noqa: NPY002
    torch.set_rng_state(tensors["torch"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])
