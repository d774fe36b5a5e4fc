"""Make a FAISS index of rows, in chunks: memory holds the index and one chunk, never all rows twice.

Shape letters: N rows, D width.
"""

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from distilcse_cli import __version__, console
from distilcse_cli.data.cache import write_manifest
from distilcse_cli.data.prepared import SentenceWriter
from distilcse_cli.errors import DataError, DeviceError, UsageError
from distilcse_cli.files import MAKE_ROOM, atomic_folder
from distilcse_cli.paths import folder_target
from distilcse_cli.serving.index_folder import FORMAT_VERSION, INDEX, faiss_errors, ivf_of, require_faiss
from distilcse_cli.serving.index_rows import Rows
from distilcse_cli.serving.recall import choose_nprobe
from distilcse_cli.serving.settings import FLAT_ROWS, IndexSettings
from distilcse_cli.teacher.neighbours import unit_rows

_CHUNK_BYTES = 32 << 20
_SAMPLE_PER_LIST = 64
_LEAST_SAMPLE = 65_536
"""Rows to train an index without lists, such as codes alone."""
_SENTENCES = 8192


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """What `build_index` wrote."""

    out: str
    num_rows: int
    width: int
    factory: str
    nprobe: int
    """Lists that a search looks into; 1 for an index without lists."""
    recall_at_10: float
    """Share of the ten nearest rows that a search finds, measured on rows of the index; 1 for an exact index."""
    num_bytes: int
    """Of the folder."""
    space: dict[str, str]

    def __fspath__(self) -> str:
        return self.out

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def default_factory(num_rows: int) -> str:
    """Flat for few rows; else 8-bit codes in about 1.4 sqrt(N) lists, a power of two."""
    if num_rows <= FLAT_ROWS:
        return "Flat"
    return f"IVF{2 ** round(math.log2(1.4 * math.sqrt(num_rows)))},SQ8"


def build_index(rows: Rows, out: Path, settings: IndexSettings, *, overwrite: bool = False) -> IndexReport:
    """Index rows and their sentences in the folder `out`, which appears when it is complete.

    Args:
        rows: what to index.
        out: must not exist, or be empty, or with `overwrite` be an index.
        settings: kind of index and device.
        overwrite: replace the index that is there.

    Raises:
        UsageError: faiss is missing, or `factory` is none.
        DataError: a row is not finite, the sentences are fewer or more, or `out` is taken or cannot be written.
        DeviceError: the GPU or faiss-gpu is missing.
    """
    faiss = require_faiss()
    num_rows, width = rows.embeddings.shape
    factory = settings.factory or default_factory(num_rows)
    with faiss_errors(UsageError, f"--factory {factory} is none for {width} numbers", "such as Flat or IVF1024,SQ8"):
        index = faiss.index_factory(width, factory, faiss.METRIC_INNER_PRODUCT)
    index = _on_device(faiss, index, settings.device)
    sample = 0 if index.is_trained else _sample_size(faiss, index, num_rows)
    num_bytes = _announce(rows, factory, _row_bytes(faiss, index), sample)
    with _replacing(out, overwrite=overwrite) as target, atomic_folder(target) as folder:
        if (free := shutil.disk_usage(folder).free) < num_bytes:
            raise DataError(f"{out} needs {_mb(num_bytes)}, the disk has {_mb(free)} free", hint=MAKE_ROOM)
        _write_sentences(rows, folder)
        with faiss_errors(UsageError, f"FAISS cannot make {factory} of {num_rows:,} rows", "try another --factory"):
            if sample:
                _train(index, rows, sample)
            _add(index, rows)
        if settings.device != "cpu":
            index = faiss.index_gpu_to_cpu(index)
        nprobe, recall = (1, 1.0) if factory == "Flat" else choose_nprobe(faiss, index, rows.embeddings)
        with faiss_errors(DataError, f"cannot write {out}", MAKE_ROOM):
            faiss.write_index(index, str(folder / INDEX))
        fields = {
            **_record(rows, factory, faiss.__version__),
            "nprobe": nprobe,
            "recall_at_10": recall,
        }
        write_manifest(folder, FORMAT_VERSION, fields)
        total = sum(file.stat().st_size for file in folder.iterdir())
    return IndexReport(
        out=str(out),
        num_rows=num_rows,
        width=width,
        factory=factory,
        nprobe=nprobe,
        recall_at_10=recall,
        num_bytes=total,
        space=rows.space.as_dict(),
    )


def _record(rows: Rows, factory: str, faiss_version: str) -> dict[str, Any]:
    num_rows, width = rows.embeddings.shape
    return {
        "space": rows.space.as_dict(),
        "model": rows.model,
        "pooling": rows.pooling,
        "prompt": rows.prompt,
        "rows": str(rows.path.absolute()),
        "num_rows": num_rows,
        "width": width,
        "metric": "cosine",
        "factory": factory,
        "faiss_version": faiss_version,
        "distilcse_version": __version__,
    }


