"""The folders of a run, the lock that keeps other runs out, and how a student gets to `--out`.

OUT/            the student with the best development score, whole, once the run has ended
OUT.last/       the student of the last step, if that is another one
OUT.last-good/  the student before the loss was no longer finite
OUT.run/        while the run lasts: checkpoints/, best/, distilcse.toml, metrics.jsonl, speed.jsonl, tensorboard/

A folder is ours by what is in it, not by its name: students have a `distilcse.json`, OUT.run has our lock file.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from distilcse_cli import console
from distilcse_cli.errors import DataError
from distilcse_cli.files import RECORD, Busy, fill, fsync, lock, read_json
from distilcse_cli.paths import ANOTHER, content, folder_target, is_mount
from distilcse_cli.training.checkpoint import Checkpoints

FACTS = RECORD
SETTINGS = "distilcse.toml"
LOCK = ".lock"
STAGING = ".distilcse"
"""In a student folder that is a mount point: where a new student is written, before it replaces the old one."""
_OURS = (
    *(SETTINGS, "metrics.jsonl", "speed.jsonl", "curves.png", "tensorboard", "checkpoints", "best", ".done"),
    *("new", "replaced", ".*.tmp-*"),
)
"""Patterns of all that a run makes in its work folder."""


class RunFolder:
    """The folders of one run.

    Args:
        out: folder for the student. A link is followed: the other folders are beside the one it leads to.

    Raises:
        UsageError, DataError: `out` cannot be a folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out = folder_target(out)
        self.last = out.with_name(out.name + ".last")
        self.last_good = out.with_name(out.name + ".last-good")
        self.work = out.with_name(out.name + ".run")
        self.checkpoints = Checkpoints(self.work / "checkpoints")
        self.settings = self.work / SETTINGS
        self.metrics = self.work / "metrics.jsonl"
        self.speed = self.work / "speed.jsonl"
        self.tensorboard = self.work / "tensorboard"
        self.curves = self.work / "curves.png"

    def beside(self) -> list[Path]:
        """Files and folders of the run to copy into the student folder."""
        files = [self.settings, self.metrics, self.speed, self.curves, self.tensorboard]
        return [path for path in files if path.exists()]

    def best(self, step: int) -> Path:
        """Weights of the best student, found at `step`."""
        return self.work / "best" / f"step-{step:08d}.safetensors"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out while the block runs. A run that failed before its first step leaves no trace.

        Raises:
            DataError: another run works here, the folder is not ours, or it cannot be made.
        """
        self._require_own_work()
        with ExitStack() as held:
            try:
                self.work.mkdir(parents=True, exist_ok=True)
                has_locks = held.enter_context(lock(self.work / LOCK))
            except Busy as error:
                # the folder belongs to the other run: nothing in it may be removed
                hint = "wait for it, or choose another --out"
                raise DataError(f"another run works in {self.work}", hint=hint) from error
            except OSError as error:
                raise DataError(f"cannot write {self.work}: {error.strerror}", hint="choose another --out") from error
            if not has_locks:
                console.warn(f"{self.work} is on a file system without locks: start only one run at a time in it")
            try:
                yield
            finally:
                if not self._content():
                    with suppress(OSError):
                        (self.work / LOCK).unlink()
                        self.work.rmdir()  # fails if another run has just made a lock file of the same name

    def _require_own_work(self) -> None:
        """Check that the work folder is ours or empty, and on the disk of the student, so that it can be renamed."""
        if self.work.is_symlink() or is_mount(self.work):
            hint = f"remove it, or {ANOTHER}"
            raise DataError(f"{self.work} is a link or a mount point, but has to be a folder beside OUT", hint=hint)
        if self.work.is_dir() and self._content() and not ((self.work / LOCK).exists() or self.checkpoints):
            raise DataError(f"{self.work} holds files that are not of a run", hint=f"move them away, or {ANOTHER}")

    def require_free(self, *, overwrite: bool, own_run: str | None) -> None:
        """Check that nothing is in the way of the students.

        Args:
            overwrite: students of earlier runs may be replaced.
            own_run: mark of the run to resume: students with this mark are its own.

        Raises:
            DataError: something is in the way.
        """
        for folder in (self.out, self.last):
            if not self._is_taken(folder):
                continue
            # a run may be killed after it has written its last student, before its best one
            if own_run and any(read_json(facts).get("run") == own_run for facts in self._facts(folder)):
                continue
            if not overwrite:
                raise DataError(f"--out {folder} is not an empty folder", hint=f"{ANOTHER}, or --overwrite")
            self._require_student(folder)
        if self._is_taken(self.last_good):
            self._require_student(self.last_good)

    def _is_taken(self, folder: Path) -> bool:
        if not folder.is_dir():
            return os.path.lexists(folder)
        return any(path.name != STAGING for path in content(folder)) or bool(self._facts(folder))

    def _facts(self, folder: Path) -> list[Path]:
        """The records of the students in a folder: the present one, and one that was about to replace it."""
        return [path for path in (folder / FACTS, folder / STAGING / "new" / FACTS) if path.is_file()]

    def _require_student(self, folder: Path) -> None:
        if not self._facts(folder):
            raise DataError(f"{folder} is no student of ours, so it is left alone", hint=ANOTHER)

    def publish(self, write: Callable[[Path], None], target: Path) -> None:
        """Write a student and put it at `target` in one step, replacing what is there.

        A mount point cannot be renamed: there, the files of the old student give way to the new ones, whose
        record comes last. A run that is killed meanwhile does it again when it is resumed.

        Args:
            write: writes the folder at the path it gets, which does not exist.
            target: `out`, `last` or `last_good`.
        """
        must_fill = is_mount(target)
        place = target / STAGING if must_fill else self.work
        new, replaced = place / "new", place / "replaced"
        for leftover in (new, replaced):
            shutil.rmtree(leftover, ignore_errors=True)
        write(new)
        if must_fill:
            replaced.mkdir()
            for path in content(target):
                if path != place:
                    path.rename(replaced / path.name)
            fill(target, new)
            shutil.rmtree(place)
            return
        if target.exists():
            target.rename(replaced)
        new.rename(target)
        fsync(target.parent)

    def prune_best(self, keep: set[int]) -> None:
        """Remove the best students of all steps but these."""
        for path in (self.work / "best").glob("step-*.safetensors"):
            if int(path.stem.removeprefix("step-")) not in keep:
                path.unlink()

    def clear(self) -> None:
        """Empty the work folder, but for the lock and for files that somebody else has put there."""
        for name in _OURS:
            for path in self.work.glob(name):
                path.unlink() if path.is_symlink() or path.is_file() else shutil.rmtree(path)

    def remove_work(self) -> None:
        """Remove the work folder. The checkpoints disappear first and at once, so that none is ever half removed."""
        doomed = self.work / ".done"
        shutil.rmtree(doomed, ignore_errors=True)
        if self.checkpoints.folder.exists():
            self.checkpoints.folder.rename(doomed)
        with suppress(OSError):
            self.clear()
        # the lock goes when `locked` ends, after everything that it protects

    def _content(self) -> list[Path]:
        """What is in the work folder beside the lock."""
        return [path for path in self.work.iterdir() if path.name != LOCK] if self.work.is_dir() else []
