"""A smaller vocabulary: what stays, in which order, and that nothing else changes."""

import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast, RobertaTokenizer, XLMRobertaTokenizer

from distilcse_cli.data.tokens import tokenizer_fingerprint
from distilcse_cli.errors import ModelError, UsageError
from distilcse_cli.models.encoder import SentenceEncoder, load_encoder
from distilcse_cli.models.folder import save_student
from distilcse_cli.models.vocabulary import choose_entries, count, cut_vocabulary
from tests.models.test_encoder import embed
from tests.tiny import ARCHITECTURES, WORDS

CHARACTERS = len(string.ascii_lowercase + string.digits + string.punctuation)
STAY = 5 + 2 * CHARACTERS  # special tokens; characters, and their continuations


def counts_of(encoder: SentenceEncoder, times: dict[str, int]) -> np.ndarray:
    counts = np.zeros(len(encoder.tokenizer), dtype=np.int64)
    for piece, number in times.items():
        counts[encoder.tokenizer.convert_tokens_to_ids(piece)] = number
    return counts


def cut(encoder: SentenceEncoder, size: int, times: dict[str, int]) -> list[str]:
    """Cut a vocabulary; the pieces that are left."""
    cut_vocabulary(encoder, choose_entries(encoder, counts_of(encoder, times), size))
    return encoder.tokenizer.convert_ids_to_tokens(list(range(len(encoder.tokenizer))))


def test_ids_are_counted_up_to_the_highest() -> None:
    assert count(np.array([3, 1, 3, 0], dtype=np.uint16)).tolist() == [1, 1, 0, 2]
    assert count(np.array([], dtype=np.uint16)).sum() == 0


def test_the_most_frequent_words_stay_and_of_equals_the_first(tiny: Callable[..., Path]) -> None:
    encoder = load_encoder(str(tiny()), pooler="avg")
    # "a" is one of the words and one of the characters; of to, cat and dog, with the same count, the first two stay
    left = cut(encoder, STAY + 3, {"river": 9, "to": 4, "cat": 4, "dog": 4})
    assert [piece for piece in left if piece in WORDS] == ["a", "to", "cat", "river"]
    assert len(left) == STAY + 3
    assert encoder.tokenizer.tokenize("the cat to river") == ["t", "##h", "##e", "cat", "to", "river"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sentences_of_kept_words_keep_their_vectors(
    tiny: Callable[..., Path], tmp_path: Path, architecture: str
) -> None:
    encoder = load_encoder(str(tiny(architecture)), pooler="avg")
    texts = ["the cat eats", "a dog; the house!", "x"]
    before = embed(encoder, texts)
    cut(encoder, STAY + 6, dict.fromkeys(("the", "cat", "eats", "dog", "house", "big"), 1))
    torch.testing.assert_close(embed(encoder, texts), before, atol=1e-6, rtol=0)

    save_student(encoder, tmp_path / "student", card="", settings={})
    texts += ["the red river", "Zebra 7, \u00e9t\u00e9"]
    again = load_encoder(str(tmp_path / "student"))
    assert len(again.tokenizer) == len(again.backbone.get_input_embeddings().weight) == STAY + 6
    assert tokenizer_fingerprint(again.tokenizer) == tokenizer_fingerprint(encoder.tokenizer)
    ours = embed(again, texts).numpy()
    np.testing.assert_allclose(ours, embed(encoder, texts).numpy(), atol=1e-6, rtol=0)
    theirs = SentenceTransformer(str(tmp_path / "student"), device="cpu").encode(texts)
    np.testing.assert_allclose(theirs, ours, atol=1e-5, rtol=0)


def test_numbers_follow_in_the_tokenizer_and_the_configuration(tmp_path: Path) -> None:
    # a tokenizer whose special tokens come after a word that goes
    folder = model_with(spread_tokenizer("aaa"), tmp_path / "model", cls_token_id=4, eos_token_id=5)
    encoder = load_encoder(str(folder), pooler="avg")
    before = encoder.tokenizer("b c").input_ids
    assert before == [4, 6, 7, 5]
    assert cut(encoder, 8, {}) == ["[PAD]", "[UNK]", "a", "[CLS]", "[SEP]", "b", "c", "##a"]
    assert encoder.tokenizer("b c").input_ids == [3, 5, 6, 4]
    assert encoder.backbone.get_input_embeddings().padding_idx == encoder.backbone.config.pad_token_id == 0
    assert (encoder.backbone.config.cls_token_id, encoder.backbone.config.eos_token_id) == (3, 4)
    assert encoder.backbone.config.vocab_size == 8


def spread_tokenizer(word: str) -> PreTrainedTokenizerFast:
    pieces = ["[PAD]", "[UNK]", word, "a", "[CLS]", "[SEP]", "b", "c", "##a"]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.Sequence(
        [processors.BertProcessing(("[SEP]", 5), ("[CLS]", 4)), processors.ByteLevel()]
    )
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special)


