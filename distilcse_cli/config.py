"""Settings: frozen dataclasses, checked before torch is imported.

A command's defaults are the dataclass's. A value out of range raises `UsageError`, so it ends
with exit code 2 in the time it takes to parse the command line. The resolved settings are
written beside every output.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from distilcse_cli.errors import UsageError

POOLINGS = ("cls", "cls_before_pooler", "avg", "avg_top2", "avg_first_last", "avg_layer1_last")
LOSSES = ("ckd", "mse", "ckd+mse", "cosine", "kl")
ON_BAD_LINE = ("stop", "skip")
STORE_DTYPES = ("float32", "float16")
BANKS = ("shared", "per-rank")
TRIPLET_COLUMNS = (
    ("anchor", "positive", "negative"),
    ("sent0", "sent1", "hard_neg"),
    ("premise", "entailment", "contradiction"),
    ("query", "positive", "negative"),
)
"""Column names that tell what is what; a table of pairs has the first two of a line."""


def data_home() -> Path:
    """Where downloads and caches live: `$DISTILCSE_HOME`, else `distilcse` in the user's cache folder."""
    home = os.environ.get("DISTILCSE_HOME")
    if home:
        return Path(home).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "distilcse"


@dataclass(frozen=True, kw_only=True)
class CorpusSettings:
    """How lines of text become the sentences of a corpus."""

    text_column: str | None = None
    """Column of a csv, jsonl or parquet file, or of a hub data set, that holds the text."""
    split_sentences: bool = False
    """Whether each text is an article to be split into sentences, rather than one sentence."""
    min_words: int = 1
    """Sentences with fewer white-space separated words are dropped."""
    max_words: int | None = None
    """Sentences with more words are dropped; None keeps all."""
    on_bad_line: str = "stop"
    """At a line that is not UTF-8: `stop` with its number, or `skip` and count it."""

    def __post_init__(self) -> None:
        _at_least("--min-words", self.min_words, 1)
        if self.max_words is not None:
            _at_least("--max-words", self.max_words, self.min_words)
        _one_of("--on-bad-line", self.on_bad_line, ON_BAD_LINE)


@dataclass(frozen=True, kw_only=True)
class EncodeSettings:
    """How token rows go through a frozen encoder."""

    batch_tokens: int | None = None
    """Most tokens in a batch, padding included; None takes what suits the device."""
    max_length: int | None = None
    """Most tokens of a sentence, special tokens included; None takes the model's own limit."""
    normalize: bool | None = None
    """Scale embeddings to length 1; None does what the model's folder says."""
    dtype: str = "float32"
    """Number format of the rows written."""

    def __post_init__(self) -> None:
        if self.batch_tokens is not None:
            _at_least("--batch-tokens", self.batch_tokens, 1)
        if self.max_length is not None:
            _at_least("--max-length", self.max_length, 3)
        _one_of("--dtype", self.dtype, STORE_DTYPES)


