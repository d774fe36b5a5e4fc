"""The folder of an extraction while it runs: one at a time, and no trace of one that came to nothing."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distilcse_cli import console
from distilcse_cli.errors import DataError
from distilcse_cli.teacher.store import PARTIAL_EMBEDDINGS, PARTIAL_MANIFEST, SENTENCES, read_manifest


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Make the folder and keep other extractions out of it; the lock dies with its process.

    What fails within, before rows count, is forgotten: the folder is as it was.

    Raises:
        DataError: the folder cannot be made, or another extraction is writing to it.
    """
    try:
        was_there = out.exists()
        out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror}", hint="choose another --out") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"another extraction is writing to {out}", hint="wait for it to end") from error
        except OSError:
            console.warn(f"{out} is on a file system without locks: run one extraction at a time")
        try:
            yield
        except BaseException:
            _forget_start(out, was_there)
            raise
    finally:
        os.close(descriptor)


def _forget_start(out: Path, was_there: bool) -> None:
    """Remove what a run that failed before its first rows has left, so that the next may be another one's."""
    if (out / PARTIAL_MANIFEST).exists() and read_manifest(out / PARTIAL_MANIFEST)["rows_done"] == 0:
        for name in (PARTIAL_EMBEDDINGS, SENTENCES, PARTIAL_MANIFEST):
            (out / name).unlink(missing_ok=True)
    if not was_there and not any(out.iterdir()):
        out.rmdir()