def model_with(tokenizer: Any, folder: Path, kind: str = "bert", **config: int) -> Path:
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    size = max(tokenizer.get_vocab().values()) + 3  # two rows more than the tokenizer uses
    described = AutoConfig.for_model(
        kind, vocab_size=size, max_position_embeddings=66, **shape, **{"pad_token_id": tokenizer.pad_token_id, **config}
    )
    AutoModel.from_config(described).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_piece_stays_if_one_of_its_characters_has_no_entry(tmp_path: Path) -> None:
    encoder = load_encoder(str(model_with(spread_tokenizer("abc"), tmp_path / "model")), pooler="avg")
    # without ##b and ##c, "abc" is the only way to read abc
    assert "abc" in cut(encoder, 9, {})
    encoder = load_encoder(str(model_with(spread_tokenizer("abc"), tmp_path / "again")), pooler="avg")
    with pytest.raises(UsageError, match="--vocab-size 8 is too small") as refused:
        cut(encoder, 8, {})
    assert str(refused.value.hint).endswith("is 9")


BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
MERGES = [("t", "h"), ("th", "e"), ("\u0120", "the"), ("c", "a"), ("ca", "t"), ("\u0120", "cat"), ("\u0120", "ca")]
RESERVED = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def bpe(tmp_path: Path) -> SentenceEncoder:
    """A RoBERTa whose byte-level BPE knows the pieces of " the" and " cat"."""
    pieces = [*RESERVED[:4], *BYTES, *(left + right for left, right in MERGES), "<mask>"]
    tokenizer = RobertaTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=MERGES, model_max_length=64)
    return load_encoder(str(model_with(tokenizer, tmp_path / "bpe", "roberta")), pooler="avg")


def fast(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    names = ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, **dict(zip(names, RESERVED, strict=True))
    )


def saved_model(encoder: SentenceEncoder, folder: Path) -> dict:
    save_student(encoder, folder, card="", settings={})
    return json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]


@pytest.mark.parametrize(
    ("more", "left", "merges"),
    [
        # " the" needs "the", which needs "th": all three count as often as it, and the shorter ones come first
        (2, ["th", "the"], [["t", "h"], ["th", "e"]]),
        (4, ["th", "the", "\u0120the", "ca"], [["t", "h"], ["th", "e"], ["\u0120", "the"], ["c", "a"]]),
    ],
)
def test_a_merged_entry_keeps_what_it_is_merged_from(
    tmp_path: Path, more: int, left: list[str], merges: list[list[str]]
) -> None:
    encoder = bpe(tmp_path)
    before = embed(encoder, ["the"])
    cut(encoder, 261 + more, {"\u0120the": 5, "ca": 1})
    model = saved_model(encoder, tmp_path / "student")
    assert [piece for piece in model["vocab"] if len(piece) > 1 and piece not in RESERVED] == left
    assert model["merges"] == merges
    if more > 2:
        torch.testing.assert_close(embed(encoder, ["the"]), before, atol=1e-6, rtol=0)
    text = "the cat \u20ac\U0001f600"
    again = load_encoder(str(tmp_path / "student"))
    ids = again.tokenizer(text).input_ids
    assert again.tokenizer.decode(ids, skip_special_tokens=True).strip() == text
    # positions of a RoBERTa begin after its padding token, so that keeps its number
    assert again.tokenizer.pad_token_id == again.backbone.embeddings.padding_idx == 1
    theirs = SentenceTransformer(str(tmp_path / "student"), device="cpu").encode([text])
    np.testing.assert_allclose(theirs, embed(again, [text]).numpy(), atol=1e-5, rtol=0)


