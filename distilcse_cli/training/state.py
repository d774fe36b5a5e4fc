"""Everything that a run is after a step, as tensors and JSON: the content of a checkpoint."""

import ctypes
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distilcse_cli.training.bank import MemoryBank
from distilcse_cli.training.dev import Selection
from distilcse_cli.training.model import StudentModel

ADAM_BETAS = (0.9, 0.98)
ADAM_EPS = 1e-8
STEPS_BETWEEN_TRIMS = 50
"""The pages come back one by one: trimming every ten steps cost a tenth of the time, every fifty a thirtieth."""


@dataclass
class Tally:
    """Sums over the steps since the last evaluation."""

    num_sentences: int = 0
    num_tokens: int = 0
    num_hidden: int = 0
    teacher_cosine: float = 0.0
    """Sum of student-teacher cosines over the sentences: each step's mean times its number of sentences."""
    positive_cosine: float = 0.0
    """The same for anchors and their positives."""


@dataclass
class TrainState:
    """Weights, optimizer, bank, counters and random generators. The order of the data follows from `step`."""

    model: StudentModel
    bank: MemoryBank | None = None
    step: int = 0
    """Steps taken."""
    tally: Tally = field(default_factory=Tally)
    selection: Selection = field(default_factory=Selection)
    optimizer: torch.optim.Optimizer = field(init=False)
    """AdamW with the paper's settings. The learning rate is set at each step."""

    def __post_init__(self) -> None:
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            trained, lr=0.0, betas=ADAM_BETAS, eps=ADAM_EPS, weight_decay=0.0, fused=True
        )

    @property
    def trained(self) -> list[torch.nn.Parameter]:
        """The parameters that get a gradient, in the optimizer's order."""
        return self.optimizer.param_groups[0]["params"]

    def take_step(self, lr: float) -> None:
        """Update the weights from their `.grad`."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.model.scale.clamp()
        self.step += 1
        if self.step % STEPS_BETWEEN_TRIMS == 0:
            give_back_memory()

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """The tensors that all processes share: file name to tensor names."""
        tensors = {"model": dict(self.model.state_dict()), "optimizer": optimizer_tensors(self.optimizer)}
        return tensors | ({"bank": self.bank.tensors()} if self.bank is not None and self.bank.is_shared else {})

    def own_tensors(self) -> dict[str, dict[str, Tensor]]:
        """The tensors that only this process has, likewise."""
        bank = {"bank": self.bank.tensors()} if self.bank is not None and not self.bank.is_shared else {}
        return {"rng": rng_tensors(), **bank}

    def facts(self) -> dict[str, Any]:
        """The numbers, for JSON, which keeps all their digits."""
        return {"step": self.step, "tally": asdict(self.tally), "selection": asdict(self.selection)}

    def load(self, tensors: Callable[[str], dict[str, Tensor]], facts: dict[str, Any]) -> None:
        """Become the state that was saved as these `facts` and, by file name, these tensors."""
        self.model.load_state_dict(tensors("model"))
        load_optimizer(self.optimizer, tensors("optimizer"))
        if self.bank is not None:
            self.bank.load(tensors("bank"))
        self.step = facts["step"]
        self.tally = Tally(**facts["tally"])
        self.selection = Selection(**facts["selection"])
        set_rng(tensors("rng"))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state under flat names, such as `3.exp_avg` for the fourth parameter."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, entry in state.items() for name, value in entry.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore what `optimizer_tensors` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, field_name = name.partition(".")
        state.setdefault(int(index), {})[field_name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


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
    """Restore the states that `rng_tensors` returned."""
    gauss = tensors["python_gauss"].item()
    random.setstate((3, tuple(tensors["python"].tolist()), None if np.isnan(gauss) else gauss))
    position, has_gauss, cached = tensors["numpy_rest"].tolist()
    keys = tensors["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), cached))  # noqa: NPY002
    torch.set_rng_state(tensors["torch"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])


def give_back_memory() -> None:
    """Return freed memory to the system, where the C library is glibc.

    Each batch has other shapes, so freed buffers rarely fit again and the heap fills with holes:
    stage 2 on a CPU grew to 5.1 GB, stage 1 to 3.3 GB in 200 steps.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        if trim is not None:
            trim(0)
