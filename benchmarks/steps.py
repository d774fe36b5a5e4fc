"""Training in slices: what the sides of both stages have in common. Standard library only."""

import time
from typing import Any


class StepClock:
    """Times the steps of a slice behind the first few, in which shapes and buffers are new.

    Args:
        num_warmup: steps that are not counted.
    """

    def __init__(self, num_warmup: int) -> None:
        self._num_warmup = num_warmup
        self._num_steps = self._num = 0
        self._started = self._ended = time.perf_counter()

    def tick(self, num: int) -> None:
        """Called behind every step, with how many sentences or triples it took."""
        self._ended = time.perf_counter()
        self._num_steps += 1
        if self._num_steps <= self._num_warmup:
            self._started = self._ended
        else:
            self._num += num

    def figures(self) -> dict[str, Any]:
        """What `Peer.run` is to give: `num` done in `seconds`."""
        return {"num": self._num, "seconds": self._ended - self._started}
