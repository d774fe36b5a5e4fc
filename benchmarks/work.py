"""Multiply-adds that a job needs, from the model's configuration, without any padding.

A BERT layer of width H with an inner width I does, for a sentence of T tokens:

- T x 4 H^2: queries, keys, values, and the product behind the attention
- T x 2 H I: the two products of the feed-forward block
- 2 T^2 H: scores of all tokens against all, and the weighted sum of values

That is for poolings that read all tokens; one that reads the first alone needs less of the last layer.
Looking embeddings up, layer norms, activations and softmax are not counted. Shape letters: H width,
I inner width, T tokens, K rows of the bank, B sentences of a batch, D teacher width.
"""

from typing import Any

import numpy as np


def encode_multiply_adds(lengths: np.ndarray, config: Any) -> int:
    """Of a forward pass over sentences of these (N,) lengths."""
    lengths = np.asarray(lengths, dtype=np.int64)
    width, inner, num_layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    of_tokens = int(lengths.sum()) * (4 * width * width + 2 * width * inner)
    of_pairs = 2 * width * int((lengths * lengths).sum())
    return num_layers * (of_tokens + of_pairs)


def train_multiply_adds(lengths: np.ndarray, config: Any, *, batch_size: int, bank_size: int, teacher_dim: int) -> int:
    """Of stage-1 training on sentences of these lengths: forward, and twice as much backward.

    The scores against batch and bank are taken forward, and backward towards the student only. A
    projection to another width costs its product three times.
    """
    num = len(lengths)
    scores = 2 * num * (batch_size + bank_size) * teacher_dim
    projection = 0 if teacher_dim == config.hidden_size else 3 * num * config.hidden_size * teacher_dim
    return 3 * encode_multiply_adds(lengths, config) + scores + projection
