"""Settings: frozen dataclasses, checked before torch is imported.

A command's defaults are the dataclass's. Each field describes itself in a `Setting`, which is also
its option's help and its check; a value out of range raises `UsageError`. The resolved settings are
written beside every output.
"""

import codecs
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from distilcse_cli.errors import UsageError
from distilcse_cli.paths import expanded
from distilcse_cli.setting import DATA, MACHINE, OUTPUT, Setting, check

POOLINGS = (
    *("cls", "cls_before_pooler", "avg", "avg_top2", "avg_first_last", "avg_layer1_last"),
    *("weighted_mean", "last_token"),
)
"""Names of the poolings; what each does is in `models.pooling`."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
"""The form of a repository's id on the hub, `owner/name`."""
ON_BAD_LINE = ("stop", "skip")
STORE_DTYPES = ("float32", "float16")
SAVE_DTYPES = ("float32", "float16", "bfloat16")
COMPUTE_DTYPES = ("auto", "float32", "bfloat16")
TRIPLET_COLUMNS = (
    ("anchor", "positive", "negative"),
    ("sent0", "sent1", "hard_neg"),
    ("premise", "entailment", "contradiction"),
    ("query", "positive", "negative"),
)
"""Known names of columns, in the order anchor, positive, hard negative; a table of pairs has the first two."""


ENCODING = Setting("Encoding of the text, such as utf-16 or cp1252. Default: UTF-8.", panel=DATA)


def _check_encoding(name: str | None) -> None:
    try:
        known = name is None or codecs.lookup(name)._is_text_encoding
    except (LookupError, ValueError):  # ValueError: a NUL in the name
        known = False
    if not known:
        raise UsageError(f"--encoding is {name!r}, which Python does not know", hint="such as utf-16, cp1252, gb18030")


def data_home() -> Path:
    """Where downloads and caches live: `$DISTILCSE_HOME`, else `distilcse` in the user's cache folder.

    Raises:
        UsageError: there is no such user, or the present one has no home folder.
    """
    home = os.environ.get("DISTILCSE_HOME")
    if home:
        return expanded(home)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else expanded("~/.cache")) / "distilcse"


def senteval_folder() -> Path:
    """Folder of SentEval's data, with `downstream/` in it: `$DISTILCSE_DATA/senteval`, else the one in the data home.

    Takes the first that exists, or the first if none does.
    """
    folders = [data_home() / "datasets" / "senteval"]
    if variable := os.environ.get("DISTILCSE_DATA"):
        folders.insert(0, expanded(variable) / "senteval")
    return next((folder for folder in folders if (folder / "downstream").is_dir()), folders[0])


@dataclass(frozen=True, kw_only=True)
class MachineSettings:
    """Where a command computes, and in what number format."""

    nproc: Annotated[
        int, Setting("Processes on this machine, one for each GPU. Leave it out under torchrun.", panel=MACHINE)
    ] = 1
    device: Annotated[str | None, Setting("cpu, cuda or cuda:N. Default: a GPU if there is one.", panel=MACHINE)] = None
    compute_dtype: Annotated[
        str,
        Setting(
            "Number format of matrix products. auto takes bfloat16 where it is faster here.",
            panel=MACHINE,
            choices=COMPUTE_DTYPES,
        ),
    ] = "auto"
    rendezvous_timeout: Annotated[
        float, Setting("Minutes to wait for the other processes of a group.", panel=MACHINE, positive=True)
    ] = 10.0

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """Where the text of a file is, and in which encoding."""

    text_column: Annotated[
        str | None,
        Setting("Column that holds the text, in a csv, JSON or parquet file or a hub data set.", panel=DATA),
    ] = None
    encoding: Annotated[str | None, ENCODING] = None

    def __post_init__(self) -> None:
        check(self)
        _check_encoding(self.encoding)


@dataclass(frozen=True, kw_only=True)
class CorpusSettings(TextSettings):
    """How lines of text become the sentences of a corpus."""

    split_sentences: Annotated[
        bool, Setting("Split each text into its sentences.", panel=DATA, option="--split-sentences")
    ] = False
    min_words: Annotated[int, Setting("Drop sentences with fewer words.", panel=DATA, at_least=1)] = 1
    max_words: Annotated[int | None, Setting("Drop sentences with more words.", panel=DATA)] = None
    on_bad_line: Annotated[
        str,
        Setting(
            "At a line that is not UTF-8: stop with its number, or skip and count it.", panel=DATA, choices=ON_BAD_LINE
        ),
    ] = "stop"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_words is not None and self.max_words < self.min_words:
            raise UsageError(f"--max-words is {self.max_words}, but must be at least {self.min_words}")


# below five words news text is mostly remains of captions; above sixty a splitter has missed an end
NEWS_ARTICLES = CorpusSettings(text_column="text", split_sentences=True, min_words=5, max_words=60)
"""How the catalogue's news articles become sentences."""


@dataclass(frozen=True, kw_only=True)
class EncodeSettings:
    """How token rows go through a frozen encoder."""

    max_length: Annotated[
        int | None,
        Setting(
            "Cut sentences to that many tokens, special tokens included. Default: the model's own limit.",
            panel=DATA,
            at_least=3,
        ),
    ] = None
    normalize: Annotated[
        bool | None,
        Setting(
            "Scale embeddings to length 1. Default: what the model's folder says.",
            panel=OUTPUT,
            option="--normalize/--no-normalize",
        ),
    ] = None
    dtype: Annotated[str, Setting("Number format of the embeddings written.", panel=OUTPUT, choices=STORE_DTYPES)] = (
        "float32"
    )
    batch_tokens: Annotated[
        int | None,
        Setting(
            "Most tokens in a batch, padding included. Default: 1,536 on a CPU, 65,536 on a GPU.",
            panel=MACHINE,
            at_least=1,
        ),
    ] = None

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, kw_only=True)
class TripletSettings:
    """How the rows of a table become triples of anchor, positive and hard negative, or pairs without a negative."""

    columns: Annotated[
        tuple[str, ...] | None,
        Setting(
            "Names of anchor, positive and hard negatives. Default: known names, else their order.",
            panel=DATA,
            metavar="A,B[,C]",
        ),
    ] = None
    header: Annotated[
        bool | None,
        Setting(
            "Whether the first row of a csv or tsv file names the columns. Default: decided by the names.",
            panel=DATA,
            option="--header/--no-header",
        ),
    ] = None
    encoding: Annotated[str | None, ENCODING] = None
    on_bad_line: Annotated[
        str,
        Setting(
            "At a row of another width, with a blank cell or not in UTF-8: stop with its line, or skip and count it.",
            panel=DATA,
            choices=ON_BAD_LINE,
        ),
    ] = "stop"

    def __post_init__(self) -> None:
        check(self)
        _check_encoding(self.encoding)
        if self.columns is None:
            return
        if len(self.columns) < 2 or not all(self.columns) or len(set(self.columns)) < len(self.columns):
            raise UsageError(f"--columns is {','.join(self.columns)!r}, but must be two or more different names")
        if self.header is False:
            raise UsageError("--columns needs the header that --no-header denies", hint="leave one of them out")
