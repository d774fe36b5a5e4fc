"""The memory bank: earlier teacher embeddings that serve as further negatives."""

import numpy as np
import torch
from torch import Tensor

UNKNOWN_TEXT = -1


class MemoryBank:
    """The last `size` teacher rows, kept where the loss needs them (the paper's queue).

    A ring buffer: pushing B rows writes B rows and moves nothing else.

    Args:
        size: most rows kept; 0 keeps none.
        width: D, the teacher's width.
        device: where the rows lie.
        dtype: what products with the rows are computed in.
    """

    def __init__(self, size: int, width: int, *, device: torch.device | str = "cpu", dtype: torch.dtype) -> None:
        self.size = size
        self._buffer = torch.zeros(size, width, device=device, dtype=dtype)
        self._texts = np.full(size, UNKNOWN_TEXT)
        self._next = 0
        self._filled = 0

    def __len__(self) -> int:
        return self._filled

    @property
    def rows(self) -> Tensor:
        """(K, D) view of the rows there are, in no particular order."""
        return self._buffer[: self._filled]

    @property
    def texts(self) -> np.ndarray:
        """(K,) int64: the number of each row's sentence, `UNKNOWN_TEXT` where none was given."""
        return self._texts[: self._filled]

    def newest_first(self) -> Tensor:
        """(K, D) copy of the rows there are, the last one pushed at the top of its batch's block.

        A batch of B rows keeps its own order inside its block, as in the published code, where
        each batch is put in front of the queue.
        """
        order = (self._next - 1 - torch.arange(self._filled, device=self._buffer.device)) % max(self.size, 1)
        return self._buffer[order]

    def push(self, rows: Tensor, texts: np.ndarray | None = None) -> None:
        """Put (B, D) rows and the (B,) numbers of their sentences in, and drop the oldest beyond the bank's size.

        Of a batch larger than the bank the first `size` rows stay, as in the published code.
        """
        if texts is None:
            texts = np.full(len(rows), UNKNOWN_TEXT)
        texts = texts[: self.size][::-1]
        # rows are laid down last to first, so that reading backwards gives the batch in its order
        rows = rows[: self.size].detach().flip(0).to(self._buffer.dtype)
        first = min(len(rows), self.size - self._next)
        self._buffer[self._next : self._next + first] = rows[:first]
        self._buffer[: len(rows) - first] = rows[first:]
        self._texts[self._next : self._next + first] = texts[:first]
        self._texts[: len(rows) - first] = texts[first:]
        self._next = (self._next + len(rows)) % max(self.size, 1)
        self._filled = min(self._filled + len(rows), self.size)

    def tensors(self) -> dict[str, Tensor]:
        """What `load` needs to have this very bank again."""
        return {"rows": self.rows.cpu(), "texts": torch.from_numpy(self.texts), "next": torch.tensor(self._next)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Become the bank whose `tensors` these are; it had the same size and width."""
        self._filled = len(tensors["rows"])
        self._buffer[: self._filled] = tensors["rows"].to(self._buffer.device)
        self._texts[: self._filled] = tensors["texts"].numpy()
        self._next = int(tensors["next"])
