"""What a command uses where the user names no model, corpus, triples or output."""

import os
import re
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from distilcse_cli import console
from distilcse_cli.config import NEWS_ARTICLES, CorpusSettings
from distilcse_cli.errors import UsageError
from distilcse_cli.paths import expanded
from distilcse_cli.ranks import LAUNCHER

if TYPE_CHECKING:
    from distilcse_cli.models.reference import ModelRef

_WEIGHTS = (".pth", ".pt", ".bin", ".safetensors")


def say(message: str) -> None:
    """Log something that is decided before processes are started: in the one that the user started only."""
    if LAUNCHER not in os.environ:
        console.log(message)


def model_or_default(model: str | None) -> str:
    """The model to use: `model`, else `$DISTILCSE_MODEL`, else the catalogue's default model if it is downloaded.

    On a terminal, asks whether to download the default model, and does.

    Raises:
        UsageError: there is no model; the hint ends with the command that downloads the default one.
        NetworkError: the download failed.
    """
    from distilcse_cli import catalogue

    name = catalogue.DEFAULT_MODEL
    chosen = model or os.environ.get("DISTILCSE_MODEL")
    if chosen:
        return chosen
    if catalogue.present(name) is None:
        if not _agrees_to_download(name):
            hint = f"name one with --model REF or DISTILCSE_MODEL=REF, or run: distilcse download {name}"
            raise UsageError("no model is named, and the default model is not downloaded", hint=hint)
        catalogue.fetch(name)
    return name


def _agrees_to_download(name: str) -> bool:
    """Ask, where somebody can answer and a download is allowed."""
    from distilcse_cli import catalogue
    from distilcse_cli.catalogue.offline import is_offline

    if is_offline() or sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    num_bytes = catalogue.entry(name).source.num_download_bytes
    size = "" if num_bytes is None else f" ({num_bytes / 1e6:.1f} MB)"
    return console.ask(f"Download {name}{size}?")


def corpus_or_default(
    context: typer.Context, corpus: list[str] | None, settings: CorpusSettings
) -> tuple[tuple[str, ...], CorpusSettings]:
    """The corpus to use and how it is read: `corpus`, else News-5m, else the sentences of the news articles.

    Args:
        context: knows which options of `settings` the user gave; these count for the default corpus, too.
        corpus: files or hub data sets; None or empty takes the default.
        settings: as given.

    Raises:
        UsageError: neither default is downloaded; the hint ends with the command that downloads one.
    """
    from distilcse_cli import catalogue

    if corpus:
        return tuple(corpus), settings
    for name, usual in (("news5m", CorpusSettings()), ("news-articles", NEWS_ARTICLES)):
        path = catalogue.present(name)
        if path is not None:
            names = [field.name for field in fields(CorpusSettings)]
            sources = {one: context.get_parameter_source(one) for one in names}
            given = {
                one: getattr(settings, one) for one, source in sources.items() if source and source.name != "DEFAULT"
            }
            say(f"no --corpus is given: using {name} [{path}]")
            return (str(path),), replace(usual, **given)
    hint = "name one with --corpus FILE, or run: distilcse download news-articles"
    raise UsageError("no --corpus is given, and no corpus is downloaded", hint=hint)


def triplets_or_default(triplets: list[str] | None) -> tuple[str, ...]:
    """The tables of triples to use: `triplets`, else the catalogue's NLI triples.

    Raises:
        UsageError: they are not downloaded; the hint ends with the command that downloads them.
    """
    from distilcse_cli import catalogue

    if triplets:
        return tuple(triplets)
    path = catalogue.present("nli")
    if path is None:
        hint = "name a table with --triplets FILE, or run: distilcse download nli"
        raise UsageError("no --triplets are given, and the NLI triples are not downloaded", hint=hint)
    say(f"no --triplets are given: using nli [{path}]")
    return (str(path),)


def default_out(*parts: str) -> Path:
    """A name in the working folder made of `parts`, said aloud."""
    out = Path("-".join(parts))
    say(f"no --out is given: writing to {out}")
    return out


def short_name(model: "ModelRef") -> str:
    """The last part of a model's name in letters that every file system takes, and the layers kept of it."""
    name = Path(os.path.abspath(expanded(model.ref))).name  # noqa: PTH100  links keep their own name
    for suffix in _WEIGHTS:
        name = name.removesuffix(suffix)
    layers = "" if model.keep_layers is None else "-layers-" + "-".join(map(str, model.keep_layers))
    return (re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model") + layers