def _on_device(faiss: ModuleType, index: Any, device: str) -> Any:
    kind, _, number = device.partition(":")
    if kind == "cpu" and not number:
        return index
    if kind != "cuda" or (number and not number.isdecimal()):
        raise UsageError(f"unknown device {device!r}", hint="cpu, cuda, or cuda:N")
    if not hasattr(faiss, "StandardGpuResources"):
        hint = "pip uninstall faiss-cpu, then pip install 'distilcse[gpu]'; or --device cpu"
        raise DeviceError("--device cuda needs faiss-gpu, and this faiss has no GPU code", hint=hint)
    if int(number or 0) >= faiss.get_num_gpus():
        raise DeviceError(f"no device {device}: faiss sees {faiss.get_num_gpus()} GPUs", hint="--device cpu")
    with faiss_errors(DeviceError, "FAISS cannot make this index on a GPU", "--device cpu"):
        return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), int(number or 0), index)


def _sample_size(faiss: ModuleType, index: Any, num_rows: int) -> int:
    ivf = ivf_of(faiss, index)
    return min(num_rows, max(_LEAST_SAMPLE if ivf is None else 0, _SAMPLE_PER_LIST * getattr(ivf, "nlist", 0)))


def _row_bytes(faiss: ModuleType, index: Any) -> int | None:
    """Bytes of one row in the index; None where FAISS does not say."""
    ivf = ivf_of(faiss, index)
    if ivf is not None:
        return ivf.code_size + 8  # the row's number
    try:
        return int(index.sa_code_size())
    except (AttributeError, RuntimeError):
        return None


def _announce(rows: Rows, factory: str, row_bytes: int | None, sample: int) -> int:
    """Say what will be made and what it takes; return the bytes it needs on the disk at least."""
    num_rows, width = rows.embeddings.shape
    kept = num_rows * (row_bytes or width * 4)
    most = kept + sample * width * 4 + 2 * _CHUNK_BYTES
    size = "at least " if row_bytes is None else "about "
    trained = f"; trained on {sample:,} rows" if sample else ""
    console.log(
        f"index {factory} of {num_rows:,} rows of {width} numbers: {size}{_mb(kept)} on disk and in memory,"
        f" {_mb(most)} while it is made{trained}"
    )
    return kept


def _mb(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB"


def _write_sentences(rows: Rows, folder: Path) -> None:
    with SentenceWriter(folder) as writer:
        some: list[bytes] = []
        for sentence in rows.sentences():
            some.append(sentence.encode("utf-8"))
            if len(some) == _SENTENCES:
                writer.append(some)
                some = []
        writer.append(some)
    if writer.num_sentences != len(rows.embeddings):
        counts = f"{len(rows.embeddings):,} rows, but {writer.num_sentences:,} sentences"
        raise DataError(f"{rows.path} has {counts}", hint="make it again")


def _train(index: Any, rows: Rows, sample: int) -> None:
    console.log(f"training the index on {sample:,} rows")
    draw = np.random.default_rng(0).choice(len(rows.embeddings), sample, replace=False)
    index.train(unit_rows(rows.embeddings[np.sort(draw)]))


def _add(index: Any, rows: Rows) -> None:
    num_rows, width = rows.embeddings.shape
    codes: Any = getattr(index, "codes", None)
    if hasattr(codes, "resize"):
        # reserves memory for all rows: growing would need twice as much in between
        codes.resize(num_rows * index.sa_code_size())
        codes.resize(0)
    size = max(1, _CHUNK_BYTES // (4 * width))
    with console.Progress("index", num_rows, "rows") as progress:
        for start in range(0, num_rows, size):
            unit = unit_rows(rows.embeddings[start : start + size])
            finite = np.isfinite(unit).all(axis=1)
            if not finite.all():
                row = start + int(finite.argmin())
                raise DataError(f"{rows.path} has NaN or infinity in row {row}", hint="make it again")
            index.add(unit)
            progress.update(len(unit))


@contextmanager
def _replacing(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield the path to write a folder at: `out`, or one beside the index that it then replaces."""
    out = folder_target(out)
    if not (overwrite and (out / INDEX).is_file()):
        yield out
        return
    new, old = (out.with_name(f".{out.name}.{what}") for what in ("new", "old"))
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    yield new
    try:
        out.rename(old)
        new.rename(out)
    except OSError as error:
        raise DataError(f"cannot replace {out}: {error.strerror}; the new one is {new}", hint=MAKE_ROOM) from error
    shutil.rmtree(old, ignore_errors=True)
