"""Checkpoints: safetensors and JSON in a folder that appears whole. The newest few are kept.

step-00000500/
    state.json                     numbers, and the identity of the run
    model.safetensors, …           tensors
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from distilcse_cli.errors import DataError
from distilcse_cli.files import atomic_folder, read_json, require_fields, write_json
from distilcse_cli.training.state import Tally

FORMAT_VERSION = 3
NUM_KEPT = 2
STATE = "state.json"
_NUMBER = (int, float)
_FACTS = {
    **{"run": str, "identity": dict, "step": int, "tally": dict, "selection": dict},
    **{"metrics_bytes": int, "speed_bytes": int, "seconds": _NUMBER, "seconds_marked": _NUMBER},
}
_PARTS: dict[str, dict[str, Any]] = {
    "tally": dict.fromkeys((field.name for field in fields(Tally)), _NUMBER),
    "selection": {"best_score": (*_NUMBER, type(None)), "best_step": int, "ended": bool},
}
"""What `state.json` has to hold."""


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
        """Write a checkpoint, then remove all but the newest.

        Args:
            step: names the checkpoint; an earlier one of the same step is replaced.
            tensors: file name to tensor names.
            facts: for `state.json`.

        Raises:
            DataError: it cannot be written; earlier checkpoints are untouched.
        """
        target = self._folder_of(step)
        if target.exists():
            _remove(target)
        with atomic_folder(target) as folder:
            for name, group in tensors.items():
                save_tensors(folder / f"{name}.safetensors", group)
            write_json(folder / STATE, {"format_version": FORMAT_VERSION, **facts})
        for old in self._steps()[:-NUM_KEPT]:
            _remove(old)

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint, None if there is none. Leftovers of killed saves are removed.

        Raises:
            DataError: it is damaged, or of another version.
        """
        for leftover in self.folder.glob(".*"):
            shutil.rmtree(leftover, ignore_errors=True)
        steps = self._steps()
        if not steps:
            return None
        file = steps[-1] / STATE
        facts = read_json(file)
        version = facts.get("format_version")
        if version != FORMAT_VERSION:
            raise DataError(
                f"{steps[-1]} has format version {version}, this program reads {FORMAT_VERSION}",
                hint="finish it with the release that started it, or start anew with --overwrite",
            )
        hint = f"remove {steps[-1]} to use the one before, or start anew with --overwrite"
        require_fields(file, facts, _FACTS, hint=hint)
        for name, kinds in _PARTS.items():
            require_fields(file, facts[name], kinds, hint=hint)
            if facts[name].keys() - kinds:
                raise DataError(f"{file}: {name} has unknown fields, so the file is damaged", hint=hint)
        if file.parent != self._folder_of(facts["step"]) or facts["selection"]["best_step"] > facts["step"]:
            raise DataError(f"{file}: step or best_step is of another checkpoint", hint=hint)
        return Checkpoint(steps[-1], facts)

    def facts(self) -> list[dict[str, Any]]:
        """The `state.json` of every checkpoint, oldest first."""
        return [read_json(folder / STATE) for folder in self._steps()]

    def __bool__(self) -> bool:
        return bool(self._steps())

    def _folder_of(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

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
        raise DataError(f"cannot write {path}: {error}", hint="make room, then continue with --resume") from error


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
    """Remove a folder. It is renamed first, so that a kill never leaves half a checkpoint under its name."""
    doomed = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)
