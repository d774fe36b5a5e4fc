"""The one way to embed: an encoder with its length limit, normalization and batch size decided.

Sentences are taken a window at a time, so memory does not grow with their number. A batch never reaches past
its window, so a window's rows do not depend on the text before or after it. On a CPU every thread computes
whole batches.

Shape letters: N sentences, B sentences of a batch, T tokens, H width of an embedding.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

import numpy as np
import torch
from torch.nn import functional

from distilcse_cli import console
from distilcse_cli.config import EncodeSettings
from distilcse_cli.data.tokens import RowTokenizer, TokenRows
from distilcse_cli.errors import DeviceError, UsageError
from distilcse_cli.models.backbone import num_positions
from distilcse_cli.models.batching import (
    WINDOW_ROWS,
    as_dtype,
    excerpt,
    fill_up,
    first_non_finite_row,
    non_finite,
    padded_widths,
    token_budget_batches,
    windows,
)
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.prepacked import Forward, fastest_forward
from distilcse_cli.ranks import ALONE, Ranks
from distilcse_cli.runtime import Runtime

NUMERICS = 4
"""Raised when a change of the code changes the last digits of embeddings. What is kept across versions records it."""
SORTED_WINDOW_ROWS = 32_768
"""As `WINDOW_ROWS`, for `longest_first`: all sentences of the seven STS tasks, for next to no padding."""

Fill = Callable[[Iterator[np.ndarray]], None]
"""Computes batches of row numbers until there are no more."""


@dataclass(frozen=True)
class EmbeddedWindow:
    """Consecutive sentences and their embeddings."""

    sentences: list[str]
    embeddings: np.ndarray
    """(len(sentences), H), in the settings' dtype."""
    num_truncated: int
    """Sentences that had more tokens than allowed and were cut."""
    lengths: np.ndarray
    """(len(sentences),) tokens of each sentence before it was cut, special tokens included."""


