"""Settings of both training stages, checked before torch is imported."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from distilcse_cli.config import SAVE_DTYPES
from distilcse_cli.errors import UsageError
from distilcse_cli.setting import DATA, KEEPING, MACHINE, MODELS, OUTPUT, SCHEDULE, Setting, check

LOSSES = ("ckd", "mse", "ckd+mse", "cosine", "kl")
CONTRASTIVE_LOSSES = ("ckd", "ckd+mse", "kl")
"""Losses that choose among the teacher rows of batch and bank, and so need at least two of them."""
NEGATIVES = (
    *("bank_size", "bank", "false_negative_cosine", "mask_same_text"),
    *("logit_scale", "learn_logit_scale"),
)
"""Settings of stage 1 that only these losses read."""
BANKS = ("shared", "per-rank")
SPACES = ("own", "teacher")
RATES = {0: 5e-3, 1: 1e-3, 2: 1e-3, None: 5e-4}
"""Learning rate of stage 1 by the number of layers kept; None: all other students. docs/results.md has the runs."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What both stages share. Subclasses give the defaults that differ."""

    epochs: Annotated[int, Setting("Passes over the data.", panel=SCHEDULE, at_least=1)] = 1
    max_steps: Annotated[
        int | None,
        Setting("Stop after that many optimizer steps; the schedule ends there too.", panel=SCHEDULE, at_least=1),
    ] = None
    batch_size: Annotated[
        int,
        Setting("Sentences (in stage 2: triples) of an optimizer step, for each process.", panel=SCHEDULE, at_least=1),
    ] = 128
    micro_batch_tokens: Annotated[
        int | None,
        Setting(
            "Most tokens through the student at once, padding included: the same gradient in less memory.",
            panel=MACHINE,
            at_least=1,
        ),
    ] = None
    mask_same_text: Annotated[
        bool,
        Setting(
            "Do not count other copies of a sentence's own positive as negatives.",
            option="--mask-same-text/--no-mask-same-text",
        ),
    ] = True
    lr: Annotated[
        float | None,
        Setting(
            "Highest learning rate: a linear warm-up leads to it, a cosine from it to 0. In stage 1, default: 0.0005;"
            " 0.001 for a student cut to one or two layers, 0.005 for one cut to none.",
            panel=SCHEDULE,
            positive=True,
        ),
    ]
    warmup_epochs: Annotated[float, Setting("Length of the warm-up, in epochs.", panel=SCHEDULE, at_least=0.0)] = 0.1
    logit_scale: Annotated[
        float,
        Setting("Cosines are multiplied by it (1 / temperature). The value training starts from.", positive=True),
    ]
    learn_logit_scale: Annotated[
        bool, Setting("Train the logit scale, too.", option="--learn-logit-scale/--fix-logit-scale")
    ] = True
    max_logit_scale: Annotated[
        float, Setting("The learned scale is clamped to [1 / this, this].", positive=True, internal=True)
    ] = 100.0
    max_length: Annotated[
        int, Setting("Cut training sentences to that many tokens, special tokens included.", panel=DATA, at_least=3)
    ] = 64
    grad_clip: Annotated[
        float, Setting("Largest norm of the gradient over all that is trained.", panel=SCHEDULE, positive=True)
    ] = 1.0
    num_held_out: Annotated[
        int,
        Setting(
            "Sentences (in stage 2: triples) kept out of training to score the student on; at most a twentieth.",
            panel=DATA,
            option="--held-out",
            at_least=0,
        ),
    ] = 1000
    dropout: Annotated[
        bool, Setting("Train with the student's own dropout.", panel=SCHEDULE, option="--dropout/--no-dropout")
    ] = False
    shuffle: Annotated[
        bool,
        Setting("A new seeded order each epoch; False keeps the order of the data.", panel=SCHEDULE, internal=True),
    ] = True
    eval_every: Annotated[
        int,
        Setting("Steps between two development scores; 0 takes one at the end only.", panel=KEEPING, at_least=0),
    ]
    patience: Annotated[
        float | None,
        Setting("Stop after that many epochs without a better development score.", panel=KEEPING, positive=True),
    ] = None
    save_every: Annotated[
        int,
        Setting(
            "Steps between two checkpoints; 0 saves only when interrupted and at the end.", panel=KEEPING, at_least=0
        ),
    ] = 500
    tensorboard: Annotated[
        bool,
        Setting("Write TensorBoard files, too: in OUT.run, at the end in OUT.", panel=OUTPUT, option="--tensorboard"),
    ] = False
    save_dtype: Annotated[
        str,
        Setting(
            "Number format of the weights on disk; checkpoints keep all digits. Computing is as with float32.",
            panel=OUTPUT,
            choices=SAVE_DTYPES,
        ),
    ] = "float32"
    seed: Annotated[
        int,
        # NumPy takes no larger one
        Setting("Seeds the order of the data, new weights and dropout.", panel=SCHEDULE, at_least=0, at_most=2**32 - 1),
    ] = 1111

    @property
    def rate(self) -> float:
        """The highest learning rate."""
        return RATES[None] if self.lr is None else self.lr

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, kw_only=True)
class DistillSettings(TrainSettings):
    """Stage 1: come near the teacher's rows, or contrastive knowledge distillation (arXiv:2112.05638)."""

    loss: Annotated[
        str,
        Setting(
            "What the student learns. mse, cosine: come near the teacher's row; ckd: pick it out of batch and bank;"
            " ckd+mse: both; kl: match the teacher's own softmax over batch and bank.",
            choices=LOSSES,
        ),
    ] = "mse"
    mse_raw: Annotated[
        bool, Setting("Take the squared error of un-normalized rows, as the published code does.", internal=True)
    ] = False
    bank_size: Annotated[
        int, Setting("Earlier teacher embeddings kept as further negatives; 0 keeps none.", at_least=0)
    ] = 65_536
    bank: Annotated[
        str,
        Setting(
            "shared: all processes choose among the teacher rows of the whole batch and one bank."
            " per-rank: each among its own, as in the published code.",
            choices=BANKS,
        ),
    ] = "shared"
    false_negative_cosine: Annotated[
        float | None,
        Setting(
            "Do not count teacher rows as negatives whose cosine to the positive is larger.", at_least=-1, at_most=1
        ),
    ] = None
    teacher_dropout: Annotated[
        bool,
        Setting(
            "Run the teacher in the loop with its dropout on, as in the published code.", option="--teacher-dropout"
        ),
    ] = False
    vocab_size: Annotated[
        int | None,
        Setting(
            "Cut the student's vocabulary to that many entries: those that the corpus uses most, and all that a text"
            " falls back on. Default: keep it.",
            panel=MODELS,
            at_least=1,
        ),
    ] = None
    layers: Annotated[
        int | None,
        Setting(
            "Cut the student to that many layers: those whose vectors come nearest to the teacher's."
            " 0: to a table of token vectors.",
            panel=MODELS,
            at_least=0,
        ),
    ] = None
    space: Annotated[
        str,
        Setting(
            "Where the student's vectors live. own: a projection to the teacher's width is dropped after training."
            " teacher: it is kept, and the vectors can be compared with the teacher's.",
            choices=SPACES,
        ),
    ] = "own"
    batch_size: int = 64
    lr: float | None = None
    logit_scale: float = math.e
    eval_every: int = 400

    def with_rate(self, num_layers: int | None) -> "DistillSettings":
        """The same settings with a learning rate: the fewer layers are kept, the further they have to move.

        Args:
            num_layers: how many layers the student is cut to; None keeps them all.
        """
        if self.lr is not None:
            return self
        return replace(self, lr=RATES.get(num_layers, RATES[None]))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size == 1 and self.bank_size == 0 and self.loss in CONTRASTIVE_LOSSES:
            raise UsageError(
                f"--batch-size 1 with --bank-size 0 leaves {self.loss} no negatives", hint="raise one of them"
            )


def require_one_choice(layers: int | None, keep_layers: Sequence[object] | None) -> None:
    """Check that the layers of a student are not both named and to be chosen.

    Raises:
        UsageError: they are.
    """
    if layers is not None and keep_layers is not None:
        raise UsageError("--layers chooses the layers that --keep-layers names", hint="leave one of the two out")


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(TrainSettings):
    """Stage 2: supervised contrastive fine-tuning on triples (as in SimCSE, arXiv:2104.08821)."""

    exponential_scale: Annotated[
        bool,
        Setting("Train the scale's logarithm, as stage 1 does, not the scale itself.", option="--exponential-scale"),
    ] = False
    keep_teacher: Annotated[
        float,
        Setting("Keep the student near --teacher: weight of 1 - cos to it.", metavar="WEIGHT", at_least=0.0),
    ] = 0.0
    micro_batch_tokens: int | None = 16_384
    lr: float = 5e-5
    logit_scale: float = 20.0
    eval_every: int = 100
