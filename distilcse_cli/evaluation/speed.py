"""How fast models embed, measured side by side."""

import statistics
import time
from collections.abc import Callable, Mapping

SPEED_ROUNDS = 3


def sentences_per_second(jobs: Mapping[str, Callable[[], object]], num_sentences: int) -> dict[str, float]:
    """The median speed of each job over some rounds.

    The jobs take turns, so that other work of the machine slows all of them alike.

    Args:
        jobs: each embeds the sentences once when it is called. The caller has called each before.
        num_sentences: how many each embeds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(SPEED_ROUNDS):
        for name, job in jobs.items():
            started = time.perf_counter()
            job()
            seconds[name].append(time.perf_counter() - started)
    return {name: num_sentences / statistics.median(taken) for name, taken in seconds.items()}
