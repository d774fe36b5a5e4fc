"""The triples of a table: which columns hold them, and whether each cell is usable text."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from distilcse_cli import console
from distilcse_cli.config import TRIPLET_COLUMNS
from distilcse_cli.data.cleaning import clean
from distilcse_cli.data.lines import BadLines
from distilcse_cli.data.opening import kind_of
from distilcse_cli.data.rows import Columns, cell_fault, read_rows
from distilcse_cli.errors import DataError

ROLES = ("anchor", "positive", "hard negative")
_LIKE_A_NAME = re.compile(r"[A-Za-z][\w-]*")
_NO_SENTENCE = re.compile(r"\s*([-+]?\d+([.,]\d+)?|labels?|gold[_-]?label|scores?|similarity|ids?|idx|index)\s*", re.I)
"""A number, or the name of a column of labels, scores or numbers."""
_KNOWN = " or ".join(",".join(names) for names in TRIPLET_COLUMNS[:2])


def triplet_rows(
    path: Path, columns: Sequence[str] | None, header: bool | None, bad: BadLines, encoding: str | None = None
) -> Iterator[tuple[str, ...]]:
    """Yield the clean cells of each triple (anchor, positive, hard negatives) or pair (anchor, positive).

    All rows of a file have the same number of cells. Blank lines between rows are skipped.

    Args:
        path: a table: csv, tsv or JSON, each also packed, or parquet.
        columns: names of two or more columns; None takes a known set of names, else the first columns.
        header: whether the first row of a csv or tsv file names its columns; None decides by the names.
        bad: receives rows with another number of columns, a blank cell, or text that is not in the encoding.
        encoding: of the text; None is UTF-8.

    Raises:
        DataError: the file cannot be read, is no such table, or has no such columns.
    """
    kind = kind_of(path, encoding)
    if not kind.is_table:
        raise DataError(
            f"{path} holds lines: triples are read from .csv, .tsv, .jsonl and .parquet", hint="rename or convert it"
        )

    def choose(names: list[str], where: str) -> Columns:
        found = None if header is False and kind.is_csv else _by_name(names, columns, where)
        if found is not None:
            return found
        if kind.is_csv:
            return _by_position(names, header, where)
        have = ", ".join(names) or "no columns"
        raise DataError(f"which columns of {where} hold the triples? it has {have}", hint=f"--columns {_KNOWN}")

    for where, cells in read_rows(path, choose, bad, strict=True, encoding=encoding):
        triple = _clean_cells(where, cells, bad)
        if triple:
            yield triple


def _clean_cells(where: str, cells: Sequence[object], bad: BadLines) -> tuple[str, ...] | None:
    """Return the cells of one row, each as one line; None for a row that is not usable, which `bad` receives."""
    texts = [clean(cell) if isinstance(cell, str) and cell_fault(cell) is None else "" for cell in cells]
    if all(texts):
        return tuple(texts)
    at = texts.index("")
    role, cell = ROLES[min(at, 2)], cells[at]
    bad.meet(f"{where}: the {role} {cell_fault(cell) or 'is blank'}")
    return None


def _by_name(names: Sequence[str], wanted: Sequence[str] | None, where: str) -> Columns | None:
    """Find the columns by name, upper or lower case; None if none of the known sets of names is there.

    Raises:
        DataError: a wanted name is not there.
    """
    folded = [name.strip().lower() for name in names]
    for known in (wanted,) if wanted is not None else TRIPLET_COLUMNS:
        have = [name.lower() for name in known if name.lower() in folded]
        # a table of pairs has no hard negative, but a column named by the user must be there
        if len(have) == len(known) or (wanted is None and have == list(known[:2])):
            if wanted is None:
                # as sentence-transformers names several: negative_1, negative_2, ...
                further = (re.compile(rf"{name}s?[_ -]?\d*") for name in (known[2], "(hard_?)?neg(ative)?"))
                have = [*have[:2], *dict.fromkeys(n for kind in further for n in folded if kind.fullmatch(n))]
            at = tuple(folded.index(name) for name in have)
            return Columns(tuple(names[i] for i in at), at, len(names))
    if wanted is None:
        return None
    missing = ", ".join(repr(name) for name in wanted if name.lower() not in folded)
    raise DataError(f"{where} has no column {missing}: it has {', '.join(names)}", hint="name others with --columns")


def _by_position(row: list[str], header: bool | None, where: str) -> Columns:
    """Take the two or three columns of a first row that has none of the known names, and say so."""
    width = len(row)
    if width not in (2, 3):
        raise DataError(
            f"{where} has {width} column{'s' * (width != 1)}, but a triple has 3 (anchor, positive, hard negative)"
            " and a pair 2",
            hint=f"name the columns in a first line with {_KNOWN}, or with --columns",
        )
    if header is None and all(_LIKE_A_NAME.fullmatch(cell) for cell in row):
        raise DataError(
            f"{where}: do {', '.join(row)} name the columns, or are they a triple?",
            hint="name those that count with --columns A,B[,C], or add --no-header if they are a triple",
        )
    for number, cell in enumerate(row, 1):
        if _NO_SENTENCE.fullmatch(cell):
            raise DataError(
                f"{where}: column {number} does not look like sentences: {cell!r}",
                hint="name those that count in a first line, and with --columns A,B[,C]",
            )
    names = row if header else [str(number) for number in range(1, width + 1)]
    kind = "" if header else "column "
    named = ", ".join(f"{role} = {kind}{name}" for role, name in zip(ROLES, names, strict=False))
    console.log(f"{where}: none of the known names, so columns are taken in their order: {named}")
    return Columns(tuple(names), tuple(range(width)), width, is_header=bool(header))
