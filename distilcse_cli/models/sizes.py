"""Compare the sizes in a config.json with the weights beside it, before anything of these sizes is built."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from distilcse_cli.errors import ModelError

_LAYERS = frozenset({"num_hidden_layers", "num_layers", "n_layers", "n_layer", "num_hidden_groups", "inner_group_num"})
_MAX_LABELS = 1_000_000
"""transformers makes a name for each label."""
_FEW_LAYERS, _FEW_WEIGHTS = 1000, 100_000_000
"""As many are built in any case, so that loading can say better what is wrong."""
_SMALLEST_TENSOR = 64
"""Bytes of a file for a tensor, its name included."""
_HINT = "they are of different models, or one of them is damaged"


def require_plausible_layers(folder: Path) -> None:
    """Check that the numbers of layers and labels in config.json can be those of the weights.

    Raises:
        ModelError: there are more layers than tensors, or more labels than any model has.
    """
    try:
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return  # transformers says what is wrong with it
    files = list(_weights(folder))
    if not isinstance(raw, dict):
        return
    most = {"num_labels": _MAX_LABELS}
    if files:
        num_tensors = sum(_num_tensors(file) for file in files)
        most |= dict.fromkeys(_LAYERS, max(num_tensors, _FEW_LAYERS))
    for name, limit in most.items():
        value = raw.get(name)
        if isinstance(value, int) and value > limit:
            found = "" if name == "num_labels" else f", but the weights have no more than {limit:,} tensors"
            raise ModelError(f"{folder / 'config.json'} has {name} {value:,}{found}", hint=_HINT)


def require_plausible_weights(folder: Path, config: Any) -> None:
    """Check that the model that `config` describes is not larger than the files of weights.

    Raises:
        ModelError: it has more numbers than they have bytes.
    """
    from transformers import AutoModel

    num_bytes = sum(file.stat().st_size for file in _weights(folder))
    if not num_bytes:
        return
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            empty = AutoModel.from_config(config, trust_remote_code=False)
    except Exception:  # a contradiction, which loading reports
        return
    sizes = {name: parameter.numel() for name, parameter in empty.named_parameters() if not name.startswith("pooler.")}
    described = sum(sizes.values())
    if described > max(num_bytes, _FEW_WEIGHTS):
        raise ModelError(
            f"{folder / 'config.json'} describes {described:,} weights, but the files have {num_bytes:,} bytes",
            hint=_HINT,
        )


def safetensors_header(file: Path) -> dict[str, Any]:
    """What a file of safetensors says of its tensors, by name, read without the tensors.

    Raises:
        OSError: it cannot be read.
        ValueError, RecursionError: it has no such header.
    """
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(min(length, file.stat().st_size)))
    if not isinstance(header, dict) or not all(isinstance(entry, dict) for entry in header.values()):
        raise ValueError("no header of safetensors")
    return header


def _weights(folder: Path) -> Iterator[Path]:
    for pattern in ("*.safetensors", "pytorch_model*.bin"):
        yield from (file for file in folder.glob(pattern) if file.is_file())


def _num_tensors(file: Path) -> int:
    """Tensors of a file of weights, or more."""
    try:
        if file.suffix == ".safetensors":
            return len(safetensors_header(file))
        with zipfile.ZipFile(file) as archive:
            return len(archive.namelist())
    except (OSError, ValueError, RecursionError, zipfile.BadZipFile):
        return file.stat().st_size // _SMALLEST_TENSOR
