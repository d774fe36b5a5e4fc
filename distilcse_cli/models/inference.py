"""Sentences through a frozen encoder: batches of about equal cost, rows out in the order they came in.

Everything that encodes goes through here: `extract`, `encode`, `eval`, `compare`. Sentences are
taken a window at a time, so memory does not grow with their number, and a batch never reaches
past its window, so a window's rows do not depend on what stands before or after it.

Shape letters: N sentences, B sentences of a batch, T tokens, H width of an embedding.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from distilcse_cli.config import EncodeSettings
from distilcse_cli.data.tokens import RowTokenizer, TokenRows
from distilcse_cli.errors import DeviceError
from distilcse_cli.models.backbone import num_positions
from distilcse_cli.models.batching import fill_up, padded_widths, token_budget_batches
from distilcse_cli.models.prepacked import Forward, fastest_forward
from distilcse_cli.models.sound import as_dtype, excerpt, first_non_finite_row, non_finite
from distilcse_cli.ranks import ALONE, Ranks
from distilcse_cli.runtime import Runtime

if TYPE_CHECKING:
    from distilcse_cli.models.encoder import SentenceEncoder

NUMERICS = 4
"""Counted up when a change of the code changes last digits of embeddings; what is kept across versions names it."""
WINDOW_ROWS = 8192
"""Sentences tokenized and sorted by length together. More would save no padding to speak of."""
WINDOW_CHARS = 1 << 24
"""A window of very long lines ends earlier, at so many characters."""


@dataclass(frozen=True)
class EmbeddedWindow:
    """Consecutive sentences and their embeddings."""

    sentences: list[str]
    embeddings: np.ndarray
    """(len(sentences), H), in the settings' dtype."""
    num_truncated: int
    """Sentences that were longer than the most tokens allowed."""


def tokens_of_a_batch(asked: int | None, runtime: Runtime) -> int:
    """Most tokens of a batch, padding included: as many as asked for, else what suits the device."""
    return runtime.batch_tokens if asked is None else asked


def embed_rows(
    encoder: "SentenceEncoder", rows: TokenRows, runtime: Runtime, *, batch_tokens: int | None = None, normalize: bool
) -> np.ndarray:
    """Embed token rows, all of them in one plan of batches.

    The encoder is moved to the runtime's device and stays there; whether it was in training
    mode is put back. Without `batch_tokens` the runtime chooses.

    Returns:
        (N, H) float32, row i of token row i.

    Raises:
        ModelError: an embedding is not finite; its row is named.
    """
    forward = fastest_forward(encoder, runtime)
    embeddings = _forward(encoder, forward, rows, runtime, batch_tokens=batch_tokens, normalize=normalize)
    broken = first_non_finite_row(embeddings)
    if broken is not None:
        raise non_finite(encoder.source, f"row {broken}")
    return embeddings


def embed_sentences(
    encoder: "SentenceEncoder", sentences: Sequence[str], runtime: Runtime, settings: EncodeSettings
) -> np.ndarray:
    """Embed sentences held in memory.

    Returns:
        (N, H) float32 whatever the settings' dtype, row i of sentence i.

    Raises:
        ModelError: an embedding is not finite; its sentence is named.
    """
    embeddings = np.empty((len(sentences), encoder.embedding_dim), dtype=np.float32)
    start = 0
    for window in embed_stream(encoder, sentences, runtime, replace(settings, dtype="float32")):
        end = start + len(window.sentences)
        embeddings[start:end] = window.embeddings
        start = end
    return embeddings


def embed_stream(
    encoder: "SentenceEncoder",
    sentences: Iterable[str],
    runtime: Runtime,
    settings: EncodeSettings,
    *,
    first_row: int = 0,
    window_rows: int = WINDOW_ROWS,
    ranks: Ranks = ALONE,
) -> Iterator[EmbeddedWindow]:
    """Embed a stream of sentences of any length in bounded memory, a window at a time.

    Args:
        encoder: moved to the runtime's device on first use.
        sentences: read one window ahead of what has been yielded, no further.
        runtime: device and number format of the matrix products.
        settings: batch size, length limit, normalization, and the dtype of the rows.
        first_row: number of the first sentence, for messages only.
        window_rows: sentences in a window.
        ranks: processes that share the batches of each window; all read the same sentences and get
            all rows, the same to the byte as one process would.

    Raises:
        ModelError: an embedding is not finite; its row and sentence are named.
        DataError: an embedding is too large for float16.
    """
    embed = WindowEmbedder(encoder, runtime, settings, ranks)
    for window in windows(sentences, window_rows):
        yield embed(window, first_row)
        first_row += len(window)


