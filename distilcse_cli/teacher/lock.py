"""The folder of an extraction while it runs: one extraction at a time, and no trace of one that made no rows."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from distilcse_cli import console, files
from distilcse_cli.errors import DataError
from distilcse_cli.teacher.store import PARTIAL_EMBEDDINGS, PARTIAL_MANIFEST, SENTENCES, read_manifest

LOCK = ".lock"
"""Name of the lock file in the folder; it is there only while an extraction runs, or after it was killed."""


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Make the folder and keep other extractions out of it. The lock ends with its process.

    If the block fails before any row counts, its files are removed: the folder is as it was before.

    Raises:
        DataError: the folder cannot be made, or another extraction is writing to it.
    """
    with ExitStack() as held:
        try:
            was_there = out.exists()
            out.mkdir(parents=True, exist_ok=True)
            has_locks = held.enter_context(files.lock(out / LOCK))
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
