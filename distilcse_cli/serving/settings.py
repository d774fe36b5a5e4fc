"""How rows are indexed, searched and aligned."""

from dataclasses import dataclass
from typing import Annotated

from distilcse_cli.config import EncodeSettings, MachineSettings
from distilcse_cli.errors import UsageError
from distilcse_cli.setting import DATA, MACHINE, OUTPUT, Setting, check, settings_of

MIN_COSINE = 0.97
"""Least cosine of an embedding by 8-bit integers to the one by floats."""
FLAT_ROWS = 100_000
"""Up to this number, a query is compared with every row: exact, and fast enough."""


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


@dataclass(frozen=True, kw_only=True)
class OnnxSettings:
    """Which graphs are written, and how close they must be."""

    int8: Annotated[
        bool,
        Setting("Also a graph of 8-bit integers, onnx/model_quantized.onnx.", panel=OUTPUT, option="--int8"),
    ] = False
    min_cosine: Annotated[
        float | None,
        Setting(
            f"For --int8: the least cosine to torch's embedding that a sentence may have. Default: {MIN_COSINE}.",
            panel=OUTPUT,
            at_least=-1,
            at_most=1,
        ),
    ] = None

    def __post_init__(self) -> None:
        check(self)
        if self.min_cosine is not None and not self.int8:
            raise UsageError("--min-cosine goes with --int8 only", hint="leave it out")
