"""A tiny teacher and small corpora for the tests of extraction."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.corpus import Corpus, prepare_corpus
from distilcse_cli.models.encoder import SentenceEncoder, load_encoder
from tests.tiny import WORDS


@pytest.fixture
def teacher(tiny: Callable[..., Path]) -> SentenceEncoder:
    return load_encoder(str(tiny("bert")), pooler="avg")


@pytest.fixture
def make_corpus(tmp_path: Path, home: Path) -> Callable[..., Corpus]:  # noqa: ARG001
    """`make_corpus(100, seed=0)`: so many different sentences of 2 to 20 words."""

    def make(num_sentences: int, seed: int = 0) -> Corpus:
        draw = random.Random(seed)
        lines = [f"{' '.join(draw.choices(WORDS, k=draw.randint(1, 19)))} {i}" for i in range(num_sentences)]
        path = tmp_path / f"corpus-{num_sentences}-{seed}.txt"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return prepare_corpus([str(path)], CorpusSettings())

    return make
