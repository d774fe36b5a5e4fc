import gc
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distilcse_cli.config import EncodeSettings
from distilcse_cli.data.tokens import tokenize
from distilcse_cli.errors import DataError, ModelError
from distilcse_cli.models.batching import first_non_finite_row, token_budget_batches, windows
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder, load_encoder
from distilcse_cli.ranks import Ranks
from distilcse_cli.runtime import Runtime

CPU = Runtime(device="cpu", dtype="float32", reason="test")
SENTENCES = [
    "the cat sleeps",
    "a big red dog runs to the river and eats",
    "",
    "market",
    "the woman plays in the house of the child on the bank of the big river",
    "a man and a dog",
]


@pytest.fixture
def encoder(tiny: Callable[..., Path]) -> SentenceEncoder:
    return load_encoder(str(tiny("bert")), pooler="avg")


def one_by_one(encoder: SentenceEncoder, sentences: list[str]) -> np.ndarray:
    rows = []
    with torch.no_grad():
        for sentence in sentences:
            ids = encoder.tokenizer(sentence, return_tensors="pt")["input_ids"]
            rows.append(encoder(ids, torch.ones_like(ids)))
    return torch.cat(rows).numpy()


def plan(lengths: list[int], batch_tokens: int) -> list[list[int]]:
    return [batch.tolist() for batch in token_budget_batches(np.array(lengths), batch_tokens)]


def test_batches_by_hand() -> None:
    # longest first, ties in order: rows 1, 3 (7 tokens), 4 (5), 0 (3), 2 (2)
    # 14 tokens hold two rows of 7; then two rows padded to 5 (a third would be 15); then row 2 is left
    assert plan([3, 7, 2, 7, 5], 14) == [[1, 3], [4, 0], [2]]


def test_a_row_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    assert plan([9, 2, 9, 2], 4) == [[0], [2], [1, 3]]


def test_no_rows_make_no_batches() -> None:
    assert plan([], 8) == []


def test_a_budget_of_nothing_is_a_bug_of_the_caller() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        plan([1], 0)


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 100))
def test_every_row_is_in_one_batch_and_no_batch_is_over_budget(lengths: list[int], budget: int) -> None:
    batches = plan(lengths, budget)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[row] for row in batch)
        assert len(batch) == 1 or len(batch) * longest <= budget
        assert lengths[batch[0]] == longest


def test_windows_by_hand() -> None:
    assert list(windows(["a", "b", "c", "d", "e"], 2)) == [["a", "b"], ["c", "d"], ["e"]]
    # the third sentence brings the first window to 5 characters
    assert list(windows(["aa", "bb", "c", "dd"], 10, max_chars=5)) == [["aa", "bb", "c"], ["dd"]]
    assert list(windows([], 2)) == []


@pytest.mark.parametrize("batch_tokens", [1, 20, 8192])
def test_rows_come_out_in_the_order_of_the_sentences(encoder: SentenceEncoder, batch_tokens: int) -> None:
    rows = tokenize(SENTENCES, encoder.tokenizer, encoder.max_length)
    embeddings = Embedder(encoder, CPU, EncodeSettings(batch_tokens=batch_tokens, normalize=False)).rows(rows)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, one_by_one(encoder, SENTENCES), atol=1e-5)


def test_rows_and_sentences_are_cut_into_the_same_batches(encoder: SentenceEncoder) -> None:
    shapes = []
    encoder.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    full = CPU.batch_tokens // 16
    sentences = ["cat " * 14] * (full + 6)
    Embedder(encoder, CPU).rows(tokenize(sentences, encoder.tokenizer, encoder.max_length))
    # a batch of 16 tokens each, and the 6 that are left; where there are threads, either may come first
    assert sorted(shapes) == [(6, 16), (full, 16)]
    Embedder(encoder, CPU, EncodeSettings()).sentences(sentences)
    assert sorted(shapes[2:]) == sorted(shapes[:2])


