"""The folders of a run, the lock that keeps other runs out, and how a student gets to `--out`.

OUT/            the student with the best development score, whole, once the run has ended
OUT.last/       the student of the last step, if that is another one
OUT.run/        while the run lasts: checkpoints/, best/, distilcse.toml, metrics.jsonl, speed.jsonl, tensorboard/
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from distilcse_cli import console
from distilcse_cli.errors import DataError
from distilcse_cli.files import Busy, fsync, lock, read_json
from distilcse_cli.training.checkpoint import Checkpoints

FACTS = "distilcse.json"
SETTINGS = "distilcse.toml"
LOCK = ".lock"


class RunFolder:
    """The folders of one run.

    Args:
        out: folder for the student.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.last = out.with_name(out.name + ".last")
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
            DataError: another run works here, or the folder cannot be made.
        """
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

    def require_free(self, *, overwrite: bool, own_run: str | None) -> None:
        """Check that nothing is in the way of the students.

        Args:
            overwrite: students of earlier runs may be replaced.
            own_run: mark of the run to resume: students with this mark are its own.

        Raises:
            DataError: something is in the way.
        """
        for folder in (self.out, self.last):
            if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
                continue
            is_student = (folder / FACTS).exists()
            # a run may be killed after it has written its last student, before its best one
            if own_run and is_student and read_json(folder / FACTS).get("run") == own_run:
                continue
            if not overwrite:
                raise DataError(f"--out {folder} is not an empty folder", hint="choose another --out, or --overwrite")
            if not is_student:
                raise DataError(
                    f"{folder} is no student of ours, so --overwrite leaves it alone", hint="choose another --out"
                )

    def publish(self, write: Callable[[Path], None], target: Path) -> None:
        """Write a student and put it at `target` in one step, replacing what is there.

        Args:
            write: writes the folder at the path it gets, which does not exist.
            target: `out` or `last`.
        """
        new, replaced = self.work / "new", self.work / "replaced"
        for leftover in (new, replaced):
            shutil.rmtree(leftover, ignore_errors=True)
        write(new)
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
        """Empty the work folder, but for the lock."""
        for path in self._content():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

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
