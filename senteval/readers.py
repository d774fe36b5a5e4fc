"""Readers of SentEval's file formats, each with its quirks.

A reader takes the files of one part of a split and returns its rows in file order. A sentence is
its tokens joined by single spaces, as in SentEval. A line without tokens is an empty sentence and
counts as a row. Lines end where they end in SentEval: `str.splitlines` cuts the STS and the
one-sentence-a-line files, so form feeds and Unicode separators end a line too. In the other files,
only line feeds and carriage returns do.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from senteval.errors import DataError

TREC_CLASSES = {"ABBR": 0, "DESC": 1, "ENTY": 2, "HUM": 3, "LOC": 4, "NUM": 5}
ENTAILMENT_CLASSES = {"CONTRADICTION": 0, "NEUTRAL": 1, "ENTAILMENT": 2}

T = TypeVar("T")


@dataclass(frozen=True)
class Rows:
    """Rows of one part of a split, in file order."""

    sentences: list[str]
    """The sentences, or the first sentences of the pairs."""
    partners: list[str] | None
    """The second sentences of the pairs; None for single sentences."""
    labels: list[float]
    """One gold score or class number for each row."""


Reader = Callable[[Sequence[Path]], Rows]


def read_sts(files: Sequence[Path]) -> Rows:
    """STS12 to STS16: tab-separated pairs in one file, gold scores in the other, line by line.

    A pair whose gold line is empty was not annotated and is dropped (STS15 and STS16).
    """
    pairs_file, gold_file = files
    pairs, gold = _text(pairs_file, "utf-8").splitlines(), _text(gold_file, "utf-8").splitlines()
    if len(pairs) != len(gold):
        raise DataError(
            f"{pairs_file} has {len(pairs)} lines and {gold_file} has {len(gold)}, but both need the same number",
            files=files,
        )
    scores = _each(gold_file, gold, lambda line: _score(line) if line.strip() else None)
    sentences, partners, labels = [], [], []
    for number, (line, score) in enumerate(zip(pairs, scores, strict=True)):
        if score is None:
            continue
        fields = line.split("\t")
        if len(fields) < 2:
            raise _malformed(pairs_file, number + 1, "no tab")
        sentences.append(_tokens(fields[0]))
        partners.append(_tokens(fields[1]))
        labels.append(score)
    return Rows(sentences, partners, labels)


def _score(text: str) -> float:
    """Parse a gold score. Python also accepts `nan` and `inf`, which would make the score of the whole task NaN."""
    score = float(text)
    if not math.isfinite(score):
        raise ValueError(f"a score of {text}")
    return score


def read_sts_benchmark(files: Sequence[Path]) -> Rows:
    """STS-B: named csv, but tab-separated without quoting. Fields 5 to 7 (of 7 or 9) are gold, first, second."""
    return _pairs(files, _lines(files[0], "utf-8"), first=5, second=6, label=4, parse=_score)


def read_sick_relatedness(files: Sequence[Path]) -> Rows:
    """SICK's relatedness scores: a header line, and CRLF in the test file."""
    return _pairs(files, _lines(files[0], "utf-8"), first=1, second=2, label=3, parse=_score, header=True)


def read_sick_entailment(files: Sequence[Path]) -> Rows:
    """SICK's entailment classes: the same files, the next column."""
    parse = ENTAILMENT_CLASSES.__getitem__
    return _pairs(files, _lines(files[0], "utf-8"), first=1, second=2, label=4, parse=parse, header=True)


def read_mrpc(files: Sequence[Path]) -> Rows:
    """MRPC: the header starts with a byte order mark; quotes belong to the sentences and may be unbalanced."""
    return _pairs(files, _lines(files[0], "utf-8"), first=3, second=4, label=0, parse=int, header=True)


def read_one_class(files: Sequence[Path], *, label: int) -> Rows:
    """MR, CR, SUBJ, MPQA: a sentence a line, all of one class, latin-1. Empty lines are empty sentences."""
    lines = _text(files[0], "latin-1").splitlines()
    return Rows([_tokens(line) for line in lines], None, [label] * len(lines))


def read_sst2(files: Sequence[Path]) -> Rows:
    """SST2: sentence, tab, class."""

    def parse(line: str) -> tuple[str, float]:
        fields = line.split("\t")
        return fields[0], int(fields[1])

    return _singles(files[0], "utf-8", parse)


def read_sst5(files: Sequence[Path]) -> Rows:
    """SST5: class, blank, sentence."""

    def parse(line: str) -> tuple[str, float]:
        label, sentence = line.split(" ", 1)
        return sentence, int(label)

    return _singles(files[0], "utf-8", parse)


def read_trec(files: Sequence[Path]) -> Rows:
    """TREC: `COARSE:fine question`, latin-1. Only the coarse class counts."""

    def parse(line: str) -> tuple[str, float]:
        label, rest = line.split(":", 1)
        return rest.split(" ", 1)[1], TREC_CLASSES[label]

    return _singles(files[0], "latin-1", parse)


def _pairs(
    files: Sequence[Path],
    lines: list[str],
    *,
    first: int,
    second: int,
    label: int,
    parse: Callable[[str], float],
    header: bool = False,
) -> Rows:
    def parse_line(line: str) -> tuple[str, str, float]:
        fields = line.split("\t")
        return _tokens(fields[first]), _tokens(fields[second]), parse(fields[label])

    rows = _each(files[0], lines[1:] if header else lines, parse_line, start=2 if header else 1)
    return Rows([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])


def _singles(file: Path, encoding: str, parse: Callable[[str], tuple[str, float]]) -> Rows:
    rows = _each(file, _lines(file, encoding), lambda line: parse(line.strip()))
    return Rows([_tokens(sentence) for sentence, _ in rows], None, [label for _, label in rows])


def _each(file: Path, lines: list[str], parse: Callable[[str], T], start: int = 1) -> list[T]:
    rows = []
    for number, line in enumerate(lines, start):
        try:
            rows.append(parse(line))
        except (ValueError, IndexError, KeyError) as error:
            raise _malformed(file, number, str(error)) from error
    return rows


def _malformed(file: Path, line: int, what: str) -> DataError:
    return DataError(f"{file}, line {line}: not a row of this format ({what})", files=(file,))


def _tokens(text: str) -> str:
    return " ".join(text.split())


def _lines(file: Path, encoding: str) -> list[str]:
    return _text(file, encoding).removesuffix("\n").split("\n")


def _text(file: Path, encoding: str) -> str:
    """Read the file's text, with CRLF and lone CR turned into LF."""
    try:
        return file.read_text(encoding=encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not {encoding} at byte {error.start}", files=(file,)) from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}", files=(file,)) from error
