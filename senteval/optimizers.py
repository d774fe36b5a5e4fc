"""SentEval's optimizers, each named with its settings in one string: `adam`, or `sgd,lr=0.1`."""

import inspect
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    one.__name__.lower(): one
    for one in (
        torch.optim.Adam,
        torch.optim.RMSprop,
        torch.optim.SGD,
        torch.optim.Adagrad,
        torch.optim.Adadelta,
        torch.optim.Adamax,
        torch.optim.ASGD,
        torch.optim.Rprop,
    )
}


def parse_optimizer(text: str) -> tuple[Callable[..., torch.optim.Optimizer], dict[str, float]]:
    """Return torch's class and the settings that a string names. SGD needs `lr`, as in SentEval.

    Raises:
        ValueError: there is no such optimizer or setting, or a value is no number or out of its range.
    """
    name, *given = str(text).split(",")
    if name not in OPTIMIZERS:
        raise ValueError(f"optim must be one of {', '.join(OPTIMIZERS)}, not {name!r}")
    make = OPTIMIZERS[name]
    known = [key for key in inspect.signature(make).parameters if key != "params"]
    settings: dict[str, float] = {}
    for one in given:
        key, _, value = one.partition("=")
        if key not in known:
            raise ValueError(f"optim {text!r}: {name} has no {key!r}, only {', '.join(known)}")
        try:
            settings[key] = float(value)
        except ValueError:
            raise ValueError(f"optim {text!r}: {key} must be a number, as in {name},lr=0.1") from None
    if name == "sgd" and "lr" not in settings:
        raise ValueError("optim 'sgd' needs a learning rate: sgd,lr=0.1")
    if settings:
        try:
            make([torch.zeros(1)], **settings)
        except (TypeError, ValueError) as error:
            raise ValueError(f"optim {text!r}: {error}") from error
    return make, settings


def make_optimizer(text: str, parameters: Iterable[Tensor], l2: float) -> torch.optim.Optimizer:
    """Make the optimizer that a string names. As in SentEval, Rprop knows no weight decay and goes without.

    Args:
        text: as for `parse_optimizer`.
        parameters: what it trains.
        l2: weight decay, whatever the string says of it.
    """
    make, settings = parse_optimizer(text)
    decay = {"weight_decay": l2} if "weight_decay" in inspect.signature(make).parameters else {}
    return make(parameters, **settings | decay)
