"""A teacher that is only vectors: the same student as from a model's store with these rows."""

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distilcse_cli.models.encoder import load_encoder
from tests.training.conftest import write_corpus

pytestmark = pytest.mark.e2e
Command = Callable[..., subprocess.CompletedProcess[str]]
SMALL = ("--pooler", "avg", "--batch-size", 16, "--bank-size", 40, "--held-out", 5, "--device", "cpu")
FP32 = ("--compute-dtype", "float32")
NAME = ("--name", "api/large-3", "--terms", "no | rivals,\nplease")


def write_vectors(path: Path, texts: Sequence[str], rows: np.ndarray) -> None:
    pq.write_table(pa.table({"text": list(texts), "vector": list(rows)}), path)


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.real_model
def test_rows_of_sentence_transformers_make_the_student_that_a_store_of_the_model_makes(
    distilcse: Command, tmp_path: Path, home: Path, tiny: Callable[..., Path], minilm: Path, data_dir: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    assert data_dir.exists()
    write_corpus(tmp_path / "corpus.txt", 300)
    shutil.copytree(minilm, tmp_path / "teacher")
    texts = (tmp_path / "corpus.txt").read_text(encoding="utf-8").splitlines()
    rows = SentenceTransformer(str(tmp_path / "teacher"), device="cpu").encode(texts, batch_size=64)
    write_vectors(tmp_path / "vectors.parquet", texts, rows)

    # the ordinary path, with these rows in place of those that extract computes
    distilcse("extract", "--teacher", "teacher", "--corpus", "corpus.txt", "--out", "rows")
    np.save(tmp_path / "rows" / "embeddings.npy", rows)
    student = ("--student", tiny(), *SMALL, *FP32)
    distilcse(
        "distill", "--teacher", "teacher", "--corpus", "corpus.txt", "--embeddings", "rows", *student, "--out", "a"
    )

    for folder in ("teacher", "rows", "home/corpora"):
        shutil.rmtree(tmp_path / folder)
    distilcse("import", "vectors.parquet", *NAME, "--out", "store")
    done = distilcse("distill", "--embeddings", "store", *student, "--out", "b", "--json")
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    ours, usual = (json.loads((tmp_path / name / "distilcse.json").read_text(encoding="utf-8")) for name in "ba")
    assert json.loads(done.stdout)["agreement"] == usual["result"]["agreement"]
    assert ours["teacher"] == {
        **{"source": "api/large-3", "terms": "no | rivals,\nplease", "embedding_dim": 384},
        **{"num_parameters": None, "num_layers": None, "pooling": None},
    }
    card = (tmp_path / "b" / "README.md").read_text(encoding="utf-8")
    assert "| teacher | api/large-3 (vectors of 384 numbers) |" in card
    assert r"| the teacher's terms | no \| rivals, please |" in card
    assert home.exists()


def test_a_width_of_1536_goes_into_384_and_the_projection_is_kept(
    distilcse: Command, tmp_path: Path, home: Path, tiny: Callable[..., Path]
) -> None:
    write_corpus(tmp_path / "corpus.txt", 60)
    texts = (tmp_path / "corpus.txt").read_text(encoding="utf-8").splitlines()
    rows = np.random.default_rng(0).normal(size=(60, 1536)).astype(np.float32)
    write_vectors(tmp_path / "vectors.parquet", texts, rows)
    distilcse("import", "vectors.parquet", "--name", "api/large-3", "--out", "store")
    small = tiny(width=384, num_layers=1)
    options = ("--embeddings", "store", "--student", small, *SMALL, *FP32, "--max-steps", 2)
    distilcse("distill", *options, "--space", "teacher", "--out", "wide")
    assert load_encoder(str(tmp_path / "wide")).embedding_dim == 1536
    # the run repeats from its own settings, without a teacher or a corpus in them
    distilcse("distill", "--config", "wide/distilcse.toml", "--out", "again")
    assert weights(tmp_path / "again") == weights(tmp_path / "wide")
    assert (
        "is already finished"
        in distilcse("distill", *options, "--space", "teacher", "--out", "wide", "--resume").stderr
    )
    assert home.exists()


def test_what_needs_the_teachers_model_is_one_line(distilcse: Command, tmp_path: Path, home: Path) -> None:
    write_vectors(tmp_path / "v.parquet", ["a", "b", "c", "d"], np.eye(4, dtype=np.float32))
    distilcse("import", "v.parquet", "--name", "api/large-3", "--out", "store")
    given = ("distill", "--embeddings", "store", "--student")
    for arguments, code, message in (
        (("distill", "--student", "s"), 2, "no --teacher is given"),
        (
            (*given, "s", "--teacher-dropout"),
            2,
            "--teacher-dropout needs the teacher's model, but store has only its rows",
        ),
        ((*given, "s", "--teacher-pooler", "avg"), 2, "an option of the teacher needs the teacher's model"),
        (
            (*given, "api/large-3"),
            4,
            "no student can be cut from api/large-3: of this teacher there are only the vectors",
        ),
        ((*given, "store"), 4, "store is a store of embeddings, not a model"),
        (("distill", "--embeddings", "nowhere", "--student", "s"), 3, "nowhere does not exist"),
    ):
        said = distilcse("--offline", *arguments, "--out", "out", code=code)
        assert message in said.stderr.splitlines()[-1]
        assert said.stderr.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "out").exists()
    assert home.exists()


def test_a_model_cannot_stand_for_vectors_that_it_has_not_made(
    distilcse: Command, tmp_path: Path, home: Path, tiny: Callable[..., Path]
) -> None:
    write_vectors(tmp_path / "v.parquet", ["a", "b", "c", "d"], np.eye(4, dtype=np.float32))
    distilcse("import", "v.parquet", "--name", "api/large-3", "--out", "store")
    said = distilcse("distill", "--teacher", tiny(), "--embeddings", "store", "--student", tiny(), "--out", "s", code=3)
    assert "store holds vectors of api/large-3, which no model here has made" in said.stderr.splitlines()[-1]
    assert home.exists()
