"""Options that several commands share, each with one name, one help text and one check."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from distilcse_cli.config import COMPUTE_DTYPES, ON_BAD_LINE, POOLINGS, STORE_DTYPES
from distilcse_cli.errors import DataError, UsageError


def _one_of(choices: Sequence[str]) -> Callable[[typer.CallbackParam, str | None], str | None]:
    def check(option: typer.CallbackParam, value: str | None) -> str | None:
        if value is not None and value not in choices:
            raise UsageError(f"{option.opts[0]} is {value!r}, but must be one of {', '.join(choices)}")
        return value

    return check


Corpus = Annotated[
    list[str],
    typer.Option(
        "--corpus",
        metavar="FILE",
        help="Sentences: text file (one a line), .gz, .jsonl, .csv, .parquet, or a hub data set id. May be repeated.",
    ),
]
TextColumn = Annotated[
    str | None, typer.Option("--text-column", help="Column that holds the text, in csv, jsonl and parquet.")
]
SplitSentences = Annotated[bool, typer.Option("--split-sentences", help="Split each text into its sentences.")]
MinWords = Annotated[int, typer.Option("--min-words", help="Drop sentences with fewer words.")]
MaxWords = Annotated[int | None, typer.Option("--max-words", help="Drop sentences with more words.")]
OnBadLine = Annotated[
    str,
    typer.Option(
        "--on-bad-line",
        callback=_one_of(ON_BAD_LINE),
        metavar="|".join(ON_BAD_LINE),
        help="At a line that is not UTF-8.",
    ),
]
Pooler = Annotated[
    str | None,
    typer.Option(
        "--pooler",
        callback=_one_of(POOLINGS),
        metavar="|".join(POOLINGS),
        help="From token vectors to a sentence's. Default: what the model's folder says, else cls.",
    ),
]
Revision = Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit of a hub model.")]
Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        metavar="REF",
        help="For a file of weights (.pth): the model it was trained from. Default: read from its tensors.",
    ),
]
Tokenizer = Annotated[
    str | None,
    typer.Option(
        "--tokenizer",
        metavar="REF",
        help="For a file of weights: the model whose tokenizer it has. Default: the base's, else one of that size.",
    ),
]
MaxLength = Annotated[
    int | None,
    typer.Option("--max-length", help="Cut sentences to so many tokens. Default: the model's own limit."),
]
Normalize = Annotated[
    bool | None,
    typer.Option(
        "--normalize/--no-normalize", help="Scale embeddings to length 1. Default: what the model's folder says."
    ),
]
BatchTokens = Annotated[
    int | None,
    typer.Option(
        "--batch-tokens", help="Most tokens in a batch, padding included. Default: 1,536 on a CPU, 65,536 on a GPU."
    ),
]
RowDtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        callback=_one_of(STORE_DTYPES),
        metavar="|".join(STORE_DTYPES),
        help="Number format of the embeddings written.",
    ),
]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda or cuda:N. Default: a GPU if there is one.")]
ComputeDtype = Annotated[
    str,
    typer.Option(
        "--compute-dtype",
        callback=_one_of(COMPUTE_DTYPES),
        metavar="|".join(COMPUTE_DTYPES),
        help="Number format of matrix products; auto takes bfloat16 where the hardware has it.",
    ),
]
NumProcesses = Annotated[
    int, typer.Option("--nproc", help="Processes on this machine, one a GPU. Under torchrun leave it out.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def model_or_default(model: str | None) -> str:
    """The model to use: the one named, else `$DISTILCSE_MODEL`, else the catalogue's default if downloaded.

    Raises:
        UsageError: none of the three; the hint has the three ways out.
    """
    from distilcse_cli import catalogue

    chosen = model or os.environ.get("DISTILCSE_MODEL")
    if chosen:
        return chosen
    if catalogue.present(catalogue.DEFAULT_MODEL) is None:
        raise UsageError(
            "no model is named",
            hint=f"--model REF, or export DISTILCSE_MODEL=REF, or distilcse download {catalogue.DEFAULT_MODEL}",
        )
    return catalogue.DEFAULT_MODEL


def require_utf8(folder: Path) -> None:
    """Check that the name of a folder for a model is one in which tokenizers and safetensors can write.

    Raises:
        DataError: it is not UTF-8.
    """
    try:
        str(folder).encode("utf-8")
    except UnicodeEncodeError as error:
        what = f"cannot write a model to {folder}: its name is not UTF-8"
        raise DataError(what, hint="choose another --out") from error


def require_free(folder: Path) -> None:
    """Check that an output folder can be made before anything slow starts.

    Raises:
        DataError: there is a file of that name, or a folder with something in it.
    """
    try:
        is_full = folder.is_dir() and any(folder.iterdir())
        is_file = folder.exists() and not folder.is_dir()
    except OSError as error:  # a name too long, or no permission
        raise DataError(f"cannot write {folder}: {error.strerror}", hint="choose another --out") from error
    if is_full:
        raise DataError(f"{folder} is not empty", hint="choose another --out, or remove it first")
    if is_file:
        raise DataError(f"{folder} is a file, a folder is to be written", hint="choose another --out")


def require_outside(out: Path, *inputs: str | Path | None) -> None:
    """Check that nothing is written into a folder that is read from.

    Args:
        out: file or folder to be written; `out` may be such a folder itself, which is for others to judge.
        inputs: models, stores and data sets as named; what is no local folder is no matter.

    Raises:
        UsageError: `out` lies inside one of them.
    """
    for name in inputs:
        try:
            folder = Path(name or "").expanduser()
            is_inside = name is not None and folder.is_dir() and folder.resolve() in out.resolve().parents
        except (OSError, RuntimeError, ValueError):  # no such name, or a loop of links: said when it is opened
            continue
        if is_inside:
            raise UsageError(f"--out {out} lies inside of {name}, which is read", hint="choose another --out")


def require_file(path: Path) -> None:
    """Check that an input file is there before anything slow starts.

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
