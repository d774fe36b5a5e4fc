"""The files of a store that is being written: begun, continued after an interruption, finished.

The rows are in `embeddings.partial.npy`, whose header already names their final number. `manifest.partial.json`
says how many of them count. When all do, the array gets its final name, and `manifest.json` appears last.
"""

import os
import shutil
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from distilcse_cli.data import npy
from distilcse_cli.data.corpus import Corpus
from distilcse_cli.errors import DataError
from distilcse_cli.files import atomic_path, fsync, write_json
from distilcse_cli.teacher.store import (
    EMBEDDINGS,
    MANIFEST,
    PARTIAL_EMBEDDINGS,
    PARTIAL_MANIFEST,
    SENTENCES,
)


def all_rows_in_place(out: Path, manifest: dict[str, Any]) -> bool:
    """Whether a run was killed between the last two steps, with only the manifest still to write."""
    done = manifest["rows_done"] == manifest["num_rows"]
    return done and (out / EMBEDDINGS).exists() and not (out / PARTIAL_EMBEDDINGS).exists()


def start(out: Path, wanted: dict[str, Any], corpus: Corpus) -> dict[str, Any]:
    """Write the manifest of a store without rows yet, in a locked folder.

    Raises:
        DataError: the folder has files in the way, the corpus is empty, or the disk too small.
    """
    for name in (EMBEDDINGS, PARTIAL_EMBEDDINGS, SENTENCES):
        if (out / name).exists():
            raise DataError(f"{out} has a {name} that is not of an embedding store", hint="choose another --out")
    if len(corpus) == 0:
        raise DataError(f"{corpus.folder} has no sentences", hint="name another --corpus")
    row_bytes = wanted["width"] * np.dtype(wanted["dtype"]).itemsize
    needed = len(corpus) * row_bytes + corpus.sentences_path.stat().st_size
    free = shutil.disk_usage(out).free
    if needed > free:
        raise DataError(
            f"{out} needs {needed / 1e6:,.1f} MB, the disk has {free / 1e6:,.1f} MB free",
            hint="make room, choose another --out, or --dtype float16",
        )
    write_json(out / PARTIAL_MANIFEST, wanted)
    return wanted


def prepare(out: Path, manifest: dict[str, Any], corpus: Corpus) -> None:
    """Make the files that the rows and sentences go to, or cut the array after the last row that counts."""
    if all_rows_in_place(out, manifest):
        return
    if not (out / SENTENCES).exists():
        with atomic_path(out / SENTENCES) as temporary:
            shutil.copyfile(corpus.sentences_path, temporary)
    _cut_after_rows(out / PARTIAL_EMBEDDINGS, manifest)


def position(manifest: dict[str, Any], row: int) -> int:
    """Where in the array's file a row starts."""
    return npy.position(manifest["dtype"], (manifest["num_rows"], manifest["width"]), row)


def _cut_after_rows(path: Path, manifest: dict[str, Any]) -> None:
    """Make the unfinished array, or cut it after the last row that counts."""
    header = npy.header(manifest["dtype"], (manifest["num_rows"], manifest["width"]))
    end = position(manifest, manifest["rows_done"])
    with path.open("r+b" if manifest["rows_done"] and path.exists() else "w+b", buffering=0) as file:
        if manifest["rows_done"] == 0:
            write(file, 0, header)
        elif file.read(len(header)) != header or path.stat().st_size < end:
            raise DataError(f"{path} has lost rows that its manifest counts", hint=f"remove {path.parent}, start again")
        file.truncate(end)


def write(file: FileIO, position: int, rows: bytes | np.ndarray) -> None:
    """Write rows, or bytes, at a byte of the file, and wait until they are on the disk.

    Raises:
        DataError: they cannot be written.
    """
    # not through a memory map, whose dirty pages would count as this process's memory
    rest = memoryview(rows if isinstance(rows, bytes) else rows.data).cast("B")
    try:
        while rest:
            num_written = os.pwrite(file.fileno(), rest, position)
            rest, position = rest[num_written:], position + num_written
        os.fsync(file.fileno())
    except OSError as error:
        raise DataError(
            f"cannot write {file.name}: {error.strerror}",
            hint="make room and run the same command again, finished rows are kept",
        ) from error


def count(out: Path, manifest: dict[str, Any], num_rows: int, **more: int) -> None:
    """Count rows that are on the disk, and whatever else is counted with them, such as `num_truncated`."""
    for field, number in {"rows_done": num_rows, **more}.items():
        manifest[field] += number
    write_json(out / PARTIAL_MANIFEST, manifest)


def finish(out: Path, manifest: dict[str, Any]) -> None:
    """Give the array its final name and write the manifest, once all rows are on the disk.

    Raises:
        DataError: rows are missing.
    """
    if manifest["rows_done"] != manifest["num_rows"]:
        counts = f"{manifest['rows_done']:,} sentences, its manifest {manifest['num_rows']:,}"
        raise DataError(f"the corpus has {counts}", hint="remove it from the data home and run again")
    if (out / PARTIAL_EMBEDDINGS).exists():
        (out / PARTIAL_EMBEDDINGS).replace(out / EMBEDDINGS)
        fsync(out)
    write_json(out / MANIFEST, manifest)
    (out / PARTIAL_MANIFEST).unlink(missing_ok=True)


def remove_leftovers(out: Path) -> None:
    """Remove the temporary files of a killed run; under the lock nothing else writes here."""
    for name in (SENTENCES, MANIFEST, PARTIAL_MANIFEST):
        for leftover in out.glob(f".{name}.tmp-*"):
            leftover.unlink()
