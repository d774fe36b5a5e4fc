import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distilcse_cli.config import EncodeSettings
from distilcse_cli.data.every_line import lines
from distilcse_cli.errors import DataError, ModelError
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder, load_encoder
from distilcse_cli.runtime import Runtime
from distilcse_cli.serving.encode import encode_file
from tests.serving.limits import largest_file

CPU = Runtime(device="cpu", dtype="float32", reason="test")


@pytest.fixture
def encoder(tiny: Callable[..., Path]) -> SentenceEncoder:
    return load_encoder(str(tiny("bert")), pooler="avg")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a\nb\n", ["a", "b"]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"\n\na\n\n", ["", "", "a", ""]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),
        ("a\u2028b\u0085c\x0bd\x1ce\n".encode(), ["a\u2028b\u0085c\x0bd\x1ce"]),
        (b"a\rb\n", ["a\rb"]),
        (b"a\0b\t c \na\0b\t c \n", ["a\0b\t c ", "a\0b\t c "]),
        (b"\n", [""]),
        (b"", []),
    ],
)
def test_lines_end_at_newlines_alone_and_none_is_lost(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    plain, packed = tmp_path / "plain.txt", tmp_path / "packed.txt.gz"
    plain.write_bytes(content)
    packed.write_bytes(gzip.compress(content))
    assert list(lines(plain)) == expected
    assert list(lines(packed)) == expected


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "latin1.txt"
    path.write_bytes(b"one\ntwo\ncaf\xe9\n")
    with pytest.raises(DataError, match=r"latin1\.txt, line 3 is not UTF-8: byte 0xe9 at position 4") as caught:
        list(lines(path))
    assert "row i is line i" in str(caught.value.hint)


def test_a_row_a_line_blank_and_repeated_ones_included(encoder: SentenceEncoder, tmp_path: Path) -> None:
    text = ["the cat", "", "a dog", "", "the cat", "  "]
    source, out = tmp_path / "text.txt", tmp_path / "rows.npy"
    source.write_text("\n".join(text) + "\n", encoding="utf-8")
    report = encode_file(source, encoder, out, EncodeSettings(), CPU)
    rows = np.load(out)
    assert report.num_rows == len(rows) == 6
    np.testing.assert_allclose(rows, Embedder(encoder, CPU).sentences(text), atol=1e-6)
    # a blank line is [CLS] [SEP], and so is a line of spaces
    np.testing.assert_array_equal(rows[1], rows[3])
    np.testing.assert_array_equal(rows[1], rows[5])
    np.testing.assert_array_equal(rows[0], rows[4])


def test_truncated_lines_are_counted(encoder: SentenceEncoder, tmp_path: Path) -> None:
    source = tmp_path / "text.txt"
    # with [CLS] and [SEP]: 5, 4 and 5 tokens
    source.write_text("the cat sleeps\na dog\nthe dog eats\n", encoding="utf-8")
    report = encode_file(source, encoder, tmp_path / "rows.npy", EncodeSettings(max_length=4), CPU)
    assert (report.num_truncated, report.max_length) == (2, 4)


def test_no_lines_are_an_error_and_no_file(encoder: SentenceEncoder, tmp_path: Path) -> None:
    source = tmp_path / "text.txt"
    source.write_bytes(b"")
    with pytest.raises(DataError, match="has no lines"):
        encode_file(source, encoder, tmp_path / "rows.npy", EncodeSettings(), CPU)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".jsonl", ".parquet"])
def test_a_failure_leaves_the_old_file_and_nothing_else(encoder: SentenceEncoder, tmp_path: Path, suffix: str) -> None:
    import torch

    source, out = tmp_path / "text.txt", tmp_path / f"rows{suffix}"
    source.write_text("the cat\nmarket\n", encoding="utf-8")
    out.write_bytes(b"old")
    with torch.no_grad():
        encoder.backbone.get_input_embeddings().weight[encoder.tokenizer.convert_tokens_to_ids("market")] = torch.nan
    with pytest.raises(ModelError, match="NaN or infinity for row 1, 'market'"):
        encode_file(source, encoder, out, EncodeSettings(), CPU)
    assert out.read_bytes() == b"old"
    assert sorted(tmp_path.iterdir()) == sorted([source, out])


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".jsonl", ".parquet"])
def test_a_disk_that_fills_up_is_one_line_and_no_file(encoder: SentenceEncoder, tmp_path: Path, suffix: str) -> None:
    source = tmp_path / "text.txt"
    # 400 rows of 16 float32 are 25,600 bytes
    source.write_text("".join(f"the cat {i}\n" for i in range(400)), encoding="utf-8")
    with largest_file(10_000), pytest.raises(DataError, match=rf"cannot write .*rows\{suffix}: .*File too large"):
        encode_file(source, encoder, tmp_path / f"rows{suffix}", EncodeSettings(), CPU)
    assert list(tmp_path.iterdir()) == [source]


def test_a_broken_gzip_file_is_an_error(encoder: SentenceEncoder, tmp_path: Path) -> None:
    source = tmp_path / "text.txt.gz"
    source.write_bytes(gzip.compress(b"the cat\n" * 1000)[:-4])
    with pytest.raises(DataError, match="is not a whole gzip file"):
        encode_file(source, encoder, tmp_path / "rows.npy", EncodeSettings(), CPU)
    assert list(tmp_path.iterdir()) == [source]