def test_unigram_pieces_keep_their_scores(tmp_path: Path) -> None:
    letters = [("\u2581", -3.0), *((one, -4.0) for one in "abcdet")]
    words = [("\u2581cat", -1.5), ("\u2581bed", -1.25), ("cat", -2.0), ("ed", -2.5)]
    pieces = [*((name, 0.0) for name in RESERVED[:4]), *letters, *words, ("<mask>", 0.0)]
    tokenizer = XLMRobertaTokenizer(vocab=pieces, model_max_length=64)
    encoder = load_encoder(str(model_with(tokenizer, tmp_path / "unigram", "xlm-roberta")), pooler="avg")
    before = embed(encoder, ["bed"])
    assert encoder.tokenizer.tokenize("cat bed") == ["\u2581cat", "\u2581bed"]
    cut(encoder, 4 + 7 + 1 + 2, {"\u2581bed": 4, "ed": 4, "cat": 3})
    model = saved_model(encoder, tmp_path / "student")
    assert model["vocab"][-3:] == [["\u2581bed", -1.25], ["ed", -2.5], ["<mask>", 0.0]]
    assert model["unk_id"] == 3
    torch.testing.assert_close(embed(encoder, ["bed"]), before, atol=1e-6, rtol=0)
    again = load_encoder(str(tmp_path / "student"))
    assert again.tokenizer.tokenize("cat bed") == ["\u2581", "c", "a", "t", "\u2581bed"]
    theirs = SentenceTransformer(str(tmp_path / "student"), device="cpu").encode(["cat bed z"])
    np.testing.assert_allclose(theirs, embed(again, ["cat bed z"]).numpy(), atol=1e-5, rtol=0)


def test_no_text_becomes_unknown(tiny: Callable[..., Path]) -> None:
    encoder = load_encoder(str(tiny()), pooler="avg")
    draw = np.random.default_rng(0)
    texts = ["".join(draw.choice([*string.printable, "\u00e9", "\u4e2d"], size=12)) for _ in range(300)]
    unknown = encoder.tokenizer.unk_token_id

    def unknown_of(ids: list[list[int]]) -> list[int]:
        return [row.count(unknown) for row in ids]

    before = unknown_of(encoder.tokenizer(texts).input_ids)
    cut(encoder, STAY + 1, {})
    assert unknown == encoder.tokenizer.unk_token_id
    assert unknown_of(encoder.tokenizer(texts).input_ids) == before
    assert sum(before) > 0


@pytest.mark.parametrize(("size", "hint"), [(STAY - 1, f"is {STAY}"), (10_000, f"from {STAY} (what")])
def test_an_impossible_size_names_the_smallest_possible_one(tiny: Callable[..., Path], size: int, hint: str) -> None:
    encoder = load_encoder(str(tiny()), pooler="avg")
    tokenizer = encoder.tokenizer
    with pytest.raises(UsageError, match=f"--vocab-size {size} is") as refused:
        cut(encoder, size, {})
    assert hint in str(refused.value.hint)
    assert encoder.tokenizer is tokenizer


def test_a_vocabulary_of_whole_words_is_refused(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate([*RESERVED, "cat"])}, unk_token="<unk>"))
    encoder = load_encoder(str(model_with(fast(tokenizer), tmp_path / "words")), pooler="avg")
    with pytest.raises(ModelError, match="is a WordLevel, which has no pieces to fall back on"):
        cut(encoder, 6, {})


@pytest.mark.parametrize(("dtype", "error"), [("float16", 2e-3), ("bfloat16", 2e-2)])
def test_weights_on_disk_have_half_the_bytes_and_compute_in_fp32(
    tiny: Callable[..., Path], tmp_path: Path, dtype: str, error: float
) -> None:
    encoder = load_encoder(str(tiny()), pooler="cls")  # with a dense layer after the pooling
    save_student(encoder, tmp_path / "half", card="", settings={}, dtype=dtype)
    for file in (tmp_path / "half").rglob("model.safetensors"):
        assert {tensor.dtype for tensor in load_file(file).values()} == {getattr(torch, dtype)}
    texts = ["the cat eats", "a dog"]
    again = load_encoder(str(tmp_path / "half"))
    ours = embed(again, texts).numpy()
    assert 0 < abs(ours - embed(encoder, texts).numpy()).max() < error * abs(ours).max()
    theirs = SentenceTransformer(str(tmp_path / "half"), device="cpu").encode(texts)
    assert theirs.dtype == np.float32
    np.testing.assert_allclose(theirs, ours, atol=1e-5, rtol=0)
    assert AutoModel.from_pretrained(tmp_path / "half").dtype == torch.float32


def test_a_weight_too_large_for_fp16_is_named(tiny: Callable[..., Path], tmp_path: Path) -> None:
    encoder = load_encoder(str(tiny()), pooler="avg")
    with torch.no_grad():
        encoder.backbone.embeddings.word_embeddings.weight[7, 3] = 70_000.0
    with pytest.raises(UsageError, match=r"word_embeddings.weight has numbers too large for float16"):
        save_student(encoder, tmp_path / "half", card="", settings={}, dtype="float16")
    assert not (tmp_path / "half").exists()
