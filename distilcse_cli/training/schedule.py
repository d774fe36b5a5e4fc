"""The learning-rate schedule: linear warm-up, then a cosine to zero."""

import math


def cosine_with_warmup(step: int, *, num_steps: int, warmup_steps: float) -> float:
    """Factor of the highest learning rate to use in `step` (counted from 0).

    The first step uses 0, as in the published runs. `warmup_steps` need not be whole: the
    paper's is a tenth of one epoch, whatever that comes to.
    """
    if step < warmup_steps:
        return step / max(1.0, warmup_steps)
    progress = (step - warmup_steps) / max(1.0, num_steps - warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
