"""What a stage adds to the loop and the run: its data, its model, its loss, and how it describes itself.

Shape letters: N rows to train on, C sentences of a row, G rows of a global batch.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from distilcse_cli.data.corpus import Corpus
from distilcse_cli.data.tokens import TokenRows, TokenStore, open_tokens, tokenize_corpus
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.ranks import ALONE, Ranks
from distilcse_cli.runtime import Runtime
from distilcse_cli.training.bank import MemoryBank
from distilcse_cli.training.dev import DevSet
from distilcse_cli.training.model import Scale, StudentModel
from distilcse_cli.training.report import Report
from distilcse_cli.training.settings import TrainSettings
from distilcse_cli.training.state import TrainState
from distilcse_cli.training.steps import Plan


@dataclass(kw_only=True)
class Objective(ABC):
    """What a student learns, and from which data. A subclass has to implement `backward`, and may change the rest.

    Every process of a run has one. What changes with the steps is in `TrainState`.
    """

    name: ClassVar[str]
    """The command's name."""
    unit: ClassVar[str] = "sentences"
    """What a row is, in the plural."""
    report_type: ClassVar[type[Report]] = Report

    settings: TrainSettings
    runtime: Runtime
    ranks: Ranks = ALONE
    student: SentenceEncoder
    tokens: TokenRows
    """The student's token rows, one for each distinct sentence."""
    rows: np.ndarray
    """(N,) or (N, C) numbers of the sentences to train on."""
    marks: dict[str, Any] = field(default_factory=dict)
    """Fingerprints of the inputs: a run is resumed only if they are the same."""
    facts: dict[str, Any] = field(default_factory=dict)
    """The stage's own part of `distilcse.json`."""
    chosen: dict[str, Any] = field(default_factory=dict)
    """Options that the run decided itself, so that its `distilcse.toml` repeats it; None leaves one out."""

    @cached_property
    def plan(self) -> Plan:
        """Which rows each step takes. Rows of about the same number of tokens share a step."""
        settings = self.settings
        return Plan(
            lengths=self.tokens.lengths[self.rows].reshape(len(self.rows), -1).sum(axis=1),
            batch_size=settings.batch_size * self.ranks.world_size,
            epochs=settings.epochs,
            max_steps=settings.max_steps,
            seed=settings.seed,
            shuffle=settings.shuffle,
        )

    @property
    def cosines(self) -> tuple[str, ...]:
        """Which of `teacher_cosine` and `positive_cosine` this objective measures."""
        return ()

    def new_model(self) -> StudentModel:
        """The model before the first step, on the runtime's device."""
        settings = self.settings
        scale = Scale(settings.logit_scale, settings.max_logit_scale, learned=settings.learn_logit_scale)
        return StudentModel(self.student, scale).to(self.runtime.torch_device())

    def new_bank(self) -> MemoryBank | None:
        """An empty memory bank; None for an objective without one."""
        return None

    @abstractmethod
    def backward(self, state: TrainState, rows: np.ndarray) -> Tensor:
        """Add this process's share of the gradient to the weights' `.grad`.

        Each process takes its `ranks.share` of the rows and weighs its loss by that share, so that
        sums over the processes are those of the whole batch, however it is split.

        Args:
            state: model and bank.
            rows: (G,) or (G, C) sentences of the global batch.

        Returns:
            (4,) this process's share of: the loss; the number of false negatives left out; the sum over the
            rows of the cosines between anchor and positive; and that of the cosines between student and
            teacher. A value that is not measured is 0.
        """

    def after_step(self, state: TrainState, rows: np.ndarray) -> None:  # noqa: B027  most have nothing to do
        """Called after each step with the rows that it took."""

    def forward(self, model: StudentModel, sentences: np.ndarray) -> Tensor:
        """(B,) numbers of sentences to their (B, H) embeddings."""
        ids, mask = self.tokens.pad(sentences, self.student.pad_id)
        device = self.runtime.torch_device()
        return model(ids.to(device), mask.to(device))

    def dev_fallback(self) -> DevSet | None:
        """Development scores where STS-B is missing; None if too few rows are held out."""
        return None

    def begin(self, dev: DevSet | None) -> None:  # noqa: B027
        """Called on all processes before the first step, and when a run is resumed."""

    def measured(self, student: SentenceEncoder) -> dict[str, Any]:  # noqa: ARG002  for subclasses
        """Fields of the report that `Report` does not have, measured on the student that is saved."""
        return {}

    def log_result(self, report: Any) -> None:  # noqa: B027
        """Log what the kept student is worth."""


def tokens_of(sentences: Corpus, encoder: SentenceEncoder, max_length: int, ranks: Ranks) -> TokenStore:
    """Token rows of an encoder, cut to `max_length` tokens: made by rank 0 or found, and opened by every process."""
    limit = min(max_length, encoder.max_length)
    prompt = encoder.prompts.used
    return open_tokens(ranks.on_main(lambda: tokenize_corpus(sentences, encoder.tokenizer, limit, prompt).folder))
