"""What is used where the user names no corpus, triples or output."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from distilcse_cli import console
from distilcse_cli.config import NEWS_ARTICLES, CorpusSettings
from distilcse_cli.errors import UsageError
from distilcse_cli.paths import expanded, plain_name
from distilcse_cli.ranks import LAUNCHER

if TYPE_CHECKING:
    from distilcse_cli.models.reference import ModelRef

Given = Mapping[str, bool]
"""Names of the settings that the user gave; True for those given in the call itself, not by a settings file."""
_WEIGHTS = (".pth", ".pt", ".bin", ".safetensors")


def say(message: str, *, warn: bool = False) -> None:
    """Log something that is decided before processes are started: in the one that the user started only."""
    if LAUNCHER not in os.environ:
        (console.warn if warn else console.log)(message)


def corpus_or_default(
    corpus: Sequence[str] | None, settings: CorpusSettings, given: Given
) -> tuple[tuple[str, ...], CorpusSettings]:
    """The corpus to use and how it is read: `corpus`, else News-5m, else the sentences of the news articles.

    Args:
        corpus: files or hub data sets; None or empty takes the default.
        settings: as given.
        given: what the user gave of them; it counts for the default corpus, too.

    Raises:
        UsageError: neither default is downloaded; the hint ends with the command that downloads one.
    """
    from distilcse_cli import catalogue

    if corpus:
        return tuple(corpus), settings
    for name, usual in (("news5m", CorpusSettings()), ("news-articles", NEWS_ARTICLES)):
        path = catalogue.present(name)
        if path is not None:
            own = {one.name: getattr(settings, one.name) for one in fields(CorpusSettings) if one.name in given}
            say(f"no --corpus is given: using {name} [{path}]")
            return (str(path),), replace(usual, **own)
    hint = "name one with --corpus FILE, or run: distilcse download news-articles"
    raise UsageError("no --corpus is given, and no corpus is downloaded", hint=hint)


def triplets_or_default(triplets: Sequence[str] | None) -> tuple[str, ...]:
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
    return (plain_name(name) or "model") + layers
