"""How embeddings are scored on SentEval, and where to the results go: checked before torch is imported."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distilcse_cli.config import EncodeSettings
from distilcse_cli.errors import UsageError

Mode = Literal["test", "dev", "fasttest"]
Aggregation = Literal["all", "mean", "wmean"]

MODES = ("test", "dev", "fasttest")
AGGREGATIONS = ("all", "mean", "wmean")
TASK_SETS = ("sts", "transfer", "full", "na")
STSB_TEXTS = ("tokenized", "raw")
OUT_FORMATS = ("senteval", "mteb")


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """What a score depends on besides the model, the data and the task; and how much goes through the model at once."""

    mode: str = "test"
    """`test`; `dev` reports development scores, with quick classifiers; `fasttest` is `test` with quick classifiers."""
    aggregation: str = "all"
    """How the subsets of STS12 to STS16 become one number."""
    stsb_text: str = "tokenized"
    """Which text of STSBenchmark: `tokenized` as in SentEval, or `raw`."""
    normalize: bool = False
    """Scale embeddings to length 1 first. Cosines stay the same, transfer scores do not."""
    exact_sequential: bool = False
    """Train the classifiers of the transfer tasks one after another, as SentEval does, not many at once."""
    overwrite: bool = False
    """Run again what earlier runs have scored."""
    max_length: int | None = None
    """Most tokens of a sentence, special tokens included; None takes the model's own limit."""
    batch_tokens: int | None = EncodeSettings.batch_tokens
    """Most tokens in a batch, padding included; None takes what suits the device."""

    def __post_init__(self) -> None:
        one_of("--mode", self.mode, MODES)
        one_of("--aggregation", self.aggregation, AGGREGATIONS)
        one_of("--stsb-text", self.stsb_text, STSB_TEXTS)
        self.encode_settings()

    def encode_settings(self) -> EncodeSettings:
        """The part that decides what embeddings come out of a model."""
        return EncodeSettings(
            batch_tokens=self.batch_tokens, max_length=self.max_length, normalize=self.normalize, dtype="float32"
        )


def one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Check a setting that has a few named values.

    Raises:
        UsageError: it is none of them.
    """
    if value not in choices:
        raise UsageError(f"{name} is {value!r}, but must be one of {', '.join(choices)}")


def check_out(out: Path | None, out_format: str, settings: EvalSettings) -> None:
    """Find out before anything is computed whether results can be written there and in that form.

    Raises:
        UsageError: they cannot.
    """
    one_of("--format", out_format, OUT_FORMATS)
    if out_format == "senteval":
        if out is not None and out.is_dir():
            raise UsageError(f"--out {out} is a folder", hint="name a file, or add --format mteb")
        return
    if out is None:
        raise UsageError("--format mteb needs --out", hint="--out names the folder for MTEB's files")
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file", hint="--format mteb writes a folder")
    if settings.aggregation != "all":
        raise UsageError(
            f"--format mteb does not go with --aggregation {settings.aggregation}",
            hint="MTEB correlates the pairs of all subsets together: --aggregation all",
        )
