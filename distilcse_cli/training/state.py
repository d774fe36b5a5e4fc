"""All that a run of stage 1 is at a step boundary, as tensors and JSON: what a checkpoint holds."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from distilcse_cli.training.bank import MemoryBank
from distilcse_cli.training.model import DistillModel
from distilcse_cli.training.selection import Selection

ADAM_BETAS = (0.9, 0.98)
ADAM_EPS = 1e-8


@dataclass
class Tally:
    """Sums over the steps since the last evaluation."""

    num_sentences: int = 0
    num_tokens: int = 0
    num_hidden: int = 0
    cosine: float = 0.0
    """Of the cosines between projected student and teacher, one a sentence."""


@dataclass
class TrainState:
    """Weights, optimizer, bank and counters. The order of sentences needs no more than `step`."""

    model: DistillModel
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
