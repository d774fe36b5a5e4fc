"""The embedding store: a teacher's rows on disk, with a record of the teacher and corpus they come from.

A folder with three files, each readable without this package:

    embeddings.npy   (N, D) float32 or float16, C order, row i for sentence i
    sentences.txt    sentence i on line i
    manifest.json    which teacher, corpus and settings made the rows

`manifest.json` is written last, so a folder that has it is complete. Until then the rows are in
`embeddings.partial.npy`, and `manifest.partial.json` says how many of them count, from the first on. The
header of the partial array names the final number of rows, so that no reader takes the file for a small array.

The teacher may be a model, or only vectors: imported, or sent by a server. The manifest then has an `origin`.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distilcse_cli import console, files
from distilcse_cli.config import STORE_DTYPES
from distilcse_cli.errors import DataError
from distilcse_cli.files import read_json, require_fields

if TYPE_CHECKING:
    from distilcse_cli.data.corpus import Corpus
    from distilcse_cli.models.encoder import SentenceEncoder

FORMAT_VERSION = 1
EMBEDDINGS = "embeddings.npy"
SENTENCES = "sentences.txt"
MANIFEST = "manifest.json"
PARTIAL_EMBEDDINGS = "embeddings.partial.npy"
PARTIAL_MANIFEST = "manifest.partial.json"
LOCK = ".lock"
"""A lock file, in the folder only while an extraction runs, or after it was killed."""

AS_BEFORE = "choose another folder, or the settings the store was made with"
"""The way on for somebody whose run is not that of a store."""

_CHECK_ROWS = 65_536


@dataclass(frozen=True)
class EmbeddingStore:
    """An opened store. Shape letters: N sentences, D width of the teacher."""

    folder: Path
    embeddings: np.ndarray
    """(N, D) read-only memory map, float32 or float16."""
    manifest: dict[str, Any]
    num_extracted: int = 0
    """Rows that this run computed; the others were there before."""

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def has_model(self) -> bool:
        """Whether a model of ours made the rows. Otherwise they were imported, or came from a server."""
        return "origin" not in self.manifest

    @property
    def sentences_path(self) -> Path:
        """The sentences, one a line, line i of row i."""
        return self.folder / SENTENCES

    def check_rows(self) -> None:
        """Read all rows once and look for NaN and infinities, as a store made elsewhere may hold.

        Raises:
            DataError: naming the first bad row.
        """
        for start in range(0, len(self), _CHECK_ROWS):
            finite = np.isfinite(self.embeddings[start : start + _CHECK_ROWS]).all(axis=1)
            if not finite.all():
                row = start + int(finite.argmin())
                raise DataError(f"{self.folder / EMBEDDINGS} has NaN or infinity in row {row}", hint=_REMAKE)


_REMAKE = "remove the folder and run distilcse extract again"


def is_complete(folder: Path) -> bool:
    """Whether a folder holds a store with all of its rows; a name that no file can have does not."""
    return os.path.exists(folder / MANIFEST)  # noqa: PTH110  Path.exists raises if a name is too long


def open_store(
    folder: Path, *, corpus: "Corpus | None" = None, teacher: "SentenceEncoder | None" = None
) -> EmbeddingStore:
    """Open a complete store and check that its files agree with each other and with the run.

    Args:
        folder: what `extract` wrote.
        corpus: if given, the rows must be those of its sentences.
        teacher: if given, the rows must be this model's.

    Raises:
        DataError: the store is missing, unfinished, damaged, of a newer version, or made from
            another corpus or by another teacher (both values are named), or by none that is a model.
    """
    folder = Path(folder)
    if not is_complete(folder):
        raise _not_complete(folder)
    manifest = read_manifest(folder / MANIFEST)
    embeddings = _open_array(folder / EMBEDDINGS, manifest)
    expected: dict[str, Any] = {"rows_done": manifest["num_rows"]}
    if corpus is not None:
        expected |= {"num_rows": len(corpus), "corpus_fingerprint": corpus.fingerprint}
    if teacher is not None:
        if "origin" in manifest:
            message = f"{folder} holds vectors of {manifest['teacher']}, which no model here has made"
            raise DataError(message, hint="leave --teacher out: the store is enough")
        expected |= {
            "pooling": teacher.pooling,
            "prompt": teacher.prompts.used or None,
            "teacher_fingerprint": teacher.fingerprint,
        }
    require_same(folder, manifest, expected)
    return EmbeddingStore(folder, embeddings, manifest)


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest of this version, with all fields that are read without a comparison.

    Raises:
        DataError: not JSON, of a newer version, or a field is missing or of a wrong kind.
    """
    manifest = read_json(path)
    version = manifest.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise DataError(f"{path} is not the manifest of an embedding store", hint="make one with distilcse extract")
    if version > FORMAT_VERSION:
        raise DataError(
            f"{path} has format version {version}, this program reads up to {FORMAT_VERSION}",
            hint="pip install --upgrade distilcse",
        )
    least_values = {"num_rows": 1, "width": 1, "rows_done": 0, "num_truncated": 0}
    if "origin" in manifest:
        require_fields(path, manifest, {"teacher": str, "teacher_fingerprint": str}, hint=_REMAKE)
    else:
        least_values["max_length"] = 1
    for field, least in least_values.items():
        value = manifest.get(field)
        if not isinstance(value, int) or value < least:
            raise DataError(f"{path}: {field} is {value!r}, but must be a whole number from {least}", hint=_REMAKE)
    require_fields(path, manifest, {"normalized": bool}, hint=_REMAKE)
    if manifest.get("dtype") not in STORE_DTYPES:
        raise DataError(
            f"{path}: dtype is {manifest.get('dtype')!r}, but must be one of {', '.join(STORE_DTYPES)}", hint=_REMAKE
        )
    return manifest


