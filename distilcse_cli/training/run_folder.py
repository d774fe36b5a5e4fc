"""Where a run of either stage works, and how its student gets to `--out`.

OUT/            the student: the best one, whole, when the run has ended
OUT.last/       the last one, where that is another
OUT.run/        while the run goes on: checkpoints/, best/, metrics.jsonl, speed.jsonl, tensorboard/
"""

import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from signal import SIGINT
from typing import Any

from distilcse_cli import console
from distilcse_cli.errors import DataError, UsageError
from distilcse_cli.files import fsync, read_json
from distilcse_cli.ranks import Ranks
from distilcse_cli.training.checkpoint import Checkpoint, Checkpoints
from distilcse_cli.training.signals import Interrupted

SETTINGS = "distilcse.json"
FREE_TO_CHANGE = ("micro_batch_tokens", "save_every", "tensorboard")
"""Settings that a resumed run may have otherwise."""


class RunFolder:
    """The folders of one run. `enter` first.

    Args:
        out: folder of the student to be.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.last = out.with_name(out.name + ".last")
        self.work = out.with_name(out.name + ".run")
        self.checkpoints = Checkpoints(self.work / "checkpoints")
        self.metrics = self.work / "metrics.jsonl"
        self.speed = self.work / "speed.jsonl"
        self.tensorboard = self.work / "tensorboard"
        self._lock: int | None = None

    def event_files(self) -> list[Path]:
        """TensorBoard's folder, if one of the run's sittings wrote any."""
        return [self.tensorboard] if self.tensorboard.exists() else []

    def best(self, step: int) -> Path:
        """Weights of the best student, found at `step`."""
        return self.work / "best" / f"step-{step:08d}.safetensors"

    def lock(self) -> None:
        """Keep other runs out until `unlock`, or this process's death.

        Raises:
            DataError: another run works here, or the folder cannot be made.
        """
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.work, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"another run works in {self.work}", hint="wait for it, or choose another --out") from error
        except OSError as error:
            raise DataError(f"cannot write {self.work}: {error.strerror}", hint="choose another --out") from error

    def unlock(self) -> None:
        """Let other runs in; nothing happens if they were not kept out."""
        if self._lock is not None:
            with suppress(OSError):
                self.work.rmdir()  # a run that failed before its first step leaves no trace
            os.close(self._lock)
            self._lock = None

    def enter(
        self, wanted: dict[str, Any], *, resume: bool, overwrite: bool
    ) -> tuple[dict[str, Any] | None, Checkpoint | None]:
        """Lock the folder and find what there is of the run.

        Args:
            wanted: what the run was told: its stage, the fields `as_typed`, the settings `compared`.
            resume, overwrite: as for `claim`.

        Returns:
            The settings file of a finished student that was asked for, and the checkpoint to go on from;
            at most one of them.

        Raises:
            DataError: as from `lock` and `claim`.
            UsageError: the finished student is one of other settings.
        """
        self.lock()
        finished = self.finished() if resume else None
        if finished is None:
            return None, self.claim(resume=resume, overwrite=overwrite)
        stage = {"stage": finished.get("stage")}
        require_same_run(stage, {"stage": wanted["stage"]})  # of another stage, all else would differ too
        require_same_run(stage | finished.get("asked", {}) | compared(finished.get("settings", {})), wanted)
        self.remove_work()
        return finished, None

    def finished(self) -> dict[str, Any] | None:
        """The settings file of the student in `out` if nothing is left to do for it, else None."""
        path = self.out / SETTINGS
        if not path.exists():
            return None
        facts, checkpoint = read_json(path), self.checkpoints.latest()
        # with a checkpoint of the same run it was killed while it cleaned up
        return facts if checkpoint is None or checkpoint.facts["run"] == facts.get("run") else None

    def claim(self, *, resume: bool, overwrite: bool) -> Checkpoint | None:
        """Find where to go on, and make sure that nothing is in the way.

        Args:
            resume: go on from the newest checkpoint, if there is one.
            overwrite: the student in `out`, and without `resume` an interrupted run's work, may be replaced.

        Returns:
            The checkpoint to go on from; None: start at the beginning.

        Raises:
            DataError: something is in the way.
        """
        checkpoint = self.checkpoints.latest()
        if checkpoint and not resume:
            if not overwrite:
                raise DataError(
                    f"{self.work} holds a run interrupted at step {checkpoint.facts['step']}",
                    hint="--resume goes on with it, --overwrite starts anew",
                )
            checkpoint = None
        self._require_free(overwrite, own_run=checkpoint.facts["run"] if checkpoint else None)
        if checkpoint is None:
            self._empty_work()
            if resume:
                console.log(f"no checkpoint in {self.work}: starting at the beginning")
        return checkpoint

    def publish(self, write: Callable[[Path], None], target: Path) -> None:
        """Put a student into `target` at once, in place of what is there.

        Args:
            write: writes the folder it is given, which does not exist.
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

    def remove_work(self) -> None:
        """Remove the work folder. Checkpoints go first and at once, so that none is found half removed."""
        doomed = self.work / ".done"
        shutil.rmtree(doomed, ignore_errors=True)
        if self.checkpoints.folder.exists():
            self.checkpoints.folder.rename(doomed)
        shutil.rmtree(self.work, ignore_errors=True)

    def prune_best(self, keep: set[int]) -> None:
        """Remove best students of other steps than these."""
        for path in (self.work / "best").glob("step-*.safetensors"):
            if int(path.stem.removeprefix("step-")) not in keep:
                path.unlink()

    def _require_free(self, overwrite: bool, *, own_run: str | None) -> None:
        for folder in (self.out, self.last):
            if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
                continue
            is_student = (folder / SETTINGS).exists()
            # a run may be killed between its last student and its best one
            if own_run and is_student and read_json(folder / SETTINGS).get("run") == own_run:
                continue
            if not overwrite:
                if not any(self.work.iterdir()):
                    self.work.rmdir()
                raise DataError(f"--out {folder} is not an empty folder", hint="choose another --out, or --overwrite")
            if not is_student:
                raise DataError(
                    f"{folder} is no student of ours, so --overwrite leaves it alone", hint="choose another --out"
                )

    def _empty_work(self) -> None:
        for path in self.work.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def as_typed(*told: Any) -> dict[str, Any]:
    """The fields of dataclasses as JSON gives them back; where a folder lies does not tell runs apart."""
    values = {
        name: value
        for part in told
        for name, value in (part.flat() if hasattr(part, "flat") else asdict(part)).items()
        if not isinstance(value, Path)
    }
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def compared(settings: dict[str, Any]) -> dict[str, Any]:
    """Those settings that a resumed run must have alike."""
    return {name: value for name, value in settings.items() if name not in FREE_TO_CHANGE}


def require_same_run(saved: dict[str, Any], now: dict[str, Any]) -> None:
    """Compare what a saved run was told with what this one is.

    Raises:
        UsageError: the names that differ, each with both values.
    """
    differing = [
        f"{name} was {saved.get(name)!r}, is {now.get(name)!r}"
        for name in dict.fromkeys([*saved, *now])
        if saved.get(name) != now.get(name)
    ]
    if differing:
        raise UsageError(
            f"cannot resume with other settings: {'; '.join(differing)}",
            hint="give the saved run's, or start anew with --overwrite",
        )


@contextmanager
def resumable(place: RunFolder, ranks: Ranks) -> Iterator[None]:
    """Say, on rank 0, how a run that is stopped within the context is gone on with; unlock its folder behind it.

    Raises:
        Interrupted: in place of itself and of KeyboardInterrupt, with the command's next words.
    """
    hint = "the same command with --resume goes on from there"
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as error:
        stopped = error if isinstance(error, Interrupted) else Interrupted("interrupted", SIGINT)
        if not ranks.is_main:
            sys.exit(stopped.exit_code)
        raise Interrupted(f"{stopped.message}, what is done is kept in {place.work}", stopped.by, hint=hint) from None
    finally:
        place.unlock()