@dataclass(frozen=True, kw_only=True)
class DistillSettings:
    """Stage 1: contrastive knowledge distillation (arXiv:2112.05638) or its MSE baseline."""

    loss: str = "ckd"
    """`ckd`: pick the teacher's row out of batch and bank. `mse`, `cosine`: come near it.
    `ckd+mse`: the sum. `kl`: match the teacher's own softmax over batch and bank."""
    mse_raw: bool = False
    """Whether the squared error is taken on un-normalised rows, as in the published code."""
    epochs: int = 1
    """Passes over the corpus."""
    max_steps: int | None = None
    """Stop after so many optimizer steps, the schedule ending there too; None runs all epochs."""
    batch_size: int = 128
    """Sentences in an optimizer step, for each process."""
    micro_batch_tokens: int | None = None
    """Most tokens, padding included, that go through the student at once; None takes the whole
    batch. The gradient is the same, the memory smaller."""
    bank_size: int = 65_536
    """Earlier teacher embeddings kept as further negatives; 0 keeps none."""
    bank: str = "shared"
    """`shared`: all processes choose among the teacher rows of the whole batch and one bank.
    `per-rank`: each knows its own rows only, as in the published code."""
    mask_same_text: bool = True
    """Whether other copies of a sentence's own teacher row in the bank are no negatives."""
    false_negative_cosine: float | None = None
    """Teacher rows whose cosine to the positive is larger are no negatives; None counts all."""
    lr: float = 1e-3
    """Highest learning rate of the schedule (linear warm-up, then cosine to zero)."""
    warmup_epochs: float = 0.1
    """Length of the warm-up, in epochs."""
    logit_scale: float = math.e
    """Cosines are multiplied by it (1 / temperature); the value training starts from."""
    learn_logit_scale: bool = True
    """Whether the scale's logarithm is trained along."""
    max_logit_scale: float = 100.0
    """The learned scale is clamped to [1 / this, this]."""
    max_length: int = 64
    """Most tokens of a training sentence, special tokens included."""
    grad_clip: float = 1.0
    """Largest norm of the gradient over student, projection and scale together."""
    num_held_out: int = 1000
    """Sentences kept out of training to score agreement with the teacher; at most a twentieth of the corpus."""
    dropout: bool = False
    """Whether the student trains with its configured dropout. Distillation does well without."""
    teacher_dropout: bool = False
    """Whether the teacher runs in the loop with its dropout on, as in the published code."""
    keep_projection: bool = False
    """Whether the student keeps its projection, and so lives in its teacher's space."""
    shuffle: bool = True
    """A new seeded order each epoch; False keeps the corpus order."""
    eval_every: int = 200
    """Steps between two development scores; 0 takes one at the end only."""
    patience: float | None = None
    """Stop after so many epochs without a better development score; None never stops early."""
    save_every: int = 500
    """Steps between two checkpoints; 0 saves only when interrupted and at the end."""
    tensorboard: bool = False
    """Whether to write TensorBoard's files too."""
    seed: int = 1111
    """Seeds the order of sentences, the projection's weights and dropout."""

    def __post_init__(self) -> None:
        _one_of("--loss", self.loss, LOSSES)
        _at_least("--epochs", self.epochs, 1)
        if self.max_steps is not None:
            _at_least("--max-steps", self.max_steps, 1)
        _at_least("--batch-size", self.batch_size, 1)
        if self.micro_batch_tokens is not None:
            _at_least("--micro-batch-tokens", self.micro_batch_tokens, 1)
        _at_least("--bank-size", self.bank_size, 0)
        _one_of("--bank", self.bank, BANKS)
        if self.false_negative_cosine is not None and not -1 <= self.false_negative_cosine <= 1:
            raise UsageError(f"--false-negative-cosine is {self.false_negative_cosine}, but must be within -1 and 1")
        _positive("--lr", self.lr)
        _at_least("--warmup-epochs", self.warmup_epochs, 0.0)
        _positive("--logit-scale", self.logit_scale)
        _positive("--max-logit-scale", self.max_logit_scale)
        _at_least("--max-length", self.max_length, 3)
        _positive("--grad-clip", self.grad_clip)
        _seed(self.seed)
        _at_least("--held-out", self.num_held_out, 0)
        _at_least("--eval-every", self.eval_every, 0)
        _at_least("--save-every", self.save_every, 0)
        if self.patience is not None:
            _positive("--patience", self.patience)
        if self.batch_size == 1 and self.bank_size == 0 and self.loss == "ckd":
            raise UsageError("--batch-size 1 with --bank-size 0 leaves ckd no negatives", hint="raise one of them")


