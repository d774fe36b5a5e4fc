"""Run a loaded backbone once on a few tokens: whether it works, and whether padding changes its rows.

Some architectures read what they should not: FNet and MobileBERT mix padding into every token, ConvBERT
convolves over it. No configuration says so, but three small forward passes show it.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from distilcse_cli.errors import ModelError
from distilcse_cli.models.backbone import NO_ENCODER, first_line, num_positions, quiet_transformers

_NUM_WORDS, _WIDE = 6, 16
_TOLERANCE = 1e-3
"""Relative difference of token vectors. Rounding gives 1e-6; architectures that read padding give 1e-2 and more."""


def reads_padding(source: str, backbone: Any, tokenizer: Any) -> bool:
    """Whether a sentence's token vectors change with its padding.

    Raises:
        ModelError: the backbone cannot be run on token ids alone, or its vectors also change with the other
            sentences of a batch or from call to call.
    """
    width = min(_WIDE, num_positions(backbone) or _WIDE)
    sentences = _sentences(tokenizer, min(_NUM_WORDS, width))
    one, other = sentences[:1], sentences[1:]
    with quiet_transformers(), torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            alone = _token_vectors(backbone, one, one.shape[1], tokenizer.pad_token_id)
            together = _token_vectors(backbone, torch.cat([one, other]), one.shape[1], tokenizer.pad_token_id)
            padded = _token_vectors(backbone, torch.cat([one, other]), width, tokenizer.pad_token_id)
        except Exception as error:  # whatever it needs, we have nothing else to give
            kind = backbone.config.model_type
            reason = first_line(error)
            raise ModelError(
                f"{source}: a {kind} cannot be run on token ids alone: {reason}", hint=NO_ENCODER
            ) from error
    if _differ(alone, together):
        kind = backbone.config.model_type
        raise ModelError(f"{source}: the rows of a {kind} are random or depend on the rest of a batch", hint=NO_ENCODER)
    return _differ(alone, padded)


def _sentences(tokenizer: Any, num_words: int) -> Tensor:
    """(2, num_words) ids of two different sentences."""
    words = np.array(sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids)))
    chosen = words[np.linspace(0, len(words) - 1, 2 * num_words).astype(np.int64)]
    return torch.from_numpy(chosen.astype(np.int64)).view(num_words, 2).T.contiguous()


def _token_vectors(backbone: Any, ids: Tensor, width: int, pad_id: int) -> Tensor:
    """(T, H) token vectors of the first sentence, computed `width` tokens wide."""
    num_words = ids.shape[1]
    padding = (0, width - num_words)
    ids = torch.nn.functional.pad(ids, padding, value=pad_id)
    mask = torch.nn.functional.pad(torch.ones(len(ids), num_words, dtype=torch.int64), padding)
    return backbone(input_ids=ids, attention_mask=mask).last_hidden_state[0, :num_words].float()


def _differ(first: Tensor, second: Tensor) -> bool:
    # not finite is another fault, which is reported with the sentence that shows it
    return bool((first - second).norm() > _TOLERANCE * first.norm())
