"""A model as the user names it: one object, checked when it is made, loaded once."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from distilcse_cli.config import POOLINGS
from distilcse_cli.errors import UsageError

if TYPE_CHECKING:
    from distilcse_cli.models.encoder import SentenceEncoder


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """A reference to a model, and all that the user says about how to load it. Importing this loads no torch."""

    ref: str
    """Local folder, catalogue name, hub id, or file of weights."""
    pooler: str | None = None
    """One of `config.POOLINGS`; None takes the folder's own, else `cls`."""
    revision: str | None = None
    """Branch, tag or commit of a hub model."""
    base: str | None = None
    """For a file of weights: the model it was trained from."""
    tokenizer: str | None = None
    """For a file of weights: the model whose tokenizer it has."""
    keep_layers: tuple[int, ...] | None = None
    """Numbers of the layers to keep, in increasing order; None keeps all."""

    def __post_init__(self) -> None:
        if self.pooler is not None and self.pooler not in POOLINGS:
            raise UsageError(f"unknown pooling {self.pooler!r}", hint=f"one of {', '.join(POOLINGS)}")

    def load(self, *, max_length: int | None = None) -> "SentenceEncoder":
        """Load the encoder: fp32, eval mode, on the CPU.

        Args:
            max_length: most tokens of a sentence; None takes the model's own limit.

        Raises:
            DistilCSEError: as from `load_encoder`.
        """
        from distilcse_cli.models.encoder import load_encoder

        return load_encoder(
            self.ref,
            pooler=self.pooler,
            revision=self.revision,
            keep_layers=self.keep_layers,
            max_length=max_length,
            base=self.base,
            tokenizer=self.tokenizer,
        )
