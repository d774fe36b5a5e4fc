"""Checks of outputs and inputs, made before anything slow starts."""

from pathlib import Path

from distilcse_cli.errors import DataError, UsageError

ANOTHER = "choose another --out"


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
        DataError: there is a file of that name, or a folder with something in it.
    """
    try:
        is_full = folder.is_dir() and any(folder.iterdir())
        is_file = folder.exists() and not folder.is_dir()
    except OSError as error:  # a name too long, or no permission
        raise DataError(f"cannot write {folder}: {error.strerror}", hint=ANOTHER) from error
    if is_full:
        raise DataError(f"{folder} is not empty", hint=f"{ANOTHER}, or remove it first")
    if is_file:
        raise DataError(f"{folder} is a file, but the output is a folder", hint=ANOTHER)


def require_outside(out: Path, *inputs: str | Path | None) -> None:
    """Check that nothing is written into a folder that is read.

    Args:
        out: file or folder to write. It may equal an input: other checks refuse that.
        inputs: models, stores and data sets as named. Those that are not local folders are ignored.

    Raises:
        UsageError: `out` lies inside one of them.
    """
    for name in inputs:
        try:
            folder = Path(name or "").expanduser()
            is_inside = name is not None and folder.is_dir() and folder.resolve() in out.resolve().parents
        except (OSError, RuntimeError, ValueError):  # no such name, or a loop of links: opening it says so
            continue
        if is_inside:
            raise UsageError(f"--out {out} lies inside of {name}, which is read", hint=ANOTHER)


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