@dataclass(frozen=True, kw_only=True)
class TripletSettings:
    """How the rows of a table become triples of anchor, positive and hard negative, or pairs without a negative."""

    columns: tuple[str, ...] | None = None
    """Names of the two or three columns; None looks for a known set of names, else goes by place."""
    header: bool | None = None
    """Whether the first row of a csv or tsv file names its columns; None decides by the names."""
    on_bad_line: str = "stop"
    """At a row of another width, with a blank cell or not in UTF-8: `stop` with its line, or `skip` and count it."""

    def __post_init__(self) -> None:
        _one_of("--on-bad-line", self.on_bad_line, ON_BAD_LINE)
        if self.columns is None:
            return
        if len(self.columns) not in (2, 3) or not all(self.columns) or len(set(self.columns)) < len(self.columns):
            raise UsageError(f"--columns is {','.join(self.columns)!r}, but must be two or three names")
        if self.header is False:
            raise UsageError("--columns needs the header that --no-header denies", hint="leave one of them out")


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """Stage 2: supervised contrastive fine-tuning on triples (as in SimCSE, arXiv:2104.08821)."""

    epochs: int = 1
    """Passes over the triples."""
    max_steps: int | None = None
    """Stop after so many optimizer steps, the schedule ending there too; None runs all epochs."""
    batch_size: int = 128
    """Triples in an optimizer step, for each process."""
    micro_batch_tokens: int | None = 16_384
    """Most tokens, padding included, that go through the student at once. A batch with more takes
    a second forward pass (gradient caching): the same gradient in less memory. None: never."""
    lr: float = 5e-5
    """Highest learning rate of the schedule (linear warm-up, then cosine to zero)."""
    warmup_epochs: float = 0.1
    """Length of the warm-up, in epochs."""
    logit_scale: float = 20.0
    """Cosines are multiplied by it (1 / temperature); the value training starts from."""
    learn_logit_scale: bool = True
    """Whether the scale is trained along."""
    exponential_scale: bool = False
    """Whether the scale's logarithm is what is trained, as in stage 1, rather than the scale itself."""
    max_logit_scale: float = 100.0
    """The learned scale is clamped to [1 / this, this]."""
    mask_same_text: bool = True
    """Whether keys with the text of a triple's own anchor or positive are no negatives to it."""
    keep_teacher: float = 0.0
    """Weight of 1 - cos between student and teacher, which keeps the student near its teacher; 0: no teacher."""
    max_length: int = 64
    """Most tokens of a sentence, special tokens included."""
    grad_clip: float = 1.0
    """Largest norm of the gradient over student and scale together."""
    num_held_out: int = 1000
    """Triples kept out of training to score the student on; at most a twentieth of them."""
    dropout: bool = False
    """Whether the student trains with its configured dropout."""
    shuffle: bool = True
    """A new seeded order each epoch; False keeps the order of the file."""
    eval_every: int = 100
    """Steps between two development scores; 0 takes one at the end only."""
    patience: float | None = None
    """Stop after so many epochs without a better development score; None never stops early."""
    save_every: int = 500
    """Steps between two checkpoints; 0 saves only when interrupted and at the end."""
    tensorboard: bool = False
    """Whether to write TensorBoard's files too."""
    seed: int = 1111
    """Seeds the order of triples and dropout."""

    def __post_init__(self) -> None:
        _at_least("--epochs", self.epochs, 1)
        if self.max_steps is not None:
            _at_least("--max-steps", self.max_steps, 1)
        _at_least("--batch-size", self.batch_size, 1)
        if self.micro_batch_tokens is not None:
            _at_least("--micro-batch-tokens", self.micro_batch_tokens, 1)
        _positive("--lr", self.lr)
        _at_least("--warmup-epochs", self.warmup_epochs, 0.0)
        _positive("--logit-scale", self.logit_scale)
        _positive("--max-logit-scale", self.max_logit_scale)
        _at_least("--keep-teacher", self.keep_teacher, 0.0)
        _at_least("--max-length", self.max_length, 3)
        _positive("--grad-clip", self.grad_clip)
        _at_least("--held-out", self.num_held_out, 0)
        _at_least("--eval-every", self.eval_every, 0)
        if self.patience is not None:
            _positive("--patience", self.patience)
        _at_least("--save-every", self.save_every, 0)
        _seed(self.seed)


def _at_least(name: str, value: float, least: float) -> None:
    if not (math.isfinite(value) and value >= least):
        raise UsageError(f"{name} is {value}, but must be at least {least}")


def _seed(value: int) -> None:
    if not 0 <= value < 2**32:  # NumPy takes no larger one
        raise UsageError(f"--seed is {value}, but must be at least 0 and below {2**32}")


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"{name} is {value}, but must be a positive number")


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"{name} is {value!r}, but must be one of {', '.join(choices)}")
