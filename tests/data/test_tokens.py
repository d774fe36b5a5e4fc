"""Token rows equal what the tokenizer itself gives; the store keeps them, checked and memory-mapped."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.corpus import Corpus, prepare_corpus
from distilcse_cli.data.tokens import open_tokens, tokenize, tokenize_corpus, tokenizer_fingerprint
from distilcse_cli.errors import DataError, ModelError, UsageError
from tests.tiny import tiny_tokenizer

pytestmark = pytest.mark.usefixtures("home")
SENTENCES = ["the cat sleeps", "", "a dog", "the big man and the woman eats in the house on the river", "é 中 ?"]


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer()


def ids_of(tokenizer: PreTrainedTokenizerFast, *pieces: str) -> list[int]:
    return tokenizer.convert_tokens_to_ids(["[CLS]", *pieces, "[SEP]"])


def corpus_of(folder: Path, sentences: list[str], name: str = "corpus.txt") -> Corpus:
    (folder / name).write_text("\n".join(sentences), encoding="utf-8")
    return prepare_corpus([str(folder / name)], CorpusSettings())


def test_rows_hold_special_tokens_and_truncation_is_counted(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = tokenize(["the cat sleeps", "", "a dog", "the man eats a dog"], tokenizer, 5)
    assert [row.tolist() for row in map(rows.row, range(4))] == [
        ids_of(tokenizer, "the", "cat", "sleeps"),  # 5 tokens fit exactly
        ids_of(tokenizer),
        ids_of(tokenizer, "a", "dog"),
        ids_of(tokenizer, "the", "man", "eats"),  # 7 would be needed
    ]
    assert rows.lengths.tolist() == [5, 2, 4, 5]
    assert rows.offsets.tolist() == [0, 5, 7, 11, 16]
    assert rows.num_truncated == 1
    # the vocabulary's ids are below 256
    assert (rows.ids.dtype, rows.offsets.dtype, len(rows)) == (np.uint8, np.int64, 4)


@pytest.mark.parametrize("max_length", [3, 4, 7, 64])
def test_rows_are_what_the_tokenizer_call_gives(tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
    rows = tokenize(SENTENCES, tokenizer, max_length)
    expected = tokenizer(SENTENCES, truncation=True, max_length=max_length)["input_ids"]
    assert [rows.row(i).tolist() for i in range(len(rows))] == expected


def test_a_tokenizer_that_truncates_on_the_left_does_so(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.truncation_side = "left"
    rows = tokenize(["the man eats a dog"], tokenizer, 4)
    assert rows.row(0).tolist() == ids_of(tokenizer, "a", "dog")


def test_the_tokenizer_is_left_as_it_was(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.backend_tokenizer.enable_truncation(9, stride=2)
    tokenizer.backend_tokenizer.enable_padding(length=12)
    before = tokenizer.backend_tokenizer.to_str()
    rows = tokenize(SENTENCES, tokenizer, 6)
    assert tokenizer.backend_tokenizer.to_str() == before
    assert rows.lengths.tolist() == [5, 2, 4, 6, 5]


def test_no_sentences_are_no_rows(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = tokenize([], tokenizer, 8)
    assert (len(rows), len(rows.ids), rows.num_truncated) == (0, 0, 0)


def test_pad_by_hand(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = tokenize(["the cat", "", "a"], tokenizer, 8)
    the, cat, a, cls, sep = tokenizer.convert_tokens_to_ids(["the", "cat", "a", "[CLS]", "[SEP]"])
    ids, mask = rows.pad(np.array([2, 0, 1, 2]), pad_id=9)
    assert ids.tolist() == [[cls, a, sep, 9], [cls, the, cat, sep], [cls, sep, 9, 9], [cls, a, sep, 9]]
    assert mask.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]
    assert ids.dtype == mask.dtype == torch.int64
    ids, mask = rows.pad(np.array([1]), pad_id=9, width=4)
    assert (ids.tolist(), mask.tolist()) == ([[cls, sep, 9, 9]], [[1, 1, 0, 0]])
    with pytest.raises(ValueError, match="a row of 4 tokens in a batch 3 wide"):
        rows.pad(np.array([0]), pad_id=9, width=3)


def test_pad_agrees_with_the_rows_on_random_batches(tokenizer: PreTrainedTokenizerFast) -> None:
    generator = np.random.default_rng(0)
    rows = tokenize([" ".join(["cat"] * n) for n in generator.integers(0, 20, 50)], tokenizer, 12)
    batch = generator.integers(0, 50, 33)
    ids, mask = rows.pad(batch, pad_id=tokenizer.pad_token_id)
    for i, row in enumerate(batch):
        assert ids[i, : mask[i].sum()].tolist() == rows.row(row).tolist()
        assert mask[i].sum() == rows.lengths[row]
    assert (ids[mask == 0] == tokenizer.pad_token_id).all()


def test_a_store_holds_the_corpus_and_is_made_once(
    home: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = corpus_of(tmp_path, [f"the cat {'a ' * (i % 7)}dog {i}" for i in range(5000)])
    store = tokenize_corpus(corpus, tokenizer, 8)
    expected = tokenize(list(corpus), tokenizer, 8)
    assert np.array_equal(store.ids, expected.ids)
    assert np.array_equal(store.offsets, expected.offsets)
    assert store.num_truncated == expected.num_truncated > 0
    said = capsys.readouterr().err
    assert f"{store.num_truncated:,} sentences" in said
    assert "cut to 8 tokens" in said
    assert store.folder.parent == home / "tokens"
    assert store.manifest["corpus_fingerprint"] == corpus.fingerprint
    assert store.manifest["tokenizer_fingerprint"] == tokenizer_fingerprint(tokenizer)
    assert np.load(store.folder / "ids.npy").dtype == np.uint8
    made = (store.folder / "ids.npy").stat().st_mtime_ns
    again = tokenize_corpus(corpus, tokenizer, 8)
    assert (again.folder / "ids.npy").stat().st_mtime_ns == made
    assert len({store.folder, tokenize_corpus(corpus, tokenizer, 9).folder}) == 2
    other = corpus_of(tmp_path, ["the cat"], "other.txt")
    assert tokenize_corpus(other, tokenizer, 8).folder != store.folder


def test_damage_in_the_cache_is_mended_and_elsewhere_refused(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    corpus = corpus_of(tmp_path, ["the cat", "a dog"])
    store = tokenize_corpus(corpus, tokenizer, 8)
    expected = store.ids.tolist()
    for name in ("ids.npy", "offsets.npy", "manifest.json"):
        path = store.folder / name
        path.write_bytes(path.read_bytes()[:-3])
        with pytest.raises(DataError):
            open_tokens(store.folder)
        assert tokenize_corpus(corpus, tokenizer, 8).ids.tolist() == expected
    manifest = json.loads((store.folder / "manifest.json").read_text())
    (store.folder / "manifest.json").write_text(json.dumps(manifest | {"format_version": 2}))
    with pytest.raises(DataError, match="has format version 2"):
        tokenize_corpus(corpus, tokenizer, 8)
    (store.folder / "manifest.json").write_text(json.dumps(manifest | {"num_rows": 3}))
    with pytest.raises(DataError, match="is not a token store"):
        open_tokens(store.folder)
    with pytest.raises(DataError):
        open_tokens(tmp_path)


@pytest.mark.parametrize("name", ["ids.npy", "offsets.npy"])
def test_damage_that_leaves_the_size_is_mended_too(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    corpus = corpus_of(tmp_path, ["the cat", "a dog"])
    store = tokenize_corpus(corpus, tokenizer, 8)
    content = (store.folder / name).read_bytes()
    damaged = bytearray(content)
    damaged[-9] = 255  # in the ids, one beyond the vocabulary; in the offsets, the second sentence's start
    assert len(tokenizer) < 255
    (store.folder / name).write_bytes(damaged)
    tokenize_corpus(corpus, tokenizer, 8)
    assert (store.folder / name).read_bytes() == content
    assert f"{store.folder} is damaged and is made again" in capsys.readouterr().err


def test_pickled_arrays_are_refused(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    store = tokenize_corpus(corpus_of(tmp_path, ["the cat"]), tokenizer, 8)
    np.save(store.folder / "offsets.npy", np.array([object()]), allow_pickle=True)
    manifest = json.loads((store.folder / "manifest.json").read_text())
    manifest["files"]["offsets.npy"] = (store.folder / "offsets.npy").stat().st_size
    (store.folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="is not a token store"):
        open_tokens(store.folder)


def test_the_fingerprint_sees_the_vocabulary_and_not_the_padding(tokenizer: PreTrainedTokenizerFast) -> None:
    fingerprint = tokenizer_fingerprint(tokenizer)
    tokenizer(["a", "the cat"], padding=True, truncation=True, max_length=4)
    assert tokenizer_fingerprint(tokenizer) == fingerprint == tokenizer_fingerprint(tiny_tokenizer(max_length=32))
    tokenizer.add_tokens(["zebra"])
    assert tokenizer_fingerprint(tokenizer) != fingerprint


def test_the_fingerprint_survives_saving(tiny: Callable[..., Path], tmp_path: Path) -> None:
    loaded = AutoTokenizer.from_pretrained(tiny("bert"))
    loaded.save_pretrained(tmp_path)
    assert tokenizer_fingerprint(AutoTokenizer.from_pretrained(tmp_path)) == tokenizer_fingerprint(loaded)


def word_level(*words: str) -> PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tiny_tokenizer().backend_tokenizer.pre_tokenizer
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="[MASK]", **names)


def test_a_tokenizer_of_special_tokens_only_is_refused() -> None:
    with pytest.raises(ModelError, match="the tokenizer has no vocabulary"):
        tokenize(["one"], word_level(), 8)


def test_a_tokenizer_that_knows_less_than_half_is_refused(home: Path, tmp_path: Path) -> None:
    # 40 known words of 100, then 60 of 100
    text = ["cat " * 40 + "dog " * 60]
    with pytest.raises(ModelError, match="no vocabulary for this text: 60% of it is unknown"):
        tokenize(text, word_level("cat"), 128)
    with pytest.raises(ModelError, match="60% of it is unknown"):
        tokenize_corpus(corpus_of(tmp_path, text), word_level("cat"), 128)
    assert not list((home / "tokens").glob("[!.]*"))
    assert len(tokenize(text, word_level("dog"), 128)) == 1


def test_one_odd_line_is_no_reason_to_refuse(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenize(["中文 字"], tokenizer, 8).lengths.tolist() == [5]


def test_a_slow_tokenizer_and_a_length_without_room_are_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ModelError, match="object is no fast tokenizer"):
        tokenize(["a"], object(), 8)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--max-length 2 leaves no room"):
        tokenize(["a"], tokenizer, 2)


def test_a_hundred_thousand_characters_are_one_truncated_row(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = tokenize(["cat " * 25_000, "x" * 100_000], tokenizer, 16)
    assert rows.lengths.tolist() == [16, 3]  # a word beyond the tokenizer's length is one [UNK]
    assert rows.num_truncated == 1


@pytest.mark.real_model
def test_rows_of_real_news_are_what_the_real_tokenizer_call_gives(minilm: Path, data_dir: Path, tmp_path: Path) -> None:
    with gzip.open(data_dir / "news" / "news.en.txt.gz", "rb") as file:
        (tmp_path / "news.txt").write_bytes(b"".join(next(file) for _ in range(2000)))
    corpus = prepare_corpus([str(tmp_path / "news.txt")], CorpusSettings())
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    store = tokenize_corpus(corpus, tokenizer, 32)
    whole = tokenizer(list(corpus))["input_ids"]
    # cutting keeps the last token, [SEP]
    assert [store.row(i).tolist() for i in range(2000)] == [
        row if len(row) <= 32 else [*row[:31], row[-1]] for row in whole
    ]
    assert store.num_truncated == sum(len(row) > 32 for row in whole)
    assert store.ids.dtype == np.uint16
