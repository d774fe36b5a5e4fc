"""A stream of sentences shared among processes, window by window.

All processes cut the same stream into the same windows. In a round each embeds one window, and
does with its rows what it is told to; then they meet, so that rank 0 knows how far the work is
without a gap. As a window's rows depend on that window alone, they are the same to the byte
however many processes there are (on the same machine, with the same number of threads in each).
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import TypeVar, cast

from distilcse_cli.config import EncodeSettings
from distilcse_cli.errors import DistilCSEError
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.inference import WINDOW_ROWS, EmbeddedWindow, WindowEmbedder, windows
from distilcse_cli.ranks import Ranks, attempted
from distilcse_cli.runtime import Runtime

T = TypeVar("T")


def embed_rounds(
    encoder: SentenceEncoder,
    sentences: Iterable[str],
    runtime: Runtime,
    settings: EncodeSettings,
    ranks: Ranks,
    *,
    keep: Callable[[EmbeddedWindow, int], T],
    collect: Callable[[list[str], T], None],
    first_row: int = 0,
    window_rows: int = WINDOW_ROWS,
) -> None:
    """Embed a stream of sentences, every process a window of each round.

    Args:
        encoder, runtime, settings, window_rows: as for `embed_stream`.
        sentences: the same on all processes.
        ranks: the processes.
        keep: what a process does with its own window and the number of its first row.
        collect: what rank 0 does with the sentences of each window and what `keep` returned for
            it: in the order of the stream, when all windows of the round are done.
        first_row: number of the first sentence.

    Raises:
        DistilCSEError: that of the first window that failed, or of `collect`, on rank 0 and when
            all windows before it are collected; the other processes exit with its code.
    """
    embed = WindowEmbedder(encoder, runtime, settings)
    stream = windows(sentences, window_rows)

    def take_part(row: int) -> tuple[list[list[str]], T | None]:
        read = list(islice(stream, ranks.world_size))
        row += sum(len(window) for window in read[: ranks.rank])
        return read, keep(embed(read[ranks.rank], row), row) if ranks.rank < len(read) else None

    def close_round(read: list[list[str]], outcomes: Sequence[tuple[T | None, DistilCSEError | None]]) -> None:
        # read is empty when the stream has ended, and when rank 0 itself has failed
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
