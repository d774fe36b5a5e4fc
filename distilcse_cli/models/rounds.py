"""A stream of sentences shared among processes, window by window.

All processes cut the same stream into the same windows. In a round each embeds one window, and
does with its rows what it is told to; then they meet, so that rank 0 knows how far the work is
without a gap. As a window's rows depend on that window alone, they are the same to the byte
however many processes there are (on the same machine, with the same number of threads in each).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice, takewhile
from typing import TypeVar

from distilcse_cli.config import EncodeSettings
from distilcse_cli.errors import DistilCSEError
from distilcse_cli.models.encoder import SentenceEncoder, load_encoder
from distilcse_cli.models.inference import WINDOW_ROWS, EmbeddedWindow, WindowEmbedder, windows
from distilcse_cli.models.references import resolve_reference
from distilcse_cli.ranks import Ranks, attempted
from distilcse_cli.runtime import Runtime

T = TypeVar("T")


def embed_rounds(
    encoder: SentenceEncoder,
    sentences: Iterable[str],
    runtime: Runtime,
    settings: EncodeSettings,
    ranks: Ranks,
    keep: Callable[[EmbeddedWindow, int], T],
    *,
    first_row: int = 0,
    window_rows: int = WINDOW_ROWS,
) -> Iterator[tuple[list[str], T]]:
    """Embed a stream together, a window each at a time. Every process has to run through the iterator.

    Args:
        encoder, runtime, settings, window_rows: as for `embed_stream`.
        sentences: the same on all processes.
        ranks: the processes.
        keep: what a process does with its own window and the number of its first row.
        first_row: number of the first sentence.

    Yields:
        On rank 0 the sentences of every window and what `keep` returned for it, in order, when all
        windows of the round are done; elsewhere nothing.

    Raises:
        DistilCSEError: that of the first window that failed, on rank 0 and behind all windows
            before it; the other processes exit with its code.
    """
    embed = WindowEmbedder(encoder, runtime, settings)
    stream = windows(sentences, window_rows)

    def take_part(row: int) -> tuple[list[list[str]], T | None]:
        read = list(islice(stream, ranks.world_size))
        row += sum(len(window) for window in read[: ranks.rank])
        return read, keep(embed(read[ranks.rank], row), row) if ranks.rank < len(read) else None

    while True:
        part, error = attempted(partial(take_part, first_row))
        read, kept = part or ([], None)
        outcomes = ranks.gathered((kept, error))
        sound = [kept for kept, _ in takewhile(lambda outcome: outcome[1] is None, outcomes)]
        # a window that failed is told of when those before it are safe
        yield from zip(read, sound, strict=False)
        ranks.on_main(partial(_raise_first, outcomes))
        if not read:
            return
        first_row += sum(map(len, read))


def load_on_all(
    ref: str, ranks: Ranks, *, pooler: str | None, revision: str | None, max_length: int | None
) -> SentenceEncoder:
    """Load a model on every process; rank 0 downloads what is not there yet.

    Raises:
        DistilCSEError: it cannot be had or loaded, on rank 0; the other processes exit with its code.
    """
    ranks.on_main(lambda: resolve_reference(ref, revision=revision))
    return ranks.on_all(lambda: load_encoder(ref, pooler=pooler, revision=revision, max_length=max_length))


def _raise_first(outcomes: Sequence[tuple[object, DistilCSEError | None]]) -> None:
    for _, error in outcomes:
        if error is not None:
            raise error
