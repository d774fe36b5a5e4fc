"""The Python functions: the jobs of the commands, with every setting as a keyword.

The keywords, their defaults and what the docstrings say of them come from the settings dataclasses. Editors and type
checkers read the same from `__init__.pyi`, which `python -m tests.stub` writes.
"""

import functools
import inspect
import operator
import os
import textwrap
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING
from typing import Any, TypeVar

from distilcse_cli.data.in_memory import corpus_files, triplet_files
from distilcse_cli.jobs import downloads, export, measure, serve, teacher, train
from distilcse_cli.jobs import model as models
from distilcse_cli.jobs.called import as_keywords, called, generators_kept
from distilcse_cli.setting import Setting, is_list, option_name, with_fields

T = TypeVar("T")
Files = Mapping[str, Callable[[Any], list[str] | None]]

_OF_COMMANDS = ("nproc", "given", "on_checked", "deliver", "task_set")
"""Parameters of jobs that only commands use."""
_PROGRESS = (
    "Draw bars and print log lines, on stderr or in the notebook. Default: the logger `distilcse_cli` gets them."
)


def _public(job: Callable[..., T], *, files: Files | None = None, seeds: bool = False) -> Callable[..., T]:
    """Make a job a function of the library.

    Args:
        job: takes settings objects.
        files: parameters that may be texts in memory -> what makes files of them.
        seeds: whether it seeds global generators.
    """
    flat = with_fields(job, _keyword, _made)
    signature = _signature(flat, files or {})
    helps = {name: one.annotation.__metadata__[0] for name, one in signature.parameters.items() if _is_setting(one)}
    signature = signature.replace(parameters=[_bare(one) for one in signature.parameters.values()])
    names = {
        one.name: f"{one.name}=True" if one.annotation is bool else one.name for one in signature.parameters.values()
    }
    options = {f"--{name.replace('_', '-')}": example for name, example in names.items()}
    options |= {option_name(name, setting): names[name] for name, setting in helps.items()}
    wants_given = "given" in inspect.signature(job).parameters

    @functools.wraps(job)
    def function(*arguments: Any, **values: Any) -> T:
        try:
            named = signature.bind(*arguments, **values).arguments
        except TypeError as error:  # Python's own says which function it is
            raise TypeError(f"{job.__name__}() {error}") from None
        with called(progress=named.pop("progress", False), keywords=options):
            if wants_given:
                named["given"] = {name: True for name, value in named.items() if value is not None}
            for name, convert in (files or {}).items():
                named[name] = convert(named.get(name))
            named = {name: _plain(value) for name, value in named.items()}
            if not seeds:
                return flat(**named)
            with generators_kept():
                return flat(**named)

    function.__signature__ = signature  # type: ignore[attr-defined]
    function.__annotations__ = {one.name: one.annotation for one in signature.parameters.values()}
    function.__doc__ = _documented(inspect.getdoc(job) or "", helps, options)
    return function


def _keyword(name: str, setting: Setting, annotation: Any, default: Any) -> inspect.Parameter:
    """The keyword of a field; its `Setting` stays on it until it is documented."""
    if is_list(annotation):
        (kinds,) = (typing.get_args(one) for one in typing.get_args(annotation) if typing.get_origin(one) is tuple)
        annotation = Sequence[kinds[0]] | None  # type: ignore[valid-type]
    if setting.choices:
        choice: Any = operator.getitem(typing.Literal, setting.choices)
        annotation = choice | None if default is None else choice
    given = inspect.Parameter.empty if default is MISSING else default
    annotated = typing.Annotated[annotation, setting]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=given, annotation=annotated)


def _is_setting(parameter: inspect.Parameter) -> bool:
    return typing.get_origin(parameter.annotation) is typing.Annotated


def _bare(parameter: inspect.Parameter) -> inspect.Parameter:
    annotation = parameter.annotation
    return parameter.replace(annotation=annotation.__origin__) if _is_setting(parameter) else parameter


def _signature(flat: Callable[..., Any], files: Files) -> inspect.Signature:
    """That of the function: without what is for commands, with texts in memory, with `progress`."""
    signature = inspect.signature(flat)
    parameters = [one for one in signature.parameters.values() if one.name not in _OF_COMMANDS]
    for name, convert in files.items():
        (texts,) = inspect.signature(convert).parameters.values()
        parameters = [one.replace(annotation=texts.annotation) if one.name == name else one for one in parameters]
    progress = inspect.Parameter("progress", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=bool)
    return signature.replace(parameters=[*parameters, progress])


def _made(kind: type[Any], values: dict[str, Any]) -> Any:
    """Settings from keywords; a list may also be a text with commas, as on the command line, a number one of NumPy."""
    types = typing.get_type_hints(kind)
    for name, value in values.items():
        if type(value).__module__ == "numpy":
            value = values[name] = value.tolist()
        if is_list(types[name]) and value is not None:
            values[name] = tuple(value.split(",") if isinstance(value, str) else value)
    return kind(**values)


def _plain(value: Any) -> Any:
    """A path as text or `Path`, also that of a result, such as a trained student."""
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _documented(doc: str, helps: Mapping[str, Setting], options: Mapping[str, str]) -> str:
    """The docstring of a job, with what the settings say of themselves among its arguments."""
    lines = [f"{name}: {as_keywords(setting.help, options)}" for name, setting in helps.items()]
    more = [
        textwrap.fill(line, 112, initial_indent=" " * 4, subsequent_indent=" " * 8, break_long_words=False)
        for line in [*lines, f"progress: {_PROGRESS}"]
    ]
    before, blank, after = doc.partition("\n\nReturns:" if "\n\nReturns:" in doc else "\n\nRaises:")
    return "\n".join([before, *more]) + blank + after


align = _public(serve.align)
compare = _public(measure.compare, files={"corpus": corpus_files})
convert = _public(serve.convert, files={"corpus": corpus_files})
distill = _public(train.distill, files={"corpus": corpus_files}, seeds=True)
download = _public(downloads.download)
evaluate = _public(measure.evaluate, seeds=True)
export_asymmetric = _public(export.export_asymmetric)
export_onnx = _public(export.export_onnx)
export_web = _public(export.export_web)
extract = _public(teacher.extract, files={"corpus": corpus_files})
finetune = _public(train.finetune, files={"triplets": triplet_files}, seeds=True)
import_vectors = _public(teacher.import_vectors)
index = _public(serve.index)
load = _public(models.load)
push = _public(export.push)
search = _public(serve.search)
