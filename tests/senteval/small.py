"""Small tasks in SentEval's own file layout, and encoders that need no model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from senteval.tasks import Part, SplitSpec, Task, find_task

Pair = tuple[str, str, float]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def letter_counts(sentences: Sequence[str]) -> np.ndarray:
    """(N, 27) how often each letter occurs, and a 1 so that no embedding is zero."""
    return np.array(
        [[1, *(sentence.lower().count(letter) for letter in LETTERS)] for sentence in sentences], np.float32
    )


def resized(name: str, **sizes: Sequence[int]) -> Task:
    """A task of the table as it would be if its files held these numbers of rows, part by part."""
    task = find_task(name)
    splits = tuple(
        SplitSpec(
            split.name,
            tuple(Part(part.files, size, part.read) for part, size in zip(split.parts, sizes[split.name], strict=True)),
        )
        for split in task.splits
        if split.name in sizes
    )
    return Task(**{**vars(task), "splits": splits, "test_splits": tuple(s for s in task.test_splits if s in sizes)})


def write_sts(data: Path, subsets: Mapping[str, Sequence[Pair]]) -> Task:
    """Write STS16 with these of its subsets."""
    task = resized("STS16", **{name: [len(pairs)] for name, pairs in subsets.items()})
    for split in task.splits:
        sentences, gold = (data / file for file in split.parts[0].files)
        sentences.parent.mkdir(parents=True, exist_ok=True)
        pairs = subsets[split.name]
        sentences.write_text("".join(f"{a}\t{b}\n" for a, b, _ in pairs), encoding="utf-8")
        gold.write_text("".join(f"{score}\n" for *_, score in pairs), encoding="utf-8")
    return task


def write_sick(data: Path, pairs: Mapping[str, Sequence[Pair]], name: str = "SICKRelatedness") -> Task:
    """Write SICK, everything neutral."""
    task = resized(name, **{split: [len(rows)] for split, rows in pairs.items()})
    for split in task.splits:
        file = data / split.parts[0].files[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = "".join(f"{n}\t{a}\t{b}\t{score}\tNEUTRAL\n" for n, (a, b, score) in enumerate(pairs[split.name]))
        file.write_text(
            "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n" + rows, encoding="utf-8"
        )
    return task


def write_mrpc(data: Path, **pairs: Sequence[Pair]) -> Task:
    """Write MRPC."""
    task = resized("MRPC", **{split: [len(rows)] for split, rows in pairs.items()})
    for split in task.splits:
        file = data / split.parts[0].files[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = "".join(f"{label:.0f}\t0\t0\t{a}\t{b}\n" for a, b, label in pairs[split.name])
        file.write_text("\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n" + rows, encoding="utf-8")
    return task


def write_lines(data: Path, name: str, **lines: Sequence[Sequence[str]]) -> Task:
    """Write a task's files line by line: for each split the lines of each of its parts."""
    task = resized(name, **{split: [len(part) for part in parts] for split, parts in lines.items()})
    for split in task.splits:
        for part, rows in zip(split.parts, lines[split.name], strict=True):
            file = data / part.files[0]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{row}\n" for row in rows), encoding="latin-1")
    return task
