"""A pass over a text before it is embedded: how many rows it has, where its windows begin, what it is."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from distilcse_cli import console
from distilcse_cli.data.every_line import Lines, Row
from distilcse_cli.errors import DataError
from distilcse_cli.models.batching import WINDOW_ROWS, windows
from distilcse_cli.models.embed import Embedder
from distilcse_cli.serving.lengths import Lengths


@dataclass(frozen=True)
class Survey:
    """What a pass over all rows has found."""

    windows: list[int]
    """First row of each window, as `embed_rounds` cuts them, and last the number of rows."""
    fingerprint: str
    """sha256 of texts and other cells."""

    @property
    def num_rows(self) -> int:
        """Rows of all inputs."""
        return self.windows[-1]


def survey(inputs: Lines, embedder: Embedder, *, fail_on_truncate: bool) -> Survey:
    """Read all rows once.

    Args:
        inputs: files.
        embedder: cuts lines at its length limit.
        fail_on_truncate: tokenize the rows, too, and fail if one would be cut.

    Raises:
        DataError: there are no rows; a line cannot be read, or would be cut: the first one is named.
    """
    digest, starts, lengths, first = hashlib.sha256(), [0], Lengths(embedder.max_length), ""
    read: list[Row] = []

    def sentences() -> Iterator[str]:
        for row in inputs.rows():
            read.append(row)
            yield row[1]

    with console.Progress("count", None, "sentences") as progress:
        for window in windows(sentences(), WINDOW_ROWS):
            digest.update(repr([row[1:] for row in read]).encode())
            if fail_on_truncate:
                tokens = embedder.token_lengths(window)
                lengths.add(tokens)
                if lengths.num_truncated and not first:
                    i = int((tokens > embedder.max_length).argmax())
                    first = f"{read[i][0]} with {tokens[i]:,}"
            starts.append(starts[-1] + len(window))
            progress.update(len(window))
            read.clear()
    if starts[-1] == 0:
        raise no_lines(inputs)
    if first:
        many = f"{lengths.num_truncated:,} of {lengths.num_lines:,} lines have more than {lengths.max_length} tokens"
        hint = "nothing is written: shorten them, or leave --fail-on-truncate out to cut them"
        raise DataError(f"{many}, the first is {first}", hint=hint)
    return Survey(starts, digest.hexdigest())


def no_lines(inputs: Lines) -> DataError:
    """The error for inputs without any row."""
    return DataError(f"{inputs} has no lines", hint="a sentence a line is needed")
