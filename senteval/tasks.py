"""All tasks as data: files, numbers of rows, protocol, citation.

To add a task, add an entry to `_ALL_TASKS`. Paths are relative to the data folder, which holds
`downstream/`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Literal

from senteval import readers
from senteval.errors import UsageError
from senteval.readers import Reader

Kind = Literal["sts", "inner_kfold", "kfold", "split", "regressor"]


@dataclass(frozen=True)
class Part:
    """Files that are read together, their number of rows, and their reader."""

    files: tuple[str, ...]
    size: int
    read: Reader


@dataclass(frozen=True)
class SplitSpec:
    """A named split of a task: a subset of STS12 to STS16, or train, dev, test."""

    name: str
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """Number of rows."""
        return sum(part.size for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of SentEval."""

    name: str
    """As in the papers' tables and in SentEval's code."""
    kind: Kind
    """`sts`: correlation of cosines; nothing is trained. `inner_kfold`, `kfold`, `split`: SentEval's three ways to
    validate a classifier. `regressor`: SentEval's trained relatedness model."""
    splits: tuple[SplitSpec, ...]
    """In SentEval's order."""
    citation: str
    num_classes: int = 0
    """Classes of a classification task; 0 for the others."""
    test_splits: tuple[str, ...] = ("test",)
    """Splits of the `test` and `fasttest` scores of an `sts` task."""
    dev_splits: tuple[str, ...] = ()
    """Splits of its `dev` score; none if the task has no development set."""
    sort_rows: bool = True
    """Whether SentEval sorts the rows by length before it encodes them; else they keep the order of the file."""


def _sts(year: int, citation: str, **subsets: int) -> Task:
    folder = f"downstream/STS/STS{year}-en-test"
    splits = tuple(
        SplitSpec(
            name, (Part((f"{folder}/STS.input.{name}.txt", f"{folder}/STS.gs.{name}.txt"), size, readers.read_sts),)
        )
        for name, size in subsets.items()
    )
    return Task(name=f"STS{year}", kind="sts", splits=splits, citation=citation, test_splits=tuple(subsets))


def _files(read: Reader, folder: str, **sizes: tuple[str, int]) -> tuple[SplitSpec, ...]:
    return tuple(SplitSpec(name, (Part((f"{folder}/{file}",), size, read),)) for name, (file, size) in sizes.items())


def _binary(name: str, citation: str, positive: tuple[str, int], negative: tuple[str, int]) -> Task:
    parts = tuple(
        Part((f"downstream/{name}/{file}",), size, partial(readers.read_one_class, label=label))
        for label, (file, size) in ((1, positive), (0, negative))
    )
    return Task(
        name=name,
        kind="inner_kfold",
        splits=(SplitSpec("all", parts),),
        citation=citation,
        num_classes=2,
    )


def _sick(read: Reader) -> tuple[SplitSpec, ...]:
    return _files(
        read,
        "downstream/SICK",
        train=("SICK_train.txt", 4500),
        dev=("SICK_trial.txt", 500),
        test=("SICK_test_annotated.txt", 4927),
    )


def _sts_benchmark(folder: str) -> tuple[SplitSpec, ...]:
    files = {"train": ("sts-train.csv", 5749), "dev": ("sts-dev.csv", 1500), "test": ("sts-test.csv", 1379)}
    return _files(readers.read_sts_benchmark, folder, **files)


def _sst(name: str, read: Reader, folder: str, num_classes: int, train: int, dev: int, test: int) -> Task:
    splits = _files(
        read,
        f"downstream/SST/{folder}",
        train=("sentiment-train", train),
        dev=("sentiment-dev", dev),
        test=("sentiment-test", test),
    )
    return Task(name=name, kind="split", splits=splits, citation=_SST, num_classes=num_classes)


