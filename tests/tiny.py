"""Tiny models of random weights, one of each architecture, with a tokenizer that knows every ASCII word."""

import string
from pathlib import Path

import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from distilcse_cli.models.backbone import quiet_transformers

ARCHITECTURES = ("bert", "roberta", "distilbert", "mpnet", "modernbert")
WORDS = (
    *("the", "a", "of", "to", "and", "in", "on", "is", "was", "cat", "dog", "man", "woman", "child", "house"),
    *("river", "market", "bank", "plays", "eats", "runs", "sleeps", "red", "big"),
)


def make_tiny(
    architecture: str, folder: Path, *, width: int = 16, num_layers: int = 3, seed: int = 0, dropout: float = 0.0
) -> Path:
    """Save a model of random weights and its tokenizer in `folder`, in plain transformers layout."""
    tokenizer = tiny_tokenizer()
    torch.manual_seed(seed)
    model = AutoModel.from_config(_config(architecture, len(tokenizer), width, num_layers, dropout))
    # the default spread of 0.02 makes every embedding nearly the same one
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.2)
    with quiet_transformers():  # its progress bar would stand in what a test captures
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_tokenizer(max_length: int = 64) -> PreTrainedTokenizerFast:
    """Lower-casing WordPiece over some words, all ASCII characters and their continuations."""
    characters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *characters, *(f"##{c}" for c in characters)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=max_length,
    )


def _config(architecture: str, vocab_size: int, width: int, num_layers: int, dropout: float) -> AutoConfig:
    common = {"vocab_size": vocab_size, "pad_token_id": 0, "max_position_embeddings": 66}
    if architecture == "distilbert":
        shape = {"dim": width, "hidden_dim": 2 * width, "n_layers": num_layers, "n_heads": 2}
        rates = {"dropout": dropout, "attention_dropout": dropout}
    else:
        shape = {
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": num_layers,
            "num_attention_heads": 2,
        }
        rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    if architecture == "modernbert":
        rates = {"attention_dropout": dropout, "embedding_dropout": dropout, "mlp_dropout": dropout}
        shape |= {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    return AutoConfig.for_model(architecture, **common, **shape, **rates)