class WindowEmbedder:
    """Embeds windows of sentences, one at a call.

    Args:
        encoder, runtime, settings, ranks: as for `embed_stream`.
    """

    def __init__(
        self, encoder: "SentenceEncoder", runtime: Runtime, settings: EncodeSettings, ranks: Ranks = ALONE
    ) -> None:
        self._encoder, self._runtime, self._settings, self._ranks = encoder, runtime, settings, ranks
        self._normalize = encoder.normalize if settings.normalize is None else settings.normalize
        self._forward = fastest_forward(encoder, runtime)
        self._tokenizer = RowTokenizer(encoder.tokenizer, settings.max_length or encoder.max_length)

    def __call__(self, window: list[str], first_row: int) -> EmbeddedWindow:
        """Embed a window whose first sentence has this number; raises what `embed_stream` does."""
        rows = _token_rows(self._tokenizer, window)
        embeddings = _forward(
            self._encoder,
            self._forward,
            rows,
            self._runtime,
            batch_tokens=self._settings.batch_tokens,
            normalize=self._normalize,
            ranks=self._ranks,
        )
        broken = first_non_finite_row(embeddings)
        if broken is not None:
            raise non_finite(self._encoder.source, f"row {first_row + broken}, {excerpt(window[broken])}")
        return EmbeddedWindow(window, as_dtype(embeddings, self._settings.dtype, first_row), rows.num_truncated)


def windows(sentences: Iterable[str], max_rows: int, max_chars: int = WINDOW_CHARS) -> Iterator[list[str]]:
    """Cut a stream into lists of at most `max_rows` sentences, fewer once they have `max_chars` characters."""
    window: list[str] = []
    num_chars = 0
    for sentence in sentences:
        window.append(sentence)
        num_chars += len(sentence)
        if len(window) == max_rows or num_chars >= max_chars:
            yield window
            window, num_chars = [], 0
    if window:
        yield window


def _token_rows(tokenizer: RowTokenizer, sentences: list[str]) -> TokenRows:
    num_truncated = tokenizer.num_truncated
    ids, lengths = tokenizer(sentences)
    return TokenRows(ids, np.cumsum([0, *lengths]), tokenizer.num_truncated - num_truncated)


def _forward(
    encoder: "SentenceEncoder",
    forward: Forward,
    rows: TokenRows,
    runtime: Runtime,
    *,
    batch_tokens: int | None,
    normalize: bool,
    ranks: Ranks = ALONE,
) -> np.ndarray:
    device, budget = runtime.torch_device(), tokens_of_a_batch(batch_tokens, runtime)
    embeddings = np.empty((len(rows), encoder.embedding_dim), dtype=np.float32)
    widths = padded_widths(rows.lengths, num_positions(encoder.backbone), coarse=forward is not encoder)
    batches = token_budget_batches(widths, budget)

    def fill(batches: Iterator[np.ndarray]) -> None:
        # one autocast context for all batches: it keeps the weights' bf16 copies until it is left
        with torch.inference_mode(), runtime.autocast(), _memory_errors(runtime, budget):
            for batch in batches:
                width = int(widths[batch[0]])
                ids, mask = rows.pad(fill_up(batch, budget // width), encoder.pad_id, width)
                embedded = forward(ids.to(device), mask.to(device))[: len(batch)].float()
                if normalize:
                    embedded = functional.normalize(embedded, dim=-1)
                embeddings[batch] = embedded.cpu().numpy()

    was_training = encoder.training
    encoder.to(device).eval()
    try:
        _fill_together(embeddings, batches, fill, ranks, torch.get_num_threads() if runtime.device == "cpu" else 1)
    finally:
        encoder.train(was_training)
    return embeddings


def _fill_together(
    embeddings: np.ndarray,
    batches: list[np.ndarray],
    fill: Callable[[Iterator[np.ndarray]], None],
    ranks: Ranks,
    num_threads: int,
) -> None:
    """Let each process fill in the rows of its share of the batches, then exchange them."""
    shares = [batches[rank :: ranks.world_size] for rank in range(ranks.world_size)]
    numbers = [np.concatenate([*share, np.empty(0, np.int64)]) for share in shares]

    def fill_share() -> np.ndarray | None:
        # as in a process alone, whatever the share: last digits depend on the threads of a product
        _fill_in_threads(fill, shares[ranks.rank], num_threads if len(batches) > 1 else 1)
        return embeddings[numbers[ranks.rank]] if ranks.world_size > 1 else None

    for rows, filled in zip(numbers, ranks.exchanged(fill_share), strict=True):
        if filled is not None:
            embeddings[rows] = filled


def _fill_in_threads(fill: Callable[[Iterator[np.ndarray]], None], batches: list[np.ndarray], num_threads: int) -> None:
    """Let each thread compute whole batches by itself, taking the next one when it is done.

    Threads that share one batch wait for each other behind every product: MiniLM encoded 1,500
    sentences a second that way on two cores, and 1,700 with a batch a thread.
    """
    if num_threads < 2 or not batches:
        return fill(iter(batches))
    queue = iter(batches)  # a list's iterator may be shared: each batch is taken once

    def work() -> None:
        torch.set_num_threads(1)
        fill(queue)

    try:
        num_workers = min(num_threads, len(batches))
        with ThreadPoolExecutor(num_workers) as pool:
            works = [pool.submit(work) for _ in range(num_workers)]
            try:
                wait(works, return_when=FIRST_EXCEPTION)
            finally:
                for _ in queue:  # after an error or an interrupt nobody starts another batch
                    pass
            for one in works:
                one.result()
    finally:
        torch.set_num_threads(num_threads)


@contextmanager
def _memory_errors(runtime: Runtime, batch_tokens: int) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise DeviceError(
            f"{runtime.device} has too little memory for {batch_tokens:,} tokens at once", hint="lower --batch-tokens"
        ) from error
