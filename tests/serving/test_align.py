import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distilcse_cli.config import EncodeSettings
from distilcse_cli.errors import DataError, VerdictError
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.runtime import Runtime
from distilcse_cli.serving.align import Fit, align, with_map
from distilcse_cli.serving.settings import AlignSettings
from distilcse_cli.teacher.space import Space, declared_space
from distilcse_cli.teacher.store import EmbeddingStore, open_store
from tests.tiny import WORDS

CPU = Runtime(device="cpu", dtype="float32", reason="test")
SENTENCES = [f"{a} {b} {c}" for a, b in pairwise(WORDS) for c in WORDS]
SETTINGS = AlignSettings(sentences=200, held_out=100)


@pytest.fixture
def student(tiny: Callable[..., Path]) -> ModelRef:
    return ModelRef(ref=str(tiny("bert")), pooler="avg")


@pytest.fixture
def make_store(student: ModelRef, tmp_path: Path) -> Callable[..., EmbeddingStore]:
    """`make_store(weight, bias)`: rows that are a linear map of the student's own vectors."""
    vectors = Embedder(student.load(), CPU, EncodeSettings()).sentences(SENTENCES)

    def make(weight: np.ndarray, bias: np.ndarray, *, normalized: bool = False, noise: float = 0.0) -> EmbeddingStore:
        folder = tmp_path / "store"
        folder.mkdir()
        rows = vectors @ weight.T + bias + noise * np.random.default_rng(3).normal(size=(len(vectors), len(weight)))
        if normalized:
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        np.save(folder / "embeddings.npy", rows.astype(np.float32))
        (folder / "sentences.txt").write_text("\n".join(SENTENCES) + "\n", encoding="utf-8")
        fields: dict[str, Any] = {"format_version": 1, "num_rows": len(rows), "rows_done": len(rows), "max_length": 8}
        fields |= {"num_truncated": 0, "normalized": normalized, "width": len(weight), "dtype": "float32"}
        fields |= {"teacher": "big", "teacher_fingerprint": "a" * 64, "corpus_fingerprint": "c" * 64}
        (folder / "manifest.json").write_text(json.dumps(fields), encoding="utf-8")
        return open_store(folder)

    return make


@pytest.mark.parametrize("width", [16, 24])
def test_a_teacher_that_is_a_linear_map_of_the_student_is_found(
    width: int, student: ModelRef, make_store: Callable[..., EmbeddingStore], tmp_path: Path
) -> None:
    draw = np.random.default_rng(0)
    store = make_store(draw.normal(size=(width, 16)), draw.normal(size=width))
    report = align(student, store, tmp_path / "aligned", SETTINGS, CPU)
    assert (report.num_sentences, report.num_held_out) == (200, 100)
    assert report.after.mean_cosine > 0.999
    assert report.after.neighbor_overlap > 95
    assert (report.before is None) == (width != 16)
    aligned = ModelRef(ref=str(tmp_path / "aligned"))
    made = Embedder(aligned.load(), CPU, EncodeSettings()).sentences(SENTENCES[:50])
    np.testing.assert_allclose(made, store.embeddings[:50], atol=0.05)
    assert declared_space(tmp_path / "aligned") == Space("big", "a" * 64)


def test_few_sentences_are_enough_where_only_directions_count(
    student: ModelRef, make_store: Callable[..., EmbeddingStore], tmp_path: Path
) -> None:
    # the rows have length 1 and the student's vectors have not: the map must not have to learn that first
    draw = np.random.default_rng(2)
    near = np.eye(16) + 0.05 * draw.normal(size=(16, 16))
    store = make_store(near, np.zeros(16), normalized=True, noise=0.3)
    report = align(student, store, tmp_path / "aligned", AlignSettings(sentences=24, held_out=100), CPU)
    assert report.before is not None
    assert report.after.mean_cosine > report.before.mean_cosine


def test_what_is_no_better_is_not_written(
    student: ModelRef, make_store: Callable[..., EmbeddingStore], tmp_path: Path
) -> None:
    store = make_store(np.eye(16), np.zeros(16))
    with pytest.raises(VerdictError, match=r"is no better aligned to .*; as it is: mean cosine 1\.0000, ten") as caught:
        align(student, store, tmp_path / "aligned", SETTINGS, CPU)
    assert caught.value.exit_code == 7
    assert not (tmp_path / "aligned").exists()


def test_better_is_more_neighbours_at_no_lower_cosine() -> None:
    fit = Fit(mean_cosine=0.5, neighbor_overlap=50)
    assert Fit(mean_cosine=0.5, neighbor_overlap=51).is_better_than(fit)
    assert not Fit(mean_cosine=0.4, neighbor_overlap=60).is_better_than(fit)
    assert not Fit(mean_cosine=0.6, neighbor_overlap=50).is_better_than(fit)


def test_a_second_map_is_folded_into_the_first_and_the_rows_are_scaled_as_the_stores(
    student: ModelRef, make_store: Callable[..., EmbeddingStore], tmp_path: Path
) -> None:
    draw = np.random.default_rng(1)
    store = make_store(draw.normal(size=(16, 16)), draw.normal(size=16), normalized=True)
    first, second = draw.normal(size=(5, 16)), draw.normal(size=(3, 5))
    once = with_map(student.load(), first, np.ones(5), normalize=False)
    twice = with_map(once, second, np.ones(3), normalize=False)
    assert len(twice.dense) == 1
    ids, mask = torch.tensor([[2, 7, 3]]), torch.ones(1, 3, dtype=torch.long)
    with torch.no_grad():
        expected = once(ids, mask).numpy() @ second.T + 1
        np.testing.assert_allclose(twice(ids, mask).numpy(), expected, rtol=1e-4)
    align(student, store, tmp_path / "aligned", SETTINGS, CPU)
    assert (tmp_path / "aligned" / "2_Dense").is_dir()
    assert ModelRef(ref=str(tmp_path / "aligned")).load().normalize


def test_a_store_that_is_too_small_is_named(
    student: ModelRef, make_store: Callable[..., EmbeddingStore], tmp_path: Path
) -> None:
    store = make_store(np.eye(16), np.zeros(16))
    settings = AlignSettings(sentences=len(SENTENCES) - 19)
    with pytest.raises(DataError, match=f"has {len(SENTENCES)} rows, but {len(SENTENCES) + 1} are needed"):
        align(student, store, tmp_path / "aligned", settings, CPU)
