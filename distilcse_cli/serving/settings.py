"""How rows are indexed, searched and aligned."""

from dataclasses import dataclass
from typing import Annotated

from distilcse_cli.config import EncodeSettings, MachineSettings
from distilcse_cli.errors import UsageError
from distilcse_cli.setting import DATA, KEEPING, MACHINE, OUTPUT, Setting, check, settings_of

FLAT_ROWS = 100_000
"""Up to this number, a query is compared with every row: exact, and fast enough."""


@dataclass(frozen=True, kw_only=True)
class OutputSettings:
    """What of the rows is written, into which files, and whether an interrupted run goes on."""

    truncate_dim: Annotated[
        int | None,
        Setting(
            "Keep the first N numbers of each embedding. If the model normalizes, they are scaled to length 1 again.",
            panel=OUTPUT,
            metavar="N",
            at_least=1,
        ),
    ] = None
    rows_per_file: Annotated[
        int | None,
        Setting(
            "Write files of N rows each: OUT-00000-of-00012.parquet and so on.",
            panel=OUTPUT,
            metavar="N",
            at_least=1,
        ),
    ] = None
    shard: Annotated[
        str | None,
        Setting(
            "Embed one of N parts of the rows, I from 0 to N-1; together the N jobs write all files of the output.",
            panel=OUTPUT,
            metavar="I/N",
        ),
    ] = None
    fail_on_truncate: Annotated[
        bool,
        Setting(
            "Stop before the first embedding if a line has too many tokens, and name it.",
            panel=DATA,
            option="--fail-on-truncate",
        ),
    ] = False
    resume: Annotated[
        bool,
        Setting(
            "Keep finished rows, so that the same command goes on after an interruption.",
            panel=KEEPING,
            option="--resume",
        ),
    ] = False

    def __post_init__(self) -> None:
        check(self)
        _ = self.share

    @property
    def share(self) -> tuple[int, int]:
        """Number of this job, from 0, and number of all jobs.

        Raises:
            UsageError: `shard` is something else.
        """
        number, _, total = ("0/1" if self.shard is None else self.shard).partition("/")
        if not (number.isdecimal() and total.isdecimal()) or int(number) >= int(total):
            message = f"--shard is {self.shard!r}, but must be I/N with I from 0 to N-1"
            raise UsageError(message, hint="such as 0/8 for the first of eight jobs, 7/8 for the last")
        return int(number), int(total)

    @property
    def reads_twice(self) -> bool:
        """Whether the inputs are read once before they are embedded."""
        return self.keeps or self.fail_on_truncate

    @property
    def keeps(self) -> bool:
        """Whether finished rows are kept when the run is interrupted."""
        return self.in_parts or self.resume

    @property
    def in_parts(self) -> bool:
        """Whether the output is a set of files with numbers in their names."""
        return self.rows_per_file is not None or self.shard is not None


@dataclass(frozen=True, kw_only=True)
class IndexSettings:
    """What kind of index, and where it is computed."""

    factory: Annotated[
        str | None,
        Setting(
            "Kind of index, in the words of FAISS' index_factory, such as HNSW32,Flat."
            f" Default: Flat up to {FLAT_ROWS:,} rows, IVF with 8-bit codes beyond.",
            panel=OUTPUT,
        ),
    ] = None
    device: Annotated[str, Setting("cpu; or cuda, cuda:N with faiss-gpu.", panel=MACHINE, metavar="DEVICE")] = "cpu"

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How an index is searched."""

    k: Annotated[int, Setting("Results of each query.", panel=OUTPUT, option="-k", at_least=1)] = 10
    nprobe: Annotated[
        int | None,
        Setting(
            "Lists of the index to look into: more find more, and take longer. Default: what distilcse index chose.",
            panel=OUTPUT,
            at_least=1,
        ),
    ] = None
    max_length: Annotated[int | None, settings_of(EncodeSettings)["max_length"]] = None

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, kw_only=True)
class AlignSettings:
    """Which rows of a store the map is fitted to, and which others judge it."""

    sentences: Annotated[int, Setting("Sentences of the store to fit the map on.", panel=DATA, at_least=20)] = 400
    held_out: Annotated[int, Setting("Other sentences of the store, to judge the map by.", panel=DATA, at_least=20)] = (
        1000
    )
    seed: Annotated[int, Setting("Decides which sentences these are.", panel=DATA, at_least=0)] = 42

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, kw_only=True)
class QueryMachine:
    """Where a model computes that embeds few sentences."""

    device: Annotated[str | None, settings_of(MachineSettings)["device"]] = None
    compute_dtype: Annotated[str, settings_of(MachineSettings)["compute_dtype"]] = "auto"

    def __post_init__(self) -> None:
        check(self)
