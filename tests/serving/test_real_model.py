"""Our numbers against those of sentence-transformers, on the packaged model and real lines."""

import gzip
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from distilcse_cli.config import EncodeSettings
from distilcse_cli.models.encoder import SentenceEncoder, load_encoder
from distilcse_cli.runtime import Runtime
from distilcse_cli.serving.encode import encode_file

pytestmark = pytest.mark.real_model


@pytest.fixture(scope="module")
def text(data_dir: Path) -> list[str]:
    """Real lines of both kinds, blank and over-long ones among them."""
    sentences = []
    for name in ("news.en.txt.gz", "captions.en.txt.gz"):
        with gzip.open(data_dir / "news" / name, "rt", encoding="utf-8", newline="\n") as file:
            sentences += [line.rstrip("\n") for line in islice(file, 0, 15_000, 100)]
    return [*sentences, "", " ".join(sentences[:40])]


@pytest.fixture(scope="module")
def reference(minilm: Path, text: list[str]) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(minilm), device="cpu").encode(text)


@pytest.fixture(scope="module")
def encoder(minilm: Path) -> SentenceEncoder:
    return load_encoder(str(minilm))


def encode(text: list[str], encoder: SentenceEncoder, dtype: str, folder: Path) -> np.ndarray:
    (folder / "text.txt").write_text("\n".join(text) + "\n", encoding="utf-8", newline="\n")
    runtime = Runtime(device="cpu", dtype=dtype, reason="test")
    report = encode_file(folder / "text.txt", encoder, folder / "rows.npy", EncodeSettings(), runtime)
    assert report.num_truncated == 1
    return np.load(folder / "rows.npy")


def test_float32_rows_are_those_of_sentence_transformers(
    text: list[str], encoder: SentenceEncoder, reference: np.ndarray, tmp_path: Path
) -> None:
    np.testing.assert_allclose(encode(text, encoder, "float32", tmp_path), reference, atol=1e-5)


def test_bfloat16_products_keep_every_cosine(
    text: list[str], encoder: SentenceEncoder, reference: np.ndarray, tmp_path: Path
) -> None:
    rows = encode(text, encoder, "bfloat16", tmp_path)
    assert (rows * reference).sum(axis=1).min() >= 0.999
