"""Settings of an evaluation and of its output file, checked before torch is imported."""

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from distilcse_cli.config import EncodeSettings, MachineSettings
from distilcse_cli.errors import UsageError
from distilcse_cli.paths import mode_of
from distilcse_cli.setting import DATA, KEEPING, MACHINE, Setting, check, settings_of

Mode = Literal["test", "dev", "fasttest"]
Aggregation = Literal["all", "mean", "wmean"]

MODES = ("test", "dev", "fasttest")
AGGREGATIONS = ("all", "mean", "wmean")
TASK_SETS = ("sts", "transfer", "full", "na")
STSB_TEXTS = ("tokenized", "raw")
OUT_FORMATS = ("senteval", "mteb")


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """What a score depends on besides the model, the data and the task; and the size of the batches."""

    mode: Annotated[
        str,
        Setting(
            "test; dev: development scores, with quick classifiers; fasttest: test with quick classifiers.",
            choices=MODES,
        ),
    ] = "test"
    aggregation: Annotated[
        str, Setting("How the subsets of STS12 to STS16 become one number.", choices=AGGREGATIONS)
    ] = "all"
    stsb_text: Annotated[
        str, Setting("Text of STSBenchmark: tokenized as in SentEval, or raw.", panel=DATA, choices=STSB_TEXTS)
    ] = "tokenized"
    normalize: Annotated[
        bool,
        Setting(
            "Scale embeddings to length 1 first. Cosines stay the same, transfer scores do not.", option="--normalize"
        ),
    ] = False
    exact_sequential: Annotated[
        bool,
        Setting(
            "Train the classifiers of the transfer tasks one by one, as SentEval does. Slow.",
            option="--exact-sequential",
        ),
    ] = False
    overwrite: Annotated[
        bool,
        Setting(
            "Score again what earlier runs have scored, and replace another model's MTEB files.",
            panel=KEEPING,
            option="--overwrite",
        ),
    ] = False
    max_length: Annotated[int | None, settings_of(EncodeSettings)["max_length"]] = None
    batch_tokens: Annotated[int | None, settings_of(EncodeSettings)["batch_tokens"]] = None

    def __post_init__(self) -> None:
        check(self)

    def encode_settings(self) -> EncodeSettings:
        """The settings that the embeddings depend on."""
        return EncodeSettings(
            batch_tokens=self.batch_tokens, max_length=self.max_length, normalize=self.normalize, dtype="float32"
        )


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """How students are compared with their teacher without labels."""

    num_queries: Annotated[
        int, Setting("Sentences, drawn by the seed, whose neighbours among all others are compared.", at_least=3)
    ] = 2000
    num_pairs: Annotated[
        int, Setting("Random pairs of sentences whose cosines are compared, beside the near ones.", at_least=2)
    ] = 20_000
    seed: Annotated[int, Setting("Seed of what is drawn.", at_least=0)] = 0
    price_per_hour: Annotated[
        float | None,
        Setting("Price of an hour of this machine; shows what a million sentences cost.", panel=MACHINE, positive=True),
    ] = None
    memory: Annotated[
        bool,
        Setting(
            "Measure each model's peak memory, in a process of its own.", panel=MACHINE, option="--memory/--no-memory"
        ),
    ] = True
    device: Annotated[str | None, settings_of(MachineSettings)["device"]] = None
    compute_dtype: Annotated[str, settings_of(MachineSettings)["compute_dtype"]] = "auto"

    def __post_init__(self) -> None:
        check(self)


def one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Check a setting that has a few named values.

    Raises:
        UsageError: it is none of them.
    """
    if value not in choices:
        raise UsageError(f"{name} is {value!r}, but must be one of {', '.join(choices)}")


def check_out(out: Path | None, out_format: str, settings: EvalSettings) -> None:
    """Check before anything is computed that results can be written to `out` in that form.

    Raises:
        UsageError: they cannot.
        DataError: `out` is a link that leads nowhere, or no name of a file.
    """
    one_of("--format", out_format, OUT_FORMATS)
    mode = None if out is None else mode_of(out)
    is_folder = mode is not None and stat.S_ISDIR(mode)
    if out_format == "senteval":
        if is_folder:
            raise UsageError(f"--out {out} is a folder", hint="name a file, or add --format mteb")
        return
    if out is None:
        raise UsageError("--format mteb needs --out", hint="--out names the folder for MTEB's files")
    if mode is not None and not is_folder:
        raise UsageError(f"--out {out} is a file", hint="--format mteb writes a folder")
    if settings.aggregation != "all":
        raise UsageError(
            f"--format mteb does not go with --aggregation {settings.aggregation}",
            hint="MTEB correlates the pairs of all subsets together: --aggregation all",
        )
