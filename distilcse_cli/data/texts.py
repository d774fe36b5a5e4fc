"""The one column of a table that holds the text of a corpus, and texts in batches of bounded size."""

from collections.abc import Iterable, Iterator, Sequence

from distilcse_cli.data.lines import BadLines, is_unicode
from distilcse_cli.data.rows import Columns, cell_fault
from distilcse_cli.errors import DataError

BATCH_TEXTS = 4096
BATCH_CHARACTERS = 1 << 20
TEXT_COLUMNS = ("text", "sentence")


def choose_column(columns: Sequence[str], wanted: str | None, where: object, option: str = "--text-column") -> str:
    """Return the name of the column that holds the text: the wanted one, the only one, or one of `TEXT_COLUMNS`.

    Raises:
        DataError: there is no such column; the message lists the columns that `where` has.
    """
    have = f"it has {', '.join(columns)}" if columns else "it has none"
    if wanted is not None:
        if wanted in columns:
            return wanted
        raise DataError(f"{where} has no column {wanted!r}: {have}", hint=f"name one of them with {option}")
    if len(columns) == 1:
        return columns[0]
    for name in TEXT_COLUMNS:
        if name in columns:
            return name
    raise DataError(f"which column of {where} holds the text? {have}", hint="name it with --text-column")


def choose_text(columns: list[str], where: str, *, wanted: str | None, others: Sequence[str] = ()) -> Columns:
    """Choose as `choose_column` does, for `rows.read_rows`; after the text come `others`, which may hold anything."""
    text = choose_column(columns, wanted, where)
    names = (text, *(choose_column(columns, name, where, "--id-column") for name in others))
    return Columns(names, tuple(map(columns.index, names)), len(columns), num_texts=1)


def text_in(cell: object, where: str, bad: BadLines) -> str | None:
    """Return the text in a cell of the text column, empty for a null. `bad` receives other cells, which give None."""
    if cell is None:
        return ""
    if isinstance(cell, str) and is_unicode(cell):
        return cell
    bad.meet(f"{where}: the text column {cell_fault(cell)}")
    return None


def in_batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Collect `texts` into lists of 4,096 texts, or fewer once they have a million characters."""
    batch: list[str] = []
    num_characters = 0
    for text in texts:
        batch.append(text)
        num_characters += len(text)
        if len(batch) >= BATCH_TEXTS or num_characters >= BATCH_CHARACTERS:
            yield batch
            batch, num_characters = [], 0
    if batch:
        yield batch


def sentences_at(sentences: Iterable[str], rows: Iterable[int]) -> list[str]:
    """The sentences of some rows, in the order of `rows`, found in one pass. A `Corpus` with offsets has `take`.

    Raises:
        IndexError: there are fewer sentences.
    """
    order = [int(row) for row in rows]
    wanted = set(order)
    found = {row: sentence for row, sentence in enumerate(sentences) if row in wanted}
    if len(found) < len(wanted):
        raise IndexError(f"row {min(wanted - found.keys())} of {max(found, default=-1) + 1} sentences or more")
    return [found[row] for row in order]
