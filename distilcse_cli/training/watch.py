"""What goes on beside the steps of a run: evaluation, selection, checkpoints, metrics and warnings."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from distilcse_cli import console
from distilcse_cli.files import atomic_path
from distilcse_cli.ranks import ALONE, Ranks
from distilcse_cli.training.checkpoint import Checkpoint, rng_tensors, save_tensors, set_rng
from distilcse_cli.training.metrics import (
    COLLAPSED_RANK,
    COLLAPSED_SPREAD,
    JsonLines,
    TensorBoard,
    effective_rank,
    spread,
)
from distilcse_cli.training.run_folder import RunFolder
from distilcse_cli.training.selection import DevSet
from distilcse_cli.training.settings import DistillSettings, FinetuneSettings
from distilcse_cli.training.state import Tally, TrainState
from distilcse_cli.training.steps import StepRecord

COSINES = {"teacher_cosine": "mean cosine to teacher", "positive_cosine": "mean cosine of anchor and positive"}


class Stopwatch:
    """Seconds of training, without those of evaluations and saves, over all sittings of a run."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._started = time.monotonic()
        self.marked = seconds
        """What `seconds` was at the last evaluation."""

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return self._seconds + time.monotonic() - self._started

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the context."""
        self._seconds = self.seconds
        try:
            yield
        finally:
            self._started = time.monotonic()


class Watch:
    """The watcher of a run. On ranks other than 0 it only takes part.

    Args:
        place: the run's folders, claimed.
        dev: what students are scored on; None scores none.
        settings: of the stage.
        steps_per_epoch: for patience.
        run: facts that tell this run from others, kept in every checkpoint.
        checkpoint: where to go on from; None starts at the beginning.
        ranks: the processes.
    """

    def __init__(
        self,
        place: RunFolder,
        dev: DevSet | None,
        settings: DistillSettings | FinetuneSettings,
        *,
        steps_per_epoch: int,
        run: dict[str, Any],
        checkpoint: Checkpoint | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self._place = place
        self._dev = dev
        self._settings = settings
        self._patience = None if settings.patience is None else settings.patience * steps_per_epoch
        self._run = run
        self._checkpoint = checkpoint
        self._ranks = ranks
        self._metrics: JsonLines | None = None
        self._speed: JsonLines | None = None
        self._tensorboard: TensorBoard | None = None
        self._warned: set[str] = set()
        self.stopwatch = Stopwatch()

    def start(self, state: TrainState) -> None:
        """Put a resumed run's state in place, and open the metrics behind its last line."""
        facts = self._checkpoint.facts if self._checkpoint else {}
        if self._checkpoint:
            own, rank = state.own_tensors(), self._ranks.rank
            read = self._checkpoint.tensors
            state.load(lambda name: read(f"{name}-{rank}" if name in own else name), facts)
            set_rng(read(f"rng-{rank}"))
            console.log(f"going on behind step {state.step:,}")
        if self._ranks.is_main:
            self._metrics = JsonLines(self._place.metrics, facts.get("metrics_bytes", 0))
            self._speed = JsonLines(self._place.speed, facts.get("speed_bytes", 0))
            if self._settings.tensorboard:
                self._tensorboard = TensorBoard(self._place.tensorboard, state.step)
        self.stopwatch = Stopwatch(facts.get("seconds", 0.0))
        self.stopwatch.marked = facts.get("seconds_marked", 0.0)

    def after_step(self, state: TrainState, record: StepRecord, *, stop: bool) -> None:
        """Write the step down; evaluate and save where it is time, and save before the run stops."""
        tally = state.tally
        tally.num_sentences += record.num_sentences
        tally.num_tokens += record.num_tokens
        tally.num_hidden += record.num_hidden
        tally.teacher_cosine += (record.teacher_cosine or 0.0) * record.num_sentences
        tally.positive_cosine += (record.positive_cosine or 0.0) * record.num_sentences
        self._write({"kind": "step", **_step_facts(record)})
        self._warn_of_scale(record)
        is_last = record.step == record.num_steps
        with self.stopwatch.paused():
            if self._dev and (is_last or _is_due(record.step, self._settings.eval_every)):
                self._evaluate(state, record)
            if stop or is_last or state.selection.ended or _is_due(record.step, self._settings.save_every):
                self._save(state)

    def close(self) -> None:
        """Close the files."""
        for file in (self._metrics, self._speed, self._tensorboard):
            if file:
                file.close()

    def _evaluate(self, state: TrainState, record: StepRecord) -> None:
        assert self._dev is not None
        seconds = self.stopwatch.seconds - self.stopwatch.marked
        score, embeddings = self._dev.evaluate(state.model.encoder)
        score = self._ranks.decided(score)
        is_best = state.selection.take(record.step, score, self._patience)
        if self._ranks.is_main:
            if is_best:
                with atomic_path(self._place.best(record.step)) as temporary:
                    save_tensors(temporary, state.model.state_dict())
            self._tell(state, record, score, embeddings, max(seconds, 1e-9), is_best=is_best)
        state.tally = Tally()
        self.stopwatch.marked += seconds

    def _tell(
        self,
        state: TrainState,
        record: StepRecord,
        score: float,
        embeddings: np.ndarray,
        seconds: float,
        *,
        is_best: bool,
    ) -> None:
        """Log the signs of life, and warn of a student that is dying."""
        assert self._dev is not None
        assert self._speed is not None
        tally = state.tally
        signs = {
            "dev_score": score,
            **_cosines(record, tally),
            "spread": spread(embeddings),
            "effective_rank": effective_rank(embeddings),
            "scale": record.scale,
            "grad_norm": record.grad_norm,
            "num_hidden": tally.num_hidden,
        }
        speed = {
            "sentences_per_second": tally.num_sentences / seconds,
            "tokens_per_second": tally.num_tokens / seconds,
        }
        self._write({"kind": "evaluation", "step": record.step, "dev_set": self._dev.name, **signs})
        self._speed.write({"kind": "speed", "step": record.step, **speed})
        if self._tensorboard:
            self._tensorboard.write({"kind": "speed", "step": record.step, **speed})
        hidden = f", {tally.num_hidden:,} false negatives masked" if tally.num_hidden else ""
        cosines = "".join(f" {words} {signs[name]:.4f}," for name, words in COSINES.items() if name in signs)
        console.log(
            f"step {record.step:,}: {self._dev.name} {score:.2f}{' (best)' if is_best else ''},"
            f"{cosines} spread {signs['spread']:.3f},"
            f" effective rank {signs['effective_rank']:.1f}, scale {record.scale:.2f},"
            f" gradient {record.grad_norm:.3f}{hidden},"
            f" {speed['sentences_per_second']:,.0f} sentences/s, {speed['tokens_per_second']:,.0f} tokens/s"
        )
        if signs["spread"] < COLLAPSED_SPREAD or signs["effective_rank"] < COLLAPSED_RANK:
            self._warn_once(
                "collapse",
                f"step {record.step}: collapse: spread {signs['spread']:.3f}, effective rank"
                f" {signs['effective_rank']:.1f}; sentences no longer differ. Lower --lr",
            )

    def _warn_of_scale(self, record: StepRecord) -> None:
        limit = self._settings.max_logit_scale
        if self._settings.learn_logit_scale and not 1.001 / limit < record.scale < 0.999 * limit:
            self._warn_once(
                "scale",
                f"step {record.step}: runaway scale: {record.scale:.4g} is at its limit."
                " Lower --lr, or --fix-logit-scale",
            )

    def _warn_once(self, kind: str, message: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            console.warn(message)

    def _save(self, state: TrainState) -> None:
        """Write a checkpoint; rank 0 writes for all."""
        everyone = self._ranks.gathered({"rng": rng_tensors(), **state.own_tensors()})
        if not (self._metrics and self._speed):
            return
        tensors = state.tensors()
        for rank, own in enumerate(everyone):
            tensors |= {f"{name}-{rank}": group for name, group in own.items()}
        sizes = {"metrics_bytes": self._metrics.sync(), "speed_bytes": self._speed.sync()}
        if self._tensorboard:
            self._tensorboard.flush()  # a resumed run does not write the steps before its checkpoint again
        seconds = {"seconds": self.stopwatch.seconds, "seconds_marked": self.stopwatch.marked}
        checkpoints = self._place.checkpoints
        checkpoints.save(state.step, tensors, {**self._run, **state.facts(), **sizes, **seconds})
        self._place.prune_best({kept["selection"]["best_step"] for kept in checkpoints.facts()})

    def _write(self, record: dict[str, Any]) -> None:
        """Into the metrics, and TensorBoard."""
        for sink in (self._metrics, self._tensorboard):
            if sink:
                sink.write(record)


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _step_facts(record: StepRecord) -> dict[str, Any]:
    names = ("step", "loss", "scale", "lr", "grad_norm", *COSINES, "num_sentences", "num_tokens", "num_hidden")
    return {name: getattr(record, name) for name in names if getattr(record, name) is not None}


def _cosines(record: StepRecord, tally: Tally) -> dict[str, float]:
    """Means since the last evaluation of those cosines that there are in this stage."""
    return {name: getattr(tally, name) / tally.num_sentences for name in COSINES if getattr(record, name) is not None}
