"""The memory bank: earlier teacher embeddings that serve as further negatives."""

import numpy as np
import torch
from torch import Tensor


class MemoryBank:
    """The last `size` teacher rows, kept where the loss needs them (the paper's queue).

    A ring buffer: pushing B rows writes B rows and moves nothing else.

    Args:
        size: most rows kept; 0 keeps none.
        width: D, the teacher's width.
        device: where the rows are.
        dtype: number format of products with the rows.
        is_shared: whether all processes of the run have the same rows.
    """

    def __init__(
        self,
        size: int,
        width: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype,
        is_shared: bool = True,
    ) -> None:
        self.size = size
        self.is_shared = is_shared
        self._buffer = torch.zeros(size, width, device=device, dtype=dtype)
        self._sentences = np.zeros(size, dtype=np.int64)
        self._next = 0
        self._filled = 0

    def __len__(self) -> int:
        return self._filled

    @property
    def rows(self) -> Tensor:
        """(K, D) view of the rows there are, in no particular order."""
        return self._buffer[: self._filled]

    @property
    def sentences(self) -> np.ndarray:
        """(K,) int64: the number of each row's sentence."""
        return self._sentences[: self._filled]

    def push(self, rows: Tensor, sentences: np.ndarray) -> None:
        """Add (B, D) rows and the (B,) numbers of their sentences; the oldest rows beyond the bank's size drop out.

        Of a batch larger than the bank the first `size` rows stay, as in the published code.
        """
        # a batch is stored last row first, as always: in another order sums over the bank round differently, and
        # students would no longer have the bytes of earlier releases
        rows = rows[: self.size].detach().flip(0).to(self._buffer.dtype)
        sentences = sentences[: self.size][::-1]
        first = min(len(rows), self.size - self._next)
        self._buffer[self._next : self._next + first] = rows[:first]
        self._buffer[: len(rows) - first] = rows[first:]
        self._sentences[self._next : self._next + first] = sentences[:first]
        self._sentences[: len(rows) - first] = sentences[first:]
        self._next = (self._next + len(rows)) % max(self.size, 1)
        self._filled = min(self._filled + len(rows), self.size)

    def tensors(self) -> dict[str, Tensor]:
        """The content, for `load`."""
        sentences = torch.from_numpy(self.sentences)
        return {"rows": self.rows.cpu(), "sentences": sentences, "next": torch.tensor(self._next)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Become the bank that had these `tensors`. It had the same size and width."""
        self._filled = len(tensors["rows"])
        self._buffer[: self._filled] = tensors["rows"].to(self._buffer.device)
        self._sentences[: self._filled] = tensors["sentences"].numpy()
        self._next = int(tensors["next"])
