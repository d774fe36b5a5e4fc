"""Every line of a file, or every row of one column of a table, with none left out: row i is line i."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from distilcse_cli.config import TextSettings
from distilcse_cli.data.lines import BadLines, read_lines
from distilcse_cli.data.opening import descriptor_of, kind_of
from distilcse_cli.data.rows import read_rows
from distilcse_cli.data.texts import choose_text, text_in
from distilcse_cli.errors import DataError, UsageError

Row = tuple[str, str, Sequence[object]]
"""Where a line stands, such as `data.csv, line 7`; its text; and its cells of the other columns."""


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Every line of several inputs, one input after the other, and what is kept of other columns."""

    sources: Sequence[Path]
    """Files, FIFOs, or names of open files, such as `/dev/stdin`."""
    text: TextSettings = field(default_factory=TextSettings)
    columns: tuple[str, ...] = ()
    """Columns of tables whose cells come along."""

    def rows(self) -> Iterator[Row]:
        """Yield every line, from the first on; raises as `lines` does."""
        for source in self.sources:
            yield from _rows(source, self.text, self.columns)

    def __str__(self) -> str:
        return ", ".join(map(str, self.sources))


def is_stream(source: Path) -> bool:
    """Whether a source can be read only once."""
    return descriptor_of(source) is not None or not source.is_file()


def require_lines(source: Path, text: TextSettings, columns: Sequence[str] = ()) -> None:
    """Check, where the source can be opened twice, that `lines` reads text from it and not the marks of a format.

    Raises:
        DataError: it is a table, and no column is named; or it cannot be read.
        UsageError: a setting does not apply to it.
    """
    if is_stream(source):
        if text.text_column is not None or columns:
            option = "--text-column" if text.text_column is not None else "--id-column"
            raise UsageError(f"{option} needs a FILE: a stream is read as lines", hint="write it to a file first")
        return
    kind = kind_of(source, text.encoding)
    if kind.is_table and text.text_column is None:
        form = "JSON" if kind.is_json else kind.format
        hint = "name the column that holds the text with --text-column"
        raise DataError(f"{source} is a table ({form}), but a sentence a line is needed", hint=hint)
    if text.text_column is not None and not kind.is_table:
        raise UsageError(f"--text-column does not apply to {source}: it holds lines, not columns", hint="leave it out")
    if columns and not kind.is_table:
        raise UsageError(f"--id-column does not apply to {source}: it holds lines, not columns", hint="leave it out")
    if text.encoding is not None and kind.format == "parquet":
        raise UsageError(f"--encoding does not apply to {source}: it is parquet", hint="leave it out")


def lines(source: Path, text: TextSettings | None = None) -> Iterator[str]:
    r"""Yield every line without its `\n` or `\r\n`, otherwise unchanged; blank and repeated lines stay.

    With a column, yield its cell of every row: a null as an empty text. Blank lines between rows are no rows.

    Args:
        source: a file, a FIFO, or the name of an open file, such as `/dev/stdin`, which is read from where it stands.
        text: column and encoding.

    Raises:
        DataError: the file cannot be read, or a line is not in the encoding; its number is named.
    """
    return (line for _, line, _ in _rows(source, text or TextSettings(), ()))


def _rows(source: Path, text: TextSettings, columns: Sequence[str]) -> Iterator[Row]:
    bad = _KeepEveryLine("stop")
    if text.text_column is not None:
        choose = partial(choose_text, wanted=text.text_column, others=columns)
        for where, cells in read_rows(source, choose, bad, strict=False, encoding=text.encoding):
            if cells:
                yield where, text_in(cells[0], where, bad) or "", cells[1:]
        return
    for first, batch in read_lines(source, bad, text.encoding, descriptor_of(source)):
        for number, line in enumerate(batch, first):
            yield f"{source}, line {number}", line.removesuffix("\r"), ()


class _KeepEveryLine(BadLines):
    """Stops at a line that cannot be read. Leaving it out would shift the rows of all later lines."""

    def meet(self, message: str) -> None:
        raise DataError(message, hint="mend the line: none is skipped, so that row i is line i")