_STSB = "Cer et al. 2017, SemEval-2017 Task 1"
_SICK = "Marelli et al. 2014, A SICK cure for the evaluation of compositional distributional semantic models"
_SST = "Socher et al. 2013, Recursive deep models for semantic compositionality over a sentiment treebank"
_SICK_PARTS = tuple(part for split in _sick(readers.read_sick_relatedness) for part in split.parts)
_ALL_TASKS = (
    _sts(
        12,
        "Agirre et al. 2012, SemEval-2012 Task 6",
        **{"MSRpar": 750, "MSRvid": 750, "SMTeuroparl": 459, "surprise.OnWN": 750, "surprise.SMTnews": 399},
    ),
    # without SMT, whose sentences may not be redistributed
    _sts(13, "Agirre et al. 2013, *SEM 2013 shared task", FNWN=189, headlines=750, OnWN=561),
    _sts(
        14,
        "Agirre et al. 2014, SemEval-2014 Task 10",
        **{"deft-forum": 450, "deft-news": 300, "headlines": 750, "images": 750, "OnWN": 750, "tweet-news": 750},
    ),
    _sts(
        15,
        "Agirre et al. 2015, SemEval-2015 Task 2",
        **{"answers-forums": 375, "answers-students": 750, "belief": 375, "headlines": 750, "images": 750},
    ),
    _sts(
        16,
        "Agirre et al. 2016, SemEval-2016 Task 1",
        **{"answer-answer": 254, "headlines": 249, "plagiarism": 230, "postediting": 244, "question-question": 209},
    ),
    Task(
        name="STSBenchmark",
        kind="sts",
        splits=_sts_benchmark("downstream/STS/STSBenchmark"),
        citation=_STSB,
        dev_splits=("dev",),
        sort_rows=False,
    ),
    Task(
        name="SICKRelatedness",
        kind="sts",
        splits=_sick(readers.read_sick_relatedness),
        citation=_SICK,
        dev_splits=("dev",),
        sort_rows=False,
    ),
    _binary("MR", "Pang and Lee 2005, Seeing stars", ("rt-polarity.pos", 5331), ("rt-polarity.neg", 5331)),
    _binary(
        "CR", "Hu and Liu 2004, Mining and summarizing customer reviews", ("custrev.pos", 2407), ("custrev.neg", 1368)
    ),
    _binary("SUBJ", "Pang and Lee 2004, A sentimental education", ("subj.objective", 5000), ("subj.subjective", 5000)),
    _binary(
        "MPQA",
        "Wiebe et al. 2005, Annotating expressions of opinions and emotions in language",
        ("mpqa.pos", 3312),
        ("mpqa.neg", 7294),
    ),
    _sst("SST2", readers.read_sst2, "binary", 2, train=67349, dev=872, test=1821),
    Task(
        name="TREC",
        kind="kfold",
        splits=_files(
            readers.read_trec, "downstream/TREC", train=("train_5500.label", 5452), test=("TREC_10.label", 500)
        ),
        citation="Li and Roth 2002, Learning question classifiers",
        num_classes=6,
    ),
    Task(
        name="MRPC",
        kind="kfold",
        splits=_files(
            readers.read_mrpc,
            "downstream/MRPC",
            train=("msr_paraphrase_train.txt", 4076),
            test=("msr_paraphrase_test.txt", 1725),
        ),
        citation="Dolan et al. 2004, Unsupervised construction of large paraphrase corpora",
        num_classes=2,
    ),
    _sst("SST5", readers.read_sst5, "fine", 5, train=8544, dev=1101, test=2210),
    Task(
        name="SICKEntailment",
        kind="split",
        splits=_sick(readers.read_sick_entailment),
        citation=_SICK,
        num_classes=3,
    ),
    Task(
        name="STSBenchmark-finetune",
        kind="regressor",
        splits=_sts_benchmark("downstream/STS/STSBenchmark"),
        citation=_STSB,
    ),
    Task(
        name="SICKRelatedness-finetune",
        kind="regressor",
        splits=_sick(readers.read_sick_relatedness),
        citation=_SICK,
    ),
    Task(
        name="STSBenchmark-raw",
        kind="sts",
        splits=_sts_benchmark("variants/STSBenchmark-untokenised"),
        citation=_STSB,
        dev_splits=("dev",),
        sort_rows=False,
    ),
    Task(name="MTEB-SICK-R", kind="sts", splits=(SplitSpec("test", _SICK_PARTS),), citation=_SICK),
)

TASKS = {task.name: task for task in _ALL_TASKS}
STS_TASKS = ("STS12", "STS13", "STS14", "STS15", "STS16", "STSBenchmark", "SICKRelatedness")
TRANSFER_TASKS = ("MR", "CR", "SUBJ", "MPQA", "SST2", "TREC", "MRPC")
TASK_SETS = {"sts": STS_TASKS, "transfer": TRANSFER_TASKS, "full": (*STS_TASKS, *TRANSFER_TASKS)}


def find_task(name: str) -> Task:
    """Return the task of that name.

    Raises:
        UsageError: there is none; the hint names the closest one.
    """
    if name in TASKS:
        return TASKS[name]
    by_lower_case = {known.lower(): known for known in TASKS}
    close = get_close_matches(name.lower(), by_lower_case, n=1)
    hint = f"did you mean {by_lower_case[close[0]]}?" if close else f"one of {', '.join(TASKS)}"
    raise UsageError(f"there is no task {name!r}", hint=hint)


def resolve_tasks(names: str | Iterable[str]) -> tuple[Task, ...]:
    """Return the tasks that names of tasks and task sets stand for, each once, in the given order.

    Raises:
        UsageError: a name is unknown, or there are no names.
    """
    wanted: dict[str, Task] = {}
    for name in [names] if isinstance(names, str) else names:
        for member in TASK_SETS.get(name, (name,)):
            wanted[member] = find_task(member)
    if not wanted:
        raise UsageError("no task was named", hint=f"one of {', '.join((*TASK_SETS, *TASKS))}")
    return tuple(wanted.values())
