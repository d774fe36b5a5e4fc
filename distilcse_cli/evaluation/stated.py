"""Speeds of devices that are not at hand: figures measured once, and how they are scaled to other models.

All of all-MiniLM-L6-v2, a student of three of its layers, and sentences of 23 tokens (half news, half captions).
"""

from dataclasses import dataclass

from distilcse_cli.evaluation.costs import ModelSize
from distilcse_cli.evaluation.pace import Pace
from distilcse_cli.training.settings import CONTRASTIVE_LOSSES, DistillSettings, FinetuneSettings

_TOKENS = 23.4
"""Of the sentences that the figures were measured with."""
_LINEAR = 1_769_472
"""Weights of a layer of all-MiniLM that each token is multiplied with."""


@dataclass(frozen=True, kw_only=True)
class Stated:
    """One device. Speeds are sentences per second in bf16, after warm-up."""

    name: str
    encode: float
    extract: float
    forward: float
    """The forward pass alone, in batches of `forward_tokens` tokens a sentence."""
    forward_tokens: int
    train: tuple[int, float]
    """Batch size and speed of `mse` where launching kernels, not computing, takes the time of a step."""
    train_large: float
    """Speed where computing does."""
    bank: tuple[int, float]
    """Batch size and speed of `ckd` with a bank of 65,536."""
    start: float
    """Seconds of a command beside its work."""

    def __str__(self) -> str:
        batch_size, train = self.train
        return (
            f"stated, not measured here, of {self.name} with all-MiniLM-L6-v2 and sentences of {_TOKENS} tokens:"
            f" encoding {self.encode:,.0f} sentences/s, extract {self.extract:,.0f}, training three layers with mse and"
            f" batch {batch_size} {train:,.0f}, with batch 2,048 {self.train_large:,.0f}. Scaled by tokens a sentence;"
            " the share that is arithmetic also by FLOPs a token, and a step's launches by layers"
        )


STATED = {
    "h200": Stated(
        name="one NVIDIA H200 with 16 cores",
        encode=34_415,
        extract=27_294,
        forward=192_833,
        forward_tokens=32,
        train=(128, 8_722),
        train_large=75_048,
        bank=(1024, 15_690),
        start=20.0,
    )
}


def stated_pace(device: str, teacher: ModelSize, student: ModelSize, settings: DistillSettings, length: float) -> Pace:
    """The pace of a device of `STATED`.

    Args:
        device: its key.
        teacher, student: as `costs.size_of` gives them.
        settings: of stage 1.
        length: mean characters of a sentence.
    """
    figures = STATED[device]
    seconds_per_flop = 1 / figures.forward / (figures.forward_tokens * 2 * 6 * _LINEAR)
    arithmetic = seconds_per_flop * _TOKENS * 2 * 6 * _LINEAR

    def encoding(model: ModelSize, speed: float) -> float:
        host = (1 / speed - arithmetic) / _TOKENS * model.mean_tokens
        return host + model.flops_per_sentence * seconds_per_flop

    def step(batch_size: int, bank: float) -> float:
        """Seconds for each of its sentences."""
        compute = student.flops_per_sentence / (_TOKENS * 2 * 3 * _LINEAR) / figures.train_large
        launches = figures.train[0] / figures.train[1] * max(1, student.num_layers) / 3
        return max(launches / batch_size, compute + bank)

    _, speed = figures.bank
    scores = (1 / speed - 1 / figures.train_large) / 65_536 / 384  # a number of the bank, for each sentence
    bank_size = settings.bank_size if settings.loss in CONTRASTIVE_LOSSES else 0
    training = step(settings.batch_size, 0.0)
    return Pace(
        teacher=encoding(teacher, figures.extract),
        student=encoding(student, figures.encode),
        training=training,
        bank=step(settings.batch_size, scores * bank_size * teacher.width) - training,
        bank_size=max(1, bank_size),
        loading=figures.start,
        length=length,
        settings=settings,
        triple=3 * step(3 * FinetuneSettings().batch_size, 0.0),
    )
