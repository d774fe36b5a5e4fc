"""What a field of a settings dataclass says of itself, once: description, limits, place in the help.

A field is `lr: Annotated[float, Setting("Highest learning rate.", panel=SCHEDULE, positive=True)] = 1e-3`.
From it come the check when the dataclass is made, the option on the command line and its help, and the
keyword of a Python function. A subclass that only changes a default writes `lr: float = 5e-5` and inherits the rest.
"""

import dataclasses
import functools
import inspect
import math
import numbers
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from distilcse_cli.errors import UsageError

T = TypeVar("T")

MODELS = "Models"
DATA = "Data"
OBJECTIVE = "Objective"
SCHEDULE = "Schedule"
KEEPING = "Keeping and resuming"
MACHINE = "Machine"
OUTPUT = "Output"
PANELS = (MODELS, DATA, OBJECTIVE, SCHEDULE, KEEPING, MACHINE, OUTPUT)
"""Headings of `--help`, in their order."""


@dataclass(frozen=True)
class Setting:
    """Description and limits of one field. `None` is allowed where the field's type allows it, and is not checked."""

    help: str
    """One or two sentences; also the help text of the option."""
    panel: str = OBJECTIVE
    """Heading under which `--help` shows the option."""
    option: str | None = None
    """Name of the option, such as `--held-out` or `--header/--no-header`; None makes it from the field's name."""
    metavar: str | None = None
    """Placeholder of the value in the help; None takes the choices, else the type."""
    choices: tuple[str, ...] = ()
    """The allowed values, for a string."""
    at_least: float | None = None
    """Smallest allowed number."""
    at_most: float | None = None
    """Largest allowed number."""
    positive: bool = False
    """Whether the number must be larger than 0."""
    internal: bool = False
    """Whether there is no option for it: tests against the published code set it."""


def settings_of(kind: type[Any]) -> dict[str, Setting]:
    """Field names of a settings dataclass and what they say of themselves, in the order of the fields.

    Raises:
        TypeError: a field has no `Setting`, in its class or in one it inherits from.
    """
    found: dict[str, Setting] = {}
    for base in reversed(kind.__mro__):
        # the annotations of this class alone: a subclass may repeat a field to change its default
        own = typing.get_type_hints(base, include_extras=True) if dataclasses.is_dataclass(base) else {}
        for name in getattr(base, "__annotations__", {}):
            for extra in getattr(own.get(name), "__metadata__", ()):
                if isinstance(extra, Setting):
                    found[name] = extra
    names = [field.name for field in dataclasses.fields(kind)]
    missing = [name for name in names if name not in found]
    if missing:
        raise TypeError(f"{kind.__name__}: no Setting for {', '.join(missing)}")
    return {name: found[name] for name in names}


def option_name(field: str, setting: Setting) -> str:
    """The option as messages name it, such as `--max-length`; of an on/off pair the first."""
    return (setting.option or "--" + field.replace("_", "-")).partition("/")[0]


def check(settings: Any) -> None:
    """Check every field of a settings dataclass against what its `Setting` allows.

    Raises:
        UsageError: the first value out of range or of another type, with the option's name and what is allowed.
    """
    types = typing.get_type_hints(type(settings))
    for field, setting in settings_of(type(settings)).items():
        value = getattr(settings, field)
        if value is not None:
            _check_type(field, value, types[field])
            _check_value(option_name(field, setting), value, setting)
        elif type(None) not in typing.get_args(types[field]):
            raise UsageError(f"{field} is None, but must have a value")


def _check_type(name: str, value: Any, annotation: Any) -> None:
    """Check numbers and flags. Commands give none of another type, but a program may: "no" for False, "3" for 3."""
    allowed = typing.get_args(annotation) or (annotation,)
    for kind, form, what in (
        (bool, bool, "True or False"),
        (float, numbers.Real, "a number"),
        (int, numbers.Integral, "a whole number"),
    ):
        if kind in allowed:
            if not isinstance(value, (form, *(one for one in allowed if isinstance(one, type)))):
                raise UsageError(f"{name} is {value!r}, but must be {what}")
            return


def _check_value(name: str, value: Any, setting: Setting) -> None:
    if setting.choices and value not in setting.choices:
        raise UsageError(f"{name} is {value!r}, but must be one of {', '.join(setting.choices)}")
    if setting.positive and not (math.isfinite(value) and value > 0):
        raise UsageError(f"{name} is {value}, but must be a positive number")
    low, high = setting.at_least, setting.at_most
    if low is not None and high is not None and not low <= value <= high:
        raise UsageError(f"{name} is {value}, but must be within {low} and {high}")
    if low is not None and not (math.isfinite(value) and value >= low):
        raise UsageError(f"{name} is {value}, but must be at least {low}")


def with_fields(
    function: Callable[..., T],
    parameter_of: Callable[[str, Setting, Any, Any], inspect.Parameter],
    make: Callable[[type[Any], dict[str, Any]], Any],
) -> Callable[..., T]:
    """Replace each parameter that is a settings dataclass by one for each of its fields, internal ones left out.

    The function is called with the settings made from them, and so checked.

    Args:
        function: takes settings objects.
        parameter_of: makes a parameter from a field's name, `Setting`, type and default; without one, that is
            `dataclasses.MISSING`.
        make: makes the settings from their class and the values given by name.

    Raises:
        ValueError: two settings have a field of the same name.
    """
    kinds: dict[str, type[Any]] = {}
    fields: dict[str, list[str]] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if dataclasses.is_dataclass(parameter.annotation):
            kinds[name] = parameter.annotation  # type: ignore[assignment]
            of_fields = _parameters_of(kinds[name], parameter_of)
            fields[name] = [one.name for one in of_fields]
            parameters += of_fields
        else:
            parameters.append(parameter)

    @functools.wraps(function)
    def with_values(**given: Any) -> T:
        values = {name: {one: given.pop(one) for one in fields[name] if one in given} for name in kinds}
        return function(**given, **{name: make(kind, values[name]) for name, kind in kinds.items()})

    result = inspect.signature(function).return_annotation
    with_values.__signature__ = inspect.Signature(parameters, return_annotation=result)  # type: ignore[attr-defined]
    with_values.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_values


def _parameters_of(
    kind: type[Any], parameter_of: Callable[[str, Setting, Any, Any], inspect.Parameter]
) -> list[inspect.Parameter]:
    """Parameters for the fields of a settings dataclass; inherited ones last."""
    types = typing.get_type_hints(kind)
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    return [
        parameter_of(field, setting, types[field], defaults[field])
        for field, setting in sorted(settings_of(kind).items(), key=lambda named: named[0] not in kind.__annotations__)
        if not setting.internal
    ]


def is_list(annotation: Any) -> bool:
    """Whether a field's type is a tuple, perhaps beside None."""
    return any(typing.get_origin(one) is tuple for one in (annotation, *typing.get_args(annotation)))
