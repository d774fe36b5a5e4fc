"""Readers of foreign files against bytes at random: rows, or one error, and never anything else."""

import contextlib
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

import senteval
from distilcse_cli import console
from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.cache import read_manifest as read_cache_manifest
from distilcse_cli.data.every_line import lines
from distilcse_cli.data.lines import BadLines
from distilcse_cli.data.sources import FileSource
from distilcse_cli.data.triplet_rows import triplet_rows
from distilcse_cli.errors import DistilCSEError
from distilcse_cli.models.layout import read_layout
from distilcse_cli.models.state_dict import read_state_dict
from distilcse_cli.teacher import store
from senteval import readers

SUITE = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), database=None)
SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".csv.gz", ".json", ".txt.zst")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
TEXTUAL = st.text(alphabet=st.sampled_from('ab,"\t\n\r\\{}[]: \ud800é0'), max_size=80)


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Only an error that a user can read may come out, and it has one line."""
    try:
        yield
    except (DistilCSEError, senteval.SentEvalError) as error:
        with contextlib.redirect_stderr(io.StringIO()) as screen:
            console.error(DistilCSEError(error.message))
        if not error.message.strip() or not screen.getvalue()[:-1].isprintable():
            raise AssertionError(f"no message of one line: {error.message!r}") from error


@contextlib.contextmanager
def file_of(content: bytes, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        yield path


@st.composite
def damaged(draw: st.DrawFn, whole: Callable[[], bytes]) -> bytes:
    """A good file with some bytes changed, taken out, put in, or its end cut off."""
    content = bytearray(whole())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        what = draw(st.sampled_from(("change", "take", "put", "cut")))
        if what == "change" and content:
            content[at] = draw(st.integers(0, 255))
        elif what == "take":
            del content[at : at + draw(st.integers(1, 40))]
        elif what == "put":
            content[at:at] = draw(st.binary(max_size=20))
        else:
            del content[at:]
    return bytes(content)


@cache
def whole_parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"text": ["the cat", "a dog"] * 20, "anchor": ["a"] * 40, "positive": ["b"] * 40}), file)
    return file.getvalue()


@cache
def whole_pth() -> bytes:
    file = io.BytesIO()
    torch.save({"embeddings.word_embeddings.weight": torch.ones(3, 2), "x": torch.ones(2)}, file)
    return file.getvalue()


@cache
def legacy_pth() -> bytes:
    file = io.BytesIO()
    tensors = {"embeddings.word_embeddings.weight": torch.ones(3, 2)}
    torch.save(tensors, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


@cache
def whole_safetensors() -> bytes:
    return save({"embeddings.word_embeddings.weight": torch.ones(3, 2)})


@cache
def whole_npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.ones((5, 4), dtype=np.float32))
    return file.getvalue()


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("policy", ["stop", "skip"])
@pytest.mark.parametrize("suffix", SUFFIXES)
@SUITE
@given(content=st.binary(max_size=200) | TEXTUAL.map(encoded))
def test_any_bytes_as_any_kind_of_text_file(suffix: str, policy: str, content: bytes) -> None:
    with file_of(content, f"file{suffix}") as path:
        with refusing():
            for texts in FileSource(path).texts(CorpusSettings(), BadLines(policy)):
                assert all(isinstance(text, str) and text.encode("utf-8") is not None for text in texts)
        with refusing():
            for row in triplet_rows(path, None, None, BadLines(policy)):
                assert all(text.strip() for text in row)
        with refusing():
            list(lines(path))


@SUITE
@given(content=damaged(whole_parquet))
def test_a_damaged_parquet_file(content: bytes) -> None:
    with file_of(content, "file.parquet") as path:
        with refusing():
            list(FileSource(path).texts(CorpusSettings(text_column="text"), BadLines("stop")))
        with refusing():
            list(triplet_rows(path, None, None, BadLines("stop")))


@pytest.mark.parametrize(
    ("suffix", "whole"), [(".pth", whole_pth), (".bin", legacy_pth), (".safetensors", whole_safetensors)]
)
def test_a_damaged_file_of_weights(suffix: str, whole: Callable[[], bytes]) -> None:
    @SUITE
    @given(content=damaged(whole) | st.binary(max_size=100))
    def attack(content: bytes) -> None:
        with file_of(content, f"weights{suffix}") as path, refusing():
            assert read_state_dict(path).num_embeddings >= 0

    attack()


@SUITE
@given(content=damaged(whole_npy), manifest=st.dictionaries(st.sampled_from(("num_rows", "width", "dtype")), JSON))
@example(content=whole_npy(), manifest={})
def test_a_damaged_array_or_manifest_of_a_store(content: bytes, manifest: dict[str, Any]) -> None:
    fields = {"format_version": 1, "num_rows": 5, "width": 4, "dtype": "float32", "rows_done": 5} | manifest
    with file_of(content, store.EMBEDDINGS) as path, refusing():
        (path.parent / store.MANIFEST).write_text(json.dumps(fields), encoding="utf-8")
        opened = store.open_store(path.parent)
        # whatever is opened can be read to its last row
        assert opened.embeddings.shape == (5, 4)
        with refusing():
            opened.check_rows()


@SUITE
@given(value=JSON | st.dictionaries(st.sampled_from(("format_version", "files", "report", "num_rows")), JSON))
def test_any_json_as_a_manifest(value: Any) -> None:
    with file_of(json.dumps(value).encode(), "manifest.json") as path:
        with refusing():
            store.read_manifest(path)
        with refusing():
            read_cache_manifest(path.parent, 1)


MODULE = st.fixed_dictionaries(
    {}, optional={"type": st.sampled_from(("sentence_transformers.models.Pooling", "x")) | JSON, "path": JSON}
)
POOLING = st.dictionaries(st.sampled_from(("pooling_mode", "pooling_mode_cls_token", "pooling_mode_mean_tokens")), JSON)


@SUITE
@given(modules=st.lists(MODULE, max_size=3) | JSON, pooling=POOLING | JSON, prompts=JSON)
def test_any_json_as_the_description_of_a_model(modules: Any, pooling: Any, prompts: Any) -> None:
    with file_of(json.dumps(modules).encode(), "modules.json") as path, refusing():
        (path.parent / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
        (path.parent / "config_sentence_transformers.json").write_text(json.dumps(prompts), encoding="utf-8")
        (path.parent / "sentence_bert_config.json").write_text(json.dumps(prompts), encoding="utf-8")
        read_layout(path.parent)


READERS = (
    readers.read_sts_benchmark,
    readers.read_sick_relatedness,
    readers.read_sick_entailment,
    readers.read_mrpc,
    readers.read_trec,
    readers.read_sst2,
    readers.read_sst5,
)


@SUITE
@given(content=st.binary(max_size=120) | TEXTUAL.map(encoded), gold=st.binary(max_size=30))
def test_any_bytes_as_evaluation_data(content: bytes, gold: bytes) -> None:
    with file_of(content, "data.txt") as path:
        for read in READERS:
            with refusing():
                assert all(np.isfinite(read([path]).labels))
        (path.parent / "gold.txt").write_bytes(gold)
        with refusing():
            assert all(np.isfinite(readers.read_sts([path, path.parent / "gold.txt"]).labels))
