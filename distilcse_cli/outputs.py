"""Checks of outputs and inputs, made before anything slow starts."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from distilcse_cli.errors import DataError, UsageError
from distilcse_cli.files import read_json
from distilcse_cli.paths import ANOTHER, content, expanded, file_target, folder_target, real

Named = str | os.PathLike[str]


def require_utf8(folder: Path) -> None:
    """Check that tokenizers and safetensors can write to a folder of that name.

    Raises:
        DataError: the name is not UTF-8.
    """
    try:
        str(folder).encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"cannot write a model to {folder}: its name is not UTF-8", hint=ANOTHER) from error


def require_free(folder: Path) -> None:
    """Check that an output folder can be made.

    Raises:
        UsageError: it has no name of its own.
        DataError: there is a file of that name, or a folder with something in it.
    """
    target = folder_target(folder)
    try:
        is_full = target.is_dir() and bool(content(target))
    except OSError as error:  # no permission
        raise DataError(f"cannot write {folder}: {error.strerror}", hint=ANOTHER) from error
    if is_full:
        raise DataError(f"{folder} is not empty", hint=f"{ANOTHER}, or remove it first")


def require_writable(file: Path) -> None:
    """Check that an output file can be made or replaced, so that no work is lost because it cannot.

    Raises:
        DataError: it cannot.
    """
    target = file_target(file)
    if target is None:
        return
    try:
        folder = next(folder for folder in target.absolute().parents if os.path.lexists(folder))
        reason = None if folder.is_dir() else "Not a directory"
        if reason is None and not os.access(folder, os.W_OK | os.X_OK):
            reason = "Permission denied"
    except OSError as error:
        reason = error.strerror
    if reason:
        raise DataError(f"cannot write {file}: {reason}", hint="choose a folder you may write to")


def require_outside(out: Path, *inputs: Named | None) -> None:
    """Check that nothing is written over or into what is read.

    Args:
        out: file or folder to write. It may be an input that is no local file or folder: other checks refuse that.
        inputs: models, stores, texts and data sets as named. Those that are not local are ignored.

    Raises:
        UsageError: `out` is one of them, or lies inside of one.
    """
    for name, place in _local(inputs):
        if real(out) == place and place.is_file():
            raise UsageError(f"--out {out} is {name}, which is read", hint=ANOTHER)
        if place in real(out).parents:
            raise UsageError(f"--out {out} lies inside of {name}, which is read", hint=ANOTHER)


def require_no_model_file(out: Path, *models: Named | None) -> None:
    """Check that scores replace nothing of the models that are scored. Beside a model's files they may stay.

    Raises:
        UsageError: `out` is a file of weights, or a file in a model's folder and not of scores.
    """
    for name, place in _local(models):
        file = real(out)
        if file.is_file() and place in (file, *file.parents) and not _has_scores(file):
            raise UsageError(f"--out {out} is a file of the model {name}, which is read", hint=ANOTHER)


def _has_scores(file: Path) -> bool:
    try:
        scores = read_json(file)
    except DataError:
        return False
    settings = scores.get("settings")
    return isinstance(scores.get("results"), list) or (isinstance(settings, dict) and "aggregation" in settings)


def require_new_folder(out: Path, *inputs: Named | None) -> None:
    """Check that a model can be saved as the new folder `out`, and that none of the inputs is or holds it.

    Raises:
        UsageError, DataError: as from `require_utf8`, `require_free` and `require_outside`.
    """
    require_utf8(out)
    require_free(out)
    require_outside(out, *inputs)


def require_student_out(out: Path, *inputs: Named | None) -> None:
    """Check that a student can be trained into `out`: folders of a run can be made there, and none of them is read.

    Args:
        out: folder for the student.
        inputs: as for `require_outside`.

    Raises:
        UsageError: `out` has no name of its own, or an input and a folder of the run overlap.
        DataError: `out` is a file or leads nowhere, or its name is not UTF-8.
    """
    require_utf8(out)
    target = folder_target(out)
    require_outside(out, *inputs)
    for suffix in ("", ".last", ".last-good", ".run"):
        require_not_read(target.with_name(target.name + suffix), *inputs)


def require_not_read(folder: Path, *inputs: Named | None) -> None:
    """Check that a folder that may be replaced is no input, and holds none.

    Raises:
        UsageError: it is or does.
    """
    for name, place in _local(inputs):
        if real(folder) in (place, *place.parents):
            raise UsageError(f"{folder} is replaced by this run, which reads {name}", hint=ANOTHER)


def _local(inputs: Iterable[Named | None]) -> Iterator[tuple[Named, Path]]:
    """Those inputs that are local files or folders: as named, and resolved."""
    for name in inputs:
        try:
            path = None if name is None else expanded(name)
            if path is not None and str(name) and path.exists():
                yield name, real(path)  # type: ignore[misc]
        except (OSError, ValueError):  # no such name, or a loop of links: opening it says so
            continue


def require_file(path: Path) -> None:
    """Check that an input file exists.

    Raises:
        DataError: there is no such file, or it is a folder.
    """
    try:
        exists = path.exists()
    except OSError as error:  # a name too long
        raise DataError(f"cannot read {path}: {error.strerror}", hint="name a file") from error
    if path.is_dir():
        raise DataError(f"{path} is a folder, a file is needed", hint="name one file in it")
    if not exists:
        raise DataError(f"{path} does not exist", hint="check the name and the folder you are in")
