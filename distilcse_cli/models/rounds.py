"""A stream of sentences shared among processes, window by window.

All processes cut the same stream into the same windows. In a round each process embeds one window and keeps its
rows; then they meet, so that rank 0 always knows how many rows are done without a gap. A window's rows depend on
that window alone. So they are equal to the byte for any number of processes (on the same machine, with the same
number of threads in each).
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import TypeVar, cast

from distilcse_cli.errors import DistilCSEError
from distilcse_cli.models.batching import WINDOW_ROWS, windows
from distilcse_cli.models.embed import EmbeddedWindow, Embedder
from distilcse_cli.ranks import Ranks, attempted

T = TypeVar("T")


def embed_rounds(
    embedder: Embedder,
    sentences: Iterable[str],
    ranks: Ranks,
    *,
    keep: Callable[[EmbeddedWindow, int], T],
    collect: Callable[[list[str], T], None],
    first_row: int = 0,
    window_rows: int = WINDOW_ROWS,
) -> None:
    """Embed a stream of sentences, one window a round for each process.

    Args:
        embedder: works alone: it does not share its batches.
        sentences: the same on all processes.
        ranks: the processes.
        keep: called by a process with its own window and the number of the window's first row.
        collect: called on rank 0 with the sentences of each window and what `keep` returned for it, in the
            order of the stream, after all windows of the round are done.
        first_row: number of the first sentence.
        window_rows: sentences in a window.

    Raises:
        DistilCSEError: the error of the first window that failed, or of `collect`; on rank 0, after all windows
            before it are collected. The other processes exit with its code.
    """
    stream = windows(sentences, window_rows)
    if ranks.world_size == 1:
        for window in stream:
            collect(window, keep(embedder.window(window, first_row), first_row))
            first_row += len(window)
        return

    def take_part(row: int) -> tuple[list[list[str]], T | None]:
        read = list(islice(stream, ranks.world_size))
        row += sum(len(window) for window in read[: ranks.rank])
        return read, keep(embedder.window(read[ranks.rank], row), row) if ranks.rank < len(read) else None

    def close_round(read: list[list[str]], outcomes: Sequence[tuple[T | None, DistilCSEError | None]]) -> None:
        # read is empty after the end of the stream, and if rank 0 itself has failed
        for number, (kept, error) in enumerate(outcomes):
            if error is not None:
                raise error
            if number < len(read):
                collect(read[number], cast(T, kept))

    while True:
        part, error = attempted(partial(take_part, first_row))
        read, kept = part or ([], None)
        ranks.on_main(partial(close_round, read, ranks.gathered((kept, error))))
        if not read:
            return
        first_row += sum(map(len, read))