class Embedder:
    """Embeds sentences or token rows. The encoder's weights and prompt may change between calls.

    Args:
        encoder: moved to the runtime's device on first use, and stays there. Dropout is off while it
            embeds; then it is in training mode again if it was before.
        runtime: device and number format of the matrix products.
        settings: length limit, normalization, batch size, and the dtype of a window's rows.
        ranks: processes that share the batches. All of them make the same calls and get all rows, equal
            to the byte to those of one process.
        truncate_dim: keep only that many numbers of a row, the first ones; normalization comes after it.

    Raises:
        UsageError: the encoder's rows have fewer numbers than `truncate_dim`.
    """

    def __init__(
        self,
        encoder: SentenceEncoder,
        runtime: Runtime,
        settings: EncodeSettings | None = None,
        ranks: Ranks = ALONE,
        *,
        truncate_dim: int | None = None,
    ) -> None:
        settings = settings or EncodeSettings()
        self.encoder, self.runtime, self.ranks = encoder, runtime, ranks
        self.max_length = settings.max_length or encoder.max_length
        self.normalize = encoder.normalize if settings.normalize is None else settings.normalize
        self.batch_tokens = runtime.batch_tokens if settings.batch_tokens is None else settings.batch_tokens
        self.dtype = settings.dtype
        self.width = encoder.embedding_dim if truncate_dim is None else truncate_dim
        if self.width > encoder.embedding_dim:
            raise UsageError(f"--truncate-dim is {truncate_dim}, but a row has {encoder.embedding_dim} numbers")
        self._packed: tuple[object, Forward] | None = None
        self._tokenizers: dict[str, RowTokenizer] = {}

    def sentences(self, sentences: Sequence[str]) -> np.ndarray:
        """(N, H) float32 embeddings of sentences held in memory, row i of sentence i.

        Raises:
            ModelError: an embedding is not finite; its sentence is named.
        """
        embeddings = np.empty((len(sentences), self.width), dtype=np.float32)
        start = 0
        for window in windows(sentences, WINDOW_ROWS):
            embeddings[start : start + len(window)] = self._embed(self._tokenize(window), _names_of(window, start))
            start += len(window)
        return embeddings

    def longest_first(self, sentences: Sequence[str]) -> np.ndarray:
        """(N, H) float32 embeddings of many sentences, row i of sentence i, with progress and a warning of cut ones.

        The sentences are sorted by characters, and within a window by tokens. That fills the batches well, and
        yet only one window is tokenized at a time.

        Raises:
            ModelError: an embedding is not finite; its sentence is named.
        """
        order = np.argsort([-len(sentence) for sentence in sentences], kind="stable")
        embeddings = np.empty((len(sentences), self.width), dtype=np.float32)
        if not sentences:
            return embeddings
        start = num_truncated = 0
        lock = Lock()
        with console.Progress("encode", len(sentences), "sentences") as progress:

            def count(num_rows: int) -> None:
                with lock:  # threads call it; the other processes compute about as much
                    progress.update(min(num_rows * self.ranks.world_size, len(sentences) - progress.done))

            for window in windows((sentences[row] for row in order), SORTED_WINDOW_ROWS):
                rows, numbers = self._tokenize(window), order[start : start + len(window)]
                embeddings[numbers] = self._embed(rows, _names_of(window, start), count)
                start, num_truncated = start + len(window), num_truncated + rows.num_truncated
        if num_truncated:
            console.warn(f"{num_truncated:,} sentences were cut to the first {self.max_length} tokens")
        return embeddings

    def rows(self, rows: TokenRows) -> np.ndarray:
        """(N, H) float32 embeddings of token rows, all in one plan of batches. No row is cut.

        Raises:
            ModelError: an embedding is not finite; its row is named.
        """
        return self._embed(rows, "row {}".format)

    def window(self, sentences: list[str], first_row: int = 0) -> EmbeddedWindow:
        """Embed consecutive sentences, as many as fit in memory, together.

        Args:
            sentences: the window.
            first_row: number of its first sentence, for messages only.

        Raises:
            ModelError: an embedding is not finite; its row and sentence are named.
            DataError: an embedding is too large for float16.
        """
        rows, lengths = self._tokenize(sentences), self._tokenizer().whole_lengths
        embeddings = as_dtype(self._embed(rows, _names_of(sentences, first_row)), self.dtype, first_row)
        return EmbeddedWindow(sentences, embeddings, rows.num_truncated, lengths)

    def token_lengths(self, sentences: list[str]) -> np.ndarray:
        """(N,) tokens of each sentence, special tokens included, however many of them are used."""
        self._tokenize(sentences)
        return self._tokenizer().whole_lengths

    def stream(
        self, sentences: Iterable[str], *, first_row: int = 0, window_rows: int = WINDOW_ROWS
    ) -> Iterator[EmbeddedWindow]:
        """Embed any number of sentences in bounded memory, a window at a time; raises as `window` does.

        Args:
            sentences: read one window ahead of what has been yielded, no further.
            first_row: number of the first sentence, for messages only.
            window_rows: sentences in a window.
        """
        for window in windows(sentences, window_rows):
            yield self.window(window, first_row)
            first_row += len(window)

    def _tokenizer(self) -> RowTokenizer:
        prompt = self.encoder.prompts.used  # it may change between calls
        if prompt not in self._tokenizers:
            self._tokenizers[prompt] = RowTokenizer(self.encoder.tokenizer, self.max_length, prompt)
        return self._tokenizers[prompt]

    def _tokenize(self, sentences: list[str]) -> TokenRows:
        tokenizer = self._tokenizer()
        before = tokenizer.num_truncated
        ids, lengths = tokenizer(sentences)
        return TokenRows(ids, np.cumsum([0, *lengths]), tokenizer.num_truncated - before)

    def _forward(self) -> Forward:
        """The fastest forward pass for the weights as they are now."""
        state = [(id(weight), weight._version) for weight in self.encoder.parameters()]
        if self._packed is None or self._packed[0] != state:
            self._packed = state, fastest_forward(self.encoder, self.runtime)
        return self._packed[1]

    def _embed(
        self, rows: TokenRows, name: Callable[[int], str], count: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """(N, H) float32 embeddings of token rows; `name` names a row in an error, `count` gets each batch's size."""
        encoder, forward = self.encoder, self._forward()
        device, normalize, budget = self.runtime.torch_device(), self.normalize, self.batch_tokens
        embeddings = np.empty((len(rows), self.width), dtype=np.float32)
        if encoder.reads_padding:
            widths = np.maximum(rows.lengths, 1)
        else:
            widths = padded_widths(rows.lengths, num_positions(encoder.backbone), coarse=forward is not encoder)
        batches = token_budget_batches(widths, budget, one_length=encoder.reads_padding)

        def fill(batches: Iterator[np.ndarray]) -> None:
            # one autocast context for all batches: it keeps the weights' bf16 copies until it ends
            with torch.inference_mode(), self.runtime.autocast(), _memory_errors(self.runtime, budget):
                for batch in batches:
                    width = int(widths[batch[0]])
                    ids, mask = rows.pad(fill_up(batch, budget // width), encoder.pad_id, width)
                    embedded = forward(ids.to(device), mask.to(device))[: len(batch), : self.width].float()
                    if normalize:
                        embedded = functional.normalize(embedded, dim=-1)
                    embeddings[batch] = embedded.cpu().numpy()
                    if count is not None:
                        count(len(batch))

        # several batches take a thread each even if few of them are this process's: a product's last digits
        # depend on its number of threads
        num_threads = torch.get_num_threads() if self.runtime.device_type == "cpu" and len(batches) > 1 else 1
        was_training = encoder.training
        encoder.to(device).eval()
        try:
            if self.ranks.world_size == 1:
                _in_threads(fill, batches, num_threads)
            else:
                _share(self.ranks, batches, embeddings, lambda mine: _in_threads(fill, mine, num_threads))
        finally:
            encoder.train(was_training)
        broken = first_non_finite_row(embeddings)
        if broken is not None:
            raise non_finite(encoder.source, name(broken))
        return embeddings


def _names_of(window: list[str], first_row: int) -> Callable[[int], str]:
    return lambda row: f"row {first_row + row}, {excerpt(window[row])}"


def _share(
    ranks: Ranks, batches: list[np.ndarray], embeddings: np.ndarray, fill: Callable[[list[np.ndarray]], None]
) -> None:
    """Let each process fill the rows of its share of the batches, then exchange the rows."""
    shares = [batches[rank :: ranks.world_size] for rank in range(ranks.world_size)]
    numbers = [np.concatenate([*share, np.empty(0, np.int64)]) for share in shares]

    def fill_mine() -> np.ndarray:
        fill(shares[ranks.rank])
        return embeddings[numbers[ranks.rank]]

    for rows, filled in zip(numbers, ranks.exchanged(fill_mine), strict=True):
        embeddings[rows] = filled


def _in_threads(fill: Fill, batches: list[np.ndarray], num_threads: int) -> None:
    """Compute batches in threads, each of which takes the next batch when it is done with one.

    Threads that share one batch wait for each other after every product. MiniLM encoded 1,500 sentences a second
    that way on two cores, and 1,700 with a batch a thread.
    """
    if num_threads < 2 or not batches:
        return fill(iter(batches))
    queue = iter(batches)  # threads may share a list's iterator: each batch is taken once
    num_workers = min(num_threads, len(batches))
    try:
        # an initializer, since the number is the thread's own
        with ThreadPoolExecutor(num_workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            works = [pool.submit(fill, queue) for _ in range(num_workers)]
            try:
                wait(works, return_when=FIRST_EXCEPTION)
            finally:
                for _ in queue:  # after an error or an interrupt no thread starts another batch
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