def vectors_fingerprint(name: str, width: int) -> str:
    """What stands for the weights of a teacher that is only vectors: hex sha256 of its name and width."""
    return hashlib.sha256(f"vectors {width} {name}".encode()).hexdigest()


def is_unit_length(lengths: np.ndarray) -> bool:
    """Whether all lengths of rows are 1 to the digits of float16."""
    return bool((np.abs(lengths - 1) < 2e-3).all())


@contextmanager
def locked(out: Path, *, wait: bool = False) -> Iterator[None]:
    """Make the folder and keep other extractions out of it. The lock ends with its process.

    With `wait`, it waits for the other one's end, and says so.

    If the block fails before any row counts, its files are removed: the folder is as it was before.

    Raises:
        DataError: the folder cannot be made, or another extraction is writing to it.
    """

    def say() -> None:
        console.log(f"waiting for another process that is extracting into {out}")

    with ExitStack() as held:
        try:
            was_there = out.exists()
            has_locks, gone = None, (FileNotFoundError,) if wait else ()
            while has_locks is None:
                out.mkdir(parents=True, exist_ok=True)
                # a process that fails takes its folder along while this one waits
                with suppress(*gone):
                    has_locks = held.enter_context(files.lock(out / LOCK, on_wait=say if wait else None))
        except files.Busy as error:
            raise DataError(f"another extraction is writing to {out}", hint="wait until it ends") from error
        except OSError as error:
            raise DataError(f"cannot write {out}: {error.strerror}", hint="choose another --out") from error
        if not has_locks:
            console.warn(f"{out} is on a file system without locks: run one extraction at a time")
        try:
            yield
        except BaseException:
            _forget_start(out)
            raise
        finally:
            # while it is locked: a process that opened this file finds it gone after the lock, and makes a new one
            (out / LOCK).unlink(missing_ok=True)
            if not was_there:
                with suppress(OSError):  # it has rows in it
                    out.rmdir()


def _forget_start(out: Path) -> None:
    """Remove the files of a run that failed before its first rows, so that a run of another model may follow."""
    if (out / PARTIAL_MANIFEST).exists() and read_manifest(out / PARTIAL_MANIFEST)["rows_done"] == 0:
        for name in (PARTIAL_EMBEDDINGS, SENTENCES, PARTIAL_MANIFEST):
            (out / name).unlink(missing_ok=True)


def require_same(
    folder: Path,
    manifest: dict[str, Any],
    expected: dict[str, Any],
    *,
    hint: str = AS_BEFORE,
) -> None:
    """Compare a store's manifest with what the run needs.

    Raises:
        DataError: the first field that differs, with both values.
    """
    for field, value in expected.items():
        if manifest.get(field) != value:
            raise DataError(
                f"{folder} does not fit this run: {field} is {_short(manifest.get(field))} there, {_short(value)} here",
                hint=hint,
            )


def _not_complete(folder: Path) -> DataError:
    if (folder / PARTIAL_MANIFEST).exists():
        manifest = read_manifest(folder / PARTIAL_MANIFEST)
        done, total = manifest["rows_done"], manifest["num_rows"]
        return DataError(
            f"{folder} is unfinished: {done:,} of {total:,} rows",
            hint="run the same distilcse extract command again: it resumes there",
        )
    what = "is no embedding store" if folder.is_dir() else "does not exist"
    return DataError(f"{folder} {what}", hint="make one with distilcse extract")


def _open_array(path: Path, manifest: dict[str, Any]) -> np.ndarray:
    """Memory-map the rows, after a check that header, manifest and file size agree."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}", hint=_REMAKE) from error
    except Exception as error:  # a damaged header raises whatever NumPy's parsers raise
        raise DataError(f"{path} is damaged or no array: {' '.join(str(error).split())}", hint=_REMAKE) from error
    if not isinstance(array, np.memmap):
        raise DataError(f"{path} is an archive, not an array", hint=_REMAKE)
    shape = (manifest["num_rows"], manifest["width"])
    if array.shape != shape or array.dtype != np.dtype(manifest["dtype"]) or not array.flags.c_contiguous:
        raise DataError(
            f"{path} holds {array.dtype} {array.shape}, its manifest says {manifest['dtype']} {shape}", hint=_REMAKE
        )
    size = path.stat().st_size
    if size != array.offset + array.nbytes:
        raise DataError(f"{path} has {size:,} bytes, its header {array.offset + array.nbytes:,}", hint=_REMAKE)
    return array


def _short(value: Any) -> str:
    text = str(value)
    # a fingerprint's first twelve digits tell two of them apart
    return f"{text[:12]}…" if isinstance(value, str) and len(text) == 64 else text
