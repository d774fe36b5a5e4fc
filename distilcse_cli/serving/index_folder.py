"""The index folder: a FAISS index over rows, their sentences, and a record of whose space the rows live in.

index.faiss                  the rows, scaled to length 1 and compared by inner product, so a score is a cosine
sentences.txt offsets.npy    the sentences, and where each starts: a sentence is read without those before it
manifest.json                the space, the settings, and size and sha256 of every file
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from distilcse_cli.data.cache import REMAKE, read_manifest
from distilcse_cli.data.corpus import Corpus, CorpusReport
from distilcse_cli.errors import DataError, DistilCSEError, UsageError
from distilcse_cli.files import require_fields, sha256_file
from distilcse_cli.teacher.neighbours import unit_rows
from distilcse_cli.teacher.space import Space

FORMAT_VERSION = 1
INDEX = "index.faiss"
_INSTALL = "pip install 'distilcse[cpu]', or distilcse[gpu] for faiss-gpu; one of the two, never both"


def require_faiss() -> ModuleType:
    """Return the module `faiss`.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise UsageError(f"an index needs faiss, which cannot be imported: {error}", hint=_INSTALL) from error
    return faiss


@contextmanager
def faiss_errors(kind: type[DistilCSEError], message: str, hint: str) -> Iterator[None]:
    """Turn what FAISS raises into one line: `message`, and FAISS' reason without its source files."""
    try:
        yield
    except (RuntimeError, AssertionError, MemoryError) as error:
        reason = " ".join(str(error).split()).rpartition(": ")[2] or type(error).__name__
        raise kind(f"{message}: {reason}", hint=hint) from error


def ivf_of(faiss: ModuleType, index: Any) -> Any:
    """The part of an index that has inverted lists; None if it has none."""
    try:
        return faiss.extract_index_ivf(index)
    except RuntimeError:
        return None


@dataclass(frozen=True)
class OpenedIndex:
    """An index in memory. Shape letters: Q queries, D width, k results."""

    folder: Path
    faiss_index: Any
    manifest: dict[str, Any]
    sentences: Corpus

    def __len__(self) -> int:
        return int(self.faiss_index.ntotal)

    @property
    def space(self) -> Space:
        """Whose space the rows live in."""
        return Space(**self.manifest["space"])

    @property
    def prompt(self) -> str:
        """The text that stood before each sentence when its row was made."""
        return self.manifest["prompt"]

    def search(self, queries: np.ndarray, k: int, *, nprobe: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Find the k rows nearest to each query.

        Args:
            queries: (Q, D) of any length.
            k: results of each query, at most the number of rows.
            nprobe: lists to look into; None takes the number in the manifest. An index without lists ignores it.

        Returns:
            (Q, k) int64 numbers of rows, and (Q, k) float32 cosines, the highest first.
        """
        faiss = require_faiss()
        unit, ivf = unit_rows(queries), ivf_of(faiss, self.faiss_index)
        if ivf is not None:
            ivf.nprobe = nprobe or self.manifest["nprobe"]
        cosines, rows = self.faiss_index.search(unit, k)
        short = np.nonzero((rows < 0).any(axis=1))[0]
        if ivf is not None and len(short):  # the lists looked into hold fewer than k rows
            ivf.nprobe = ivf.nlist
            cosines[short], rows[short] = self.faiss_index.search(unit[short], k)
        return rows, cosines


def open_index(folder: Path) -> OpenedIndex:
    """Read an index into memory, after a check that no byte of it has changed.

    Raises:
        UsageError: faiss is not installed.
        DataError: there is no index, it was changed or cut, or this faiss cannot read it.
    """
    faiss = require_faiss()
    if not (folder / INDEX).is_file():
        what = "is no index" if folder.is_dir() else "does not exist"
        raise DataError(f"{folder} {what}", hint="make one with distilcse index")
    manifest = read_manifest(folder, FORMAT_VERSION)
    _check_fields(folder, manifest)
    for name, known in manifest["sha256"].items():
        if sha256_file(folder / name) != known:
            raise DataError(f"{folder / name} has changed since it was written", hint=REMAKE)
    made_by = manifest["faiss_version"]
    message = f"faiss {faiss.__version__} cannot read {folder / INDEX}, which faiss {made_by} wrote"
    with faiss_errors(DataError, message, f"pip install faiss-cpu=={made_by}, or make the index again"):
        index = faiss.read_index(str(folder / INDEX))
    shape = (manifest["num_rows"], manifest["width"])
    if (index.ntotal, index.d) != shape:
        raise DataError(f"{folder / INDEX} holds {(index.ntotal, index.d)} numbers, not {shape}", hint=REMAKE)
    report = CorpusReport(num_read=shape[0], num_kept=shape[0], dropped={})
    sentences = Corpus(folder, shape[0], manifest["sha256"]["sentences.txt"], report)
    return OpenedIndex(folder, index, manifest, sentences)


def _check_fields(folder: Path, manifest: dict[str, Any]) -> None:
    file = folder / "manifest.json"
    texts = dict.fromkeys(("model", "rows", "prompt", "factory", "faiss_version"), str)
    numbers = dict.fromkeys(("num_rows", "width", "nprobe"), int)
    require_fields(file, manifest, {**texts, **numbers, "space": dict, "pooling": str | None}, hint=REMAKE)
    require_fields(file, manifest["space"], {"name": str, "fingerprint": str}, hint=REMAKE)
    require_fields(file, manifest["sha256"], dict.fromkeys((INDEX, "sentences.txt", "offsets.npy"), str), hint=REMAKE)
    if len(manifest["space"]) != 2 or manifest["nprobe"] < 1:
        raise DataError(f"{file} has been changed: space or nprobe is not what was written", hint=REMAKE)
