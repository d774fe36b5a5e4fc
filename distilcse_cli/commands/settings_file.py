"""`--config FILE`: options out of a TOML file, such as the `distilcse.toml` in the student folder.

A key is the name of an option with underscores, or of a settings field. What is typed counts more
than the file, the file more than a preset, a preset more than the defaults.
"""

import inspect
import tomllib
import types
import typing
from pathlib import Path
from typing import Annotated, Any

import typer

from distilcse_cli.errors import UsageError
from distilcse_cli.outputs import require_file

_NOT_IN_A_FILE = ("context", "config", "json", "authors_model", "authors_task_set")
_COMMA_LISTS = ("columns", "keep_layers")
"""Options that take a list with commas; in a file it may be an array."""
_TYPES: dict[type, tuple[Any, str]] = {
    bool: (bool, "true or false"),
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
    str: (str, "a text"),
    Path: (str, "a text"),
}


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make the values of the file the defaults of the options."""
    if path is not None and not context.resilient_parsing:
        values = read_settings(path, _keys(context))
        context.default_map = dict(context.default_map or {}) | values
        context.meta[__name__] = values
    return path


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        is_eager=True,
        callback=_read_config,
        help="TOML file of options: the names of this page with underscores. Options on the command line win.",
    ),
]


def in_the_file(context: typer.Context) -> dict[str, Any]:
    """Names and values that this command line has from a file."""
    return context.meta.get(__name__, {})


def read_settings(path: Path, keys: dict[str, Any]) -> dict[str, Any]:
    """Read and check a file of options.

    Args:
        path: the file.
        keys: allowed names, each with its option's type.

    Raises:
        DataError: there is no such file.
        UsageError: it is not TOML, or has an unknown key or a value of the wrong type; the key is named.
    """
    require_file(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            f"cannot read --config {path}: {error}", hint="it has a line `name = value` for each option"
        ) from error
    return {key: _checked(path, key, value, keys) for key, value in values.items()}


def _keys(context: typer.Context) -> dict[str, Any]:
    """The parameters of a command that a file may set, and their types."""
    parameters = inspect.signature(context.command.callback).parameters.values()  # type: ignore[arg-type]
    return {
        parameter.name: typing.get_args(parameter.annotation)[0]
        for parameter in parameters
        if parameter.name not in _NOT_IN_A_FILE
    }


def _checked(path: Path, key: str, value: Any, keys: dict[str, Any]) -> Any:
    if key not in keys:
        import difflib

        close = difflib.get_close_matches(key, keys, n=1)
        hint = f"did you mean {close[0]}?" if close else "its keys are the option's names with underscores"
        raise UsageError(f"--config {path} has the unknown key {key}", hint=hint)
    is_union = isinstance(keys[key], types.UnionType)
    (kind,) = [one for one in (typing.get_args(keys[key]) if is_union else (keys[key],)) if one is not types.NoneType]
    if key in _COMMA_LISTS and isinstance(value, list):
        value = ",".join(map(str, value))
    if typing.get_origin(kind) is list:
        texts = [value] if isinstance(value, str) else value
        if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
            return texts
        raise UsageError(f"--config {path}: {key} is {value!r}, but must be a text or a list of texts")
    allowed, what = _TYPES[kind]
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        raise UsageError(f"--config {path}: {key} is {value!r}, but must be {what}")
    return value
