"""All that a run of either stage is at a step boundary, as tensors and JSON: what a checkpoint holds."""

import ctypes
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.training.bank import MemoryBank
from distilcse_cli.training.selection import Selection

ADAM_BETAS = (0.9, 0.98)
ADAM_EPS = 1e-8
STEPS_BETWEEN_TRIMS = 50
"""The pages come back one by one: every ten steps cost a tenth of the time, every fifty a thirtieth."""


class StageModel(Protocol):
    """A module with a student and a logit scale in it: what optimizer, checkpoints and evaluation know of it."""

    encoder: SentenceEncoder

    @property
    def scale(self) -> Tensor:
        """Scalar: what cosines are multiplied by."""
        ...

    def clamp_scale(self) -> None:
        """Keep the scale within its limits."""
        ...

    def __call__(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) token ids and mask to the (B, D) embeddings that the stage's loss looks at."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Its weights by name, as `torch.nn.Module.state_dict`."""
        ...

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> Any:
        """As `torch.nn.Module.load_state_dict`."""
        ...


@dataclass
class Tally:
    """Sums over the steps since the last evaluation."""

    num_sentences: int = 0
    num_tokens: int = 0
    num_hidden: int = 0
    teacher_cosine: float = 0.0
    """Of the cosines between student and teacher, each step's mean as often as the step has sentences."""
    positive_cosine: float = 0.0
    """Likewise of those between anchors and their positives."""


@dataclass
class TrainState:
    """Weights, optimizer, bank and counters. The order of sentences needs no more than `step`."""

    model: StageModel
    optimizer: torch.optim.Optimizer
    bank: MemoryBank
    bank_is_shared: bool = True
    """Whether all processes have the same bank."""
    step: int = 0
    """Steps taken."""
    tally: Tally = field(default_factory=Tally)
    selection: Selection = field(default_factory=Selection)

    @property
    def trained(self) -> list[torch.nn.Parameter]:
        """The parameters that get a gradient, in the optimizer's order."""
        return self.optimizer.param_groups[0]["params"]

    def take_step(self, lr: float) -> None:
        """Change the weights by the gradient that lies ready."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.model.clamp_scale()
        self.step += 1
        if self.step % STEPS_BETWEEN_TRIMS == 0:
            give_back_memory()

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """What all processes have alike: name of a file to names of its tensors."""
        tensors = {"model": dict(self.model.state_dict()), "optimizer": optimizer_tensors(self.optimizer)}
        return tensors | ({"bank": self.bank.tensors()} if self.bank_is_shared else {})

    def own_tensors(self) -> dict[str, dict[str, Tensor]]:
        """What only this process has, likewise."""
        return {} if self.bank_is_shared else {"bank": self.bank.tensors()}

    def facts(self) -> dict[str, Any]:
        """The numbers, for JSON, which keeps every digit of them."""
        return {"step": self.step, "tally": asdict(self.tally), "selection": asdict(self.selection)}

    def load(self, tensors: Callable[[str], dict[str, Tensor]], facts: dict[str, Any]) -> None:
        """Become the state that gave these `facts` and, file by file, these tensors."""
        self.model.load_state_dict(tensors("model"))
        load_optimizer(self.optimizer, tensors("optimizer"))
        self.bank.load(tensors("bank"))
        self.step = facts["step"]
        self.tally = Tally(**facts["tally"])
        self.selection = Selection(**facts["selection"])


def new_optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
    """AdamW in the paper's settings, one group over all that is trained; the learning rate is set at each step."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, lr=0.0, betas=ADAM_BETAS, eps=ADAM_EPS, weight_decay=0.0, fused=True)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state by flat names, `3.exp_avg` for the fourth parameter."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, entry in state.items() for name, value in entry.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, field_name = name.partition(".")
        state.setdefault(int(index), {})[field_name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def give_back_memory() -> None:
    """Hand freed memory back to the system, where that is glibc's to do.

    Each batch has other shapes, so freed buffers rarely fit again and the heap fills with holes: a
    run of stage 2 on a CPU grew to 5.1 GB, one of stage 1 to 3.3 GB in 200 steps.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # another C library has none
        if trim is not None:
            trim(0)
