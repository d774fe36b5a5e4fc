"""Writes `distilcse_cli/__init__.pyi`: what editors and type checkers see of the Python functions.

`python -m tests.stub` writes it anew, after a setting or docstring has changed.
"""

import inspect
import subprocess
import sys
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any

import distilcse_cli
from distilcse_cli import api
from tests.conftest import ROOT

STUB = ROOT / "distilcse_cli" / "__init__.pyi"
_RESULTS = (
    ("distilcse_cli.evaluation.compared", "CompareResult"),
    ("distilcse_cli.evaluation.report", "Report as EvalReport"),
    ("distilcse_cli.models.convert", "Conversion"),
    ("distilcse_cli.serving.align", "AlignReport"),
    ("distilcse_cli.serving.index", "IndexReport"),
    ("distilcse_cli.serving.search", "Hit"),
    ("distilcse_cli.training.report", "DistillReport, FinetuneReport"),
)


def stub() -> str:
    """The text of the stub, unformatted."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield f'"""{distilcse_cli.__doc__}"""'
    yield "import collections.abc, os, pathlib, typing"
    yield from (f"from {module} import {names}" for module, names in _RESULTS)
    for name, module in distilcse_cli._MODULE_OF.items():
        if module != api.__name__:
            yield f"from {module} import {name} as {name}"
    yield "from distilcse_cli.jobs.teacher import ExtractReport, ImportReport"
    yield f"__version__: str\n__all__ = {distilcse_cli.__all__!r}"
    for name, module in distilcse_cli._MODULE_OF.items():
        if module == api.__name__:
            yield from _function(name, getattr(api, name))


def _function(name: str, function: Any) -> Iterator[str]:
    signature = inspect.signature(function)
    given, keywords = [], []
    for one in signature.parameters.values():
        default = "" if one.default is one.empty else f" = {one.default!r}"
        text = f"{one.name}: {_type(one.annotation)}{default}"
        (keywords if one.kind is one.KEYWORD_ONLY else given).append(text)
    yield f"def {name}({', '.join([*given, '*', *keywords])},) -> {_type(signature.return_annotation)}:"
    yield textwrap.indent(f'"""{inspect.getdoc(function)}\n"""', "    ")


def _type(annotation: Any) -> str:
    """A type as Python writes it, whatever its version."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, str):
        return annotation
    if annotation in (None, types.NoneType):
        return "None"
    if origin in (types.UnionType, typing.Union):
        return " | ".join(map(_type, parts))
    if origin is typing.Literal:
        return f"typing.Literal[{', '.join(map(repr, parts))}]"
    if origin is not None:
        return f"{_type(origin)}[{', '.join(map(_type, parts))}]"
    module = annotation.__module__.partition("._")[0]
    is_bare = module == "builtins" or module.startswith(distilcse_cli.__name__)
    return annotation.__name__ if is_bare else f"{module}.{annotation.__name__}"


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
    for command in (["format"], ["check", "--fix"], ["format"]):
        subprocess.run([sys.executable, "-m", "ruff", *command, "--quiet", STUB], check=False)