def test_the_shapes_of_batches_are_few(encoder: SentenceEncoder) -> None:
    shapes = []
    encoder.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    sentences = [" ".join(["cat"] * num_words) for num_words in range(1, 50) for _ in range(3)]
    Embedder(encoder, CPU, EncodeSettings(batch_tokens=200)).sentences(sentences)
    # 3 to 51 tokens: every width up to 16, then every second up to 32, then every fourth
    assert {width for _, width in shapes} <= {*range(3, 16), *range(16, 32, 2), *range(32, 56, 4)}
    # 200 // width rows at a time; the last batch, of what is left, is filled up to 1, 2, 3, 4, 6, 8, 12, …
    assert all(rows == 200 // width for rows, width in shapes[:-1])
    last_rows, last_width = shapes[-1]
    assert last_rows in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 200 // last_width)


def test_padding_does_not_go_past_the_models_positions(tiny: Callable[..., Path]) -> None:
    encoder = load_encoder(str(tiny("bert")), pooler="avg", max_length=66)
    sentence = " ".join(["cat"] * 64)  # 66 tokens, all the positions there are; the next width would be 72
    np.testing.assert_allclose(
        Embedder(encoder, CPU, EncodeSettings()).sentences([sentence]), one_by_one(encoder, [sentence]), atol=1e-5
    )


def test_normalized_rows_have_length_one_and_the_same_direction(encoder: SentenceEncoder) -> None:
    raw = one_by_one(encoder, SENTENCES)
    embeddings = Embedder(encoder, CPU, EncodeSettings(normalize=True)).sentences(SENTENCES)
    np.testing.assert_allclose(embeddings, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-5)


def test_whether_rows_are_normalized_is_the_models_own_choice_unless_asked(encoder: SentenceEncoder) -> None:
    raw = one_by_one(encoder, SENTENCES)
    np.testing.assert_allclose(Embedder(encoder, CPU, EncodeSettings()).sentences(SENTENCES), raw, atol=1e-5)
    encoder.normalize = True
    normalized = Embedder(encoder, CPU, EncodeSettings()).sentences(SENTENCES)
    np.testing.assert_allclose(np.linalg.norm(normalized, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(
        Embedder(encoder, CPU, EncodeSettings(normalize=False)).sentences(SENTENCES), raw, atol=1e-5
    )


def test_bfloat16_products_still_give_float32_rows_of_nearly_the_same_direction(encoder: SentenceEncoder) -> None:
    runtime = Runtime(device="cpu", dtype="bfloat16", reason="test")
    settings = EncodeSettings(normalize=True)
    exact = Embedder(encoder, CPU, settings).sentences(SENTENCES)
    rounded = Embedder(encoder, runtime, settings).sentences(SENTENCES)
    assert rounded.dtype == np.float32
    assert not np.array_equal(exact, rounded)
    assert (exact * rounded).sum(axis=1).min() > 0.99
    np.testing.assert_allclose(np.linalg.norm(rounded, axis=1), 1, atol=1e-6)


def test_a_windows_rows_do_not_depend_on_the_windows_around_it(encoder: SentenceEncoder) -> None:
    settings = EncodeSettings(batch_tokens=30)
    stream = [window.embeddings for window in Embedder(encoder, CPU, settings).stream(SENTENCES, window_rows=3)]
    alone = Embedder(encoder, CPU, settings).sentences(SENTENCES[3:])
    assert stream[1].tobytes() == alone.tobytes()


def test_a_stream_is_read_one_window_at_a_time(encoder: SentenceEncoder) -> None:
    num_read = 0

    def endless() -> Iterator[str]:
        nonlocal num_read
        while True:
            num_read += 1
            yield "the cat sleeps"

    stream = Embedder(encoder, CPU, EncodeSettings()).stream(endless(), window_rows=4)
    for num_windows in range(1, 4):
        assert next(stream).embeddings.shape == (4, 16)
        assert num_read == 4 * num_windows


def test_a_stream_lets_go_of_the_windows_it_has_yielded(encoder: SentenceEncoder) -> None:
    class Line(str):
        """A line whose copies in memory can be counted."""

    alive = []
    for _ in Embedder(encoder, CPU, EncodeSettings()).stream((Line("a cat") for _ in range(40)), window_rows=4):
        alive.append(sum(type(thing) is Line for thing in gc.get_objects()))
    # the window at hand and the one just read
    assert max(alive) <= 8


def test_truncated_sentences_are_counted(encoder: SentenceEncoder) -> None:
    # with [CLS] and [SEP], "the cat sleeps" is 5 tokens long, "market" 3
    (window,) = Embedder(encoder, CPU, EncodeSettings(max_length=4)).stream(["the cat sleeps", "market"])
    assert window.num_truncated == 1
    cut, _ = window.embeddings
    np.testing.assert_allclose(cut, one_by_one(encoder, ["the cat"])[0], atol=1e-5)


def test_a_row_with_nan_is_named_with_its_sentence(encoder: SentenceEncoder) -> None:
    with torch.no_grad():
        encoder.backbone.get_input_embeddings().weight[encoder.tokenizer.convert_tokens_to_ids("market")] = torch.nan
    with pytest.raises(ModelError, match="NaN or infinity for row 13, 'market'"):
        list(Embedder(encoder, CPU, EncodeSettings()).stream(SENTENCES, first_row=10))
    rows = tokenize(SENTENCES, encoder.tokenizer, encoder.max_length)
    with pytest.raises(ModelError, match=r"NaN or infinity for row 3$"):
        Embedder(encoder, CPU, EncodeSettings(batch_tokens=64, normalize=True)).rows(rows)


def test_first_non_finite_row_by_hand() -> None:
    assert first_non_finite_row(np.array([[0.0, 1.0], [2.0, 3.0]])) is None
    assert first_non_finite_row(np.array([[0.0, 1.0], [2.0, np.inf], [np.nan, 0.0]])) == 1


def test_rows_too_large_for_float16_are_an_error_and_not_infinity(encoder: SentenceEncoder) -> None:
    with torch.no_grad():
        encoder.backbone.encoder.layer[-1].output.LayerNorm.weight.mul_(1e6)
    (window,) = Embedder(encoder, CPU, EncodeSettings(dtype="float16", normalize=True)).stream(SENTENCES)
    assert window.embeddings.dtype == np.float16
    with pytest.raises(DataError, match=r"the embedding of row 0 reaches .*, too large for float16"):
        list(Embedder(encoder, CPU, EncodeSettings(dtype="float16")).stream(SENTENCES))


def test_embedding_a_model_in_training_uses_no_dropout_and_leaves_it_in_training(tiny: Callable[..., Path]) -> None:
    encoder = load_encoder(str(tiny("bert", dropout=0.5)), pooler="avg")
    calm = Embedder(encoder, CPU, EncodeSettings()).sentences(SENTENCES)
    encoder.train()
    np.testing.assert_array_equal(Embedder(encoder, CPU, EncodeSettings()).sentences(SENTENCES), calm)
    assert encoder.training


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_are_those_of_the_weights_as_they_are_now(encoder: SentenceEncoder, dtype: str) -> None:
    runtime = Runtime(device="cpu", dtype=dtype, reason="test")
    embedder = Embedder(encoder, runtime)
    before = embedder.sentences(SENTENCES)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.1)
    ids = torch.tensor([[2, 5, 6, 3]])
    encoder(ids, torch.ones_like(ids)).square().sum().backward()
    optimizer.step()
    after = embedder.sentences(SENTENCES)
    assert not np.allclose(after, before, atol=0.05)
    assert after.tobytes() == Embedder(encoder, runtime).sentences(SENTENCES).tobytes()


def test_settings_are_resolved_when_the_embedder_is_made(encoder: SentenceEncoder) -> None:
    own = Embedder(encoder, CPU)
    assert (own.max_length, own.normalize, own.batch_tokens, own.dtype) == (64, False, 1536, "float32")
    settings = EncodeSettings(max_length=9, normalize=True, batch_tokens=7, dtype="float16")
    asked = Embedder(encoder, CPU, settings)
    assert (asked.max_length, asked.normalize, asked.batch_tokens, asked.dtype) == (9, True, 7, "float16")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_rows_of_the_cpu(encoder: SentenceEncoder) -> None:
    expected = Embedder(encoder, CPU, EncodeSettings()).sentences(SENTENCES)
    gpu = Runtime(device="cuda", dtype="float32", reason="test")
    embeddings = Embedder(encoder, gpu, EncodeSettings()).sentences(SENTENCES)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, expected, atol=1e-4)


def test_a_share_of_one_batch_is_computed_as_in_a_process_alone(encoder: SentenceEncoder) -> None:
    class Second(Ranks):
        def exchanged(self, compute: Callable[[], np.ndarray | None]) -> list[np.ndarray | None]:
            return [None, compute()]

    threads = []
    encoder.register_forward_hook(lambda *_: threads.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        embedder = Embedder(encoder, CPU, EncodeSettings(batch_tokens=1), Second(rank=1, world_size=2))
        with suppress(ModelError):  # the other rank's rows have never been filled in
            embedder.window(SENTENCES[:3])
    finally:
        torch.set_num_threads(before)
    assert threads == [1], "the second of three batches, by one thread as all of them are in a process alone"
