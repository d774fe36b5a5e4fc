"""Watches the steps of a run: evaluates, keeps the best student, writes metrics, saves, and warns."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distilcse_cli import console
from distilcse_cli.files import atomic_path
from distilcse_cli.ranks import ALONE, Ranks
from distilcse_cli.training import resume
from distilcse_cli.training.checkpoint import save_tensors
from distilcse_cli.training.dev import DevSet
from distilcse_cli.training.metrics import (
    COLLAPSED_RANK,
    COLLAPSED_SPREAD,
    COSINES,
    Journal,
    effective_rank,
    spread,
)
from distilcse_cli.training.run_folder import RunFolder
from distilcse_cli.training.settings import TrainSettings
from distilcse_cli.training.state import Tally, TrainState
from distilcse_cli.training.steps import StepRecord


class Stopwatch:
    """Seconds of training, without those of evaluations and saves, over all sessions of a run.

    Args:
        seconds: those of earlier sessions.
        marked: `seconds` at the last evaluation.
    """

    def __init__(self, seconds: float = 0.0, marked: float = 0.0) -> None:
        self._seconds = seconds
        self._started = time.monotonic()
        self.marked = marked

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return self._seconds + time.monotonic() - self._started

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time of the block."""
        self._seconds = self.seconds
        try:
            yield
        finally:
            self._started = time.monotonic()


class Watch:
    """The watcher of a run. Rank 0 writes; the other ranks take part in evaluations and saves.

    Args:
        folder: folders of the run, locked.
        dev: scores students; None scores none.
        settings: those of the run.
        steps_per_epoch: turns patience into steps.
        run: identity of the run, for every checkpoint.
        facts: those of the checkpoint to continue from; empty for a new run.
        step: the last step taken.
        ranks: the processes.
    """

    def __init__(
        self,
        folder: RunFolder,
        dev: DevSet | None,
        settings: TrainSettings,
        *,
        steps_per_epoch: int,
        run: dict[str, Any],
        facts: dict[str, Any],
        step: int,
        ranks: Ranks = ALONE,
    ) -> None:
        self._folder = folder
        self._dev = dev
        self._settings = settings
        self._patience = None if settings.patience is None else settings.patience * steps_per_epoch
        self._run = run
        self._ranks = ranks
        self._warned: set[str] = set()
        tensorboard = folder.tensorboard if settings.tensorboard else None
        self._journal = Journal(folder.metrics, folder.speed, tensorboard, facts, step) if ranks.is_main else None
        self.stopwatch = Stopwatch(facts.get("seconds", 0.0), facts.get("seconds_marked", 0.0))

    def after_step(self, state: TrainState, record: StepRecord, *, stop: bool) -> None:
        """Write the step down; evaluate and save where it is due, and save before the run stops."""
        tally = state.tally
        tally.num_sentences += record.num_sentences
        tally.num_tokens += record.num_tokens
        tally.num_hidden += record.num_hidden
        tally.teacher_cosine += (record.teacher_cosine or 0.0) * record.num_sentences
        tally.positive_cosine += (record.positive_cosine or 0.0) * record.num_sentences
        if self._journal:
            self._journal.write({"kind": "step", **_step_facts(record)})
        self._warn_of_scale(record)
        is_last = record.step == record.num_steps
        with self.stopwatch.paused():
            if self._dev and (is_last or _is_due(record.step, self._settings.eval_every)):
                self._evaluate(self._dev, state, record)
            if stop or is_last or state.selection.ended or _is_due(record.step, self._settings.save_every):
                self._save(state)

    def close(self) -> None:
        """Close the files."""
        if self._journal:
            self._journal.close()

    def _evaluate(self, dev: DevSet, state: TrainState, record: StepRecord) -> None:
        seconds = self.stopwatch.seconds - self.stopwatch.marked
        score, embeddings = dev.evaluate(state.model.finished)
        score = self._ranks.decided(score)
        is_best = state.selection.take(record.step, score, self._patience)
        if self._journal:
            if is_best:
                with atomic_path(self._folder.best(record.step)) as temporary:
                    save_tensors(temporary, state.model.state_dict())
            signs = {
                "dev_score": score,
                **_cosines(record, state.tally),
                "spread": spread(embeddings),
                "effective_rank": effective_rank(embeddings),
                "scale": record.scale,
                "grad_norm": record.grad_norm,
                "num_hidden": state.tally.num_hidden,
            }
            seconds_or_more = max(seconds, 1e-9)
            speed = {
                "sentences_per_second": state.tally.num_sentences / seconds_or_more,
                "tokens_per_second": state.tally.num_tokens / seconds_or_more,
            }
            self._journal.write({"kind": "evaluation", "step": record.step, "dev_set": dev.name, **signs})
            self._journal.write({"kind": "speed", "step": record.step, **speed})
            console.log(f"step {record.step:,}: {dev.name} {_in_words(signs, speed, is_best=is_best)}")
            self._warn_of_collapse(record.step, signs)
        state.tally = Tally()
        self.stopwatch.marked += seconds

    def _warn_of_collapse(self, step: int, signs: dict[str, Any]) -> None:
        if signs["spread"] < COLLAPSED_SPREAD or signs["effective_rank"] < COLLAPSED_RANK:
            self._warn_once(
                "collapse",
                f"step {step}: collapse: spread {signs['spread']:.3f}, effective rank"
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
        sizes = self._journal.sync() if self._journal else {}
        seconds = {"seconds": self.stopwatch.seconds, "seconds_marked": self.stopwatch.marked}
        resume.save(self._folder, state, self._ranks, {**self._run, **sizes, **seconds})


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _step_facts(record: StepRecord) -> dict[str, Any]:
    names = ("step", "loss", "scale", "lr", "grad_norm", *COSINES, "num_sentences", "num_tokens", "num_hidden")
    return {name: getattr(record, name) for name in names if getattr(record, name) is not None}


def _cosines(record: StepRecord, tally: Tally) -> dict[str, float]:
    """Means since the last evaluation of the cosines that the objective measures."""
    return {name: getattr(tally, name) / tally.num_sentences for name in COSINES if getattr(record, name) is not None}


def _in_words(signs: dict[str, Any], speed: dict[str, float], *, is_best: bool) -> str:
    """An evaluation as a line of the log."""
    hidden = f", {signs['num_hidden']:,} false negatives masked" if signs["num_hidden"] else ""
    cosines = "".join(f" {words} {signs[name]:.4f}," for name, words in COSINES.items() if name in signs)
    return (
        f"{signs['dev_score']:.2f}{' (best)' if is_best else ''},{cosines} spread {signs['spread']:.3f},"
        f" effective rank {signs['effective_rank']:.1f}, scale {signs['scale']:.2f},"
        f" gradient {signs['grad_norm']:.3f}{hidden},"
        f" {speed['sentences_per_second']:,.0f} sentences/s, {speed['tokens_per_second']:,.0f} tokens/s"
    )
