"""Indexes of tiny models' rows: made, opened, searched and refused."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distilcse_cli.config import EncodeSettings
from distilcse_cli.errors import DataError, DeviceError, ModelError, UsageError
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.runtime import Runtime
from distilcse_cli.serving.index import build_index, default_factory
from distilcse_cli.serving.index_folder import open_index
from distilcse_cli.serving.index_rows import Rows, rows_of_array, rows_of_store
from distilcse_cli.serving.search import check_index, query_model, search
from distilcse_cli.serving.settings import IndexSettings, SearchSettings
from distilcse_cli.teacher.neighbours import unit_rows
from distilcse_cli.teacher.space import Space

CPU = Runtime(device="cpu", dtype="float32", reason="test")
LINES = ["the cat sleeps", "a dog runs", "", "a dog runs", "the market fell — čau", "red house"]


def made_up(folder: Path, rows: np.ndarray) -> Rows:
    """Rows of no model, with the sentences `row 0`, `row 1`, …"""
    np.save(folder / "rows.npy", rows.astype(np.float32))
    return Rows(
        path=folder / "rows.npy",
        embeddings=np.load(folder / "rows.npy", mmap_mode="r"),
        sentences=lambda: (f"row {number}" for number in range(len(rows))),
        space=Space("nobody", "0" * 64),
        model="nobody",
        pooling=None,
        prompt="",
    )


def clustered(num_rows: int, width: int = 16) -> np.ndarray:
    """Points around 40 centers, as sentences lie around subjects."""
    draw = np.random.default_rng(0)
    centers = draw.normal(size=(40, width))
    return centers[draw.integers(40, size=num_rows)] + draw.normal(size=(num_rows, width))


@pytest.fixture
def encoded(tiny: Callable[..., Path], tmp_path: Path) -> tuple[Path, Path, ModelRef]:
    """A text, its rows as `encode` writes them, and the model."""
    model = ModelRef(ref=str(tiny("bert")), pooler="avg")
    text, rows = tmp_path / "text.txt", tmp_path / "rows.npy"
    text.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    np.save(rows, Embedder(model.load(), CPU, EncodeSettings()).sentences(LINES))
    return text, rows, model


@pytest.fixture
def index(encoded: tuple[Path, Path, ModelRef], tmp_path: Path) -> Path:
    text, rows, model = encoded
    build_index(rows_of_array(rows, text, model, CPU), tmp_path / "index", IndexSettings())
    return tmp_path / "index"


def test_the_default_kind_by_hand() -> None:
    assert default_factory(100_000) == "Flat"
    # 1.4 sqrt(100,001) = 443, and 512 is nearer than 256 on a scale of factors; 1.4 sqrt(600,000) = 1,084
    assert default_factory(100_001) == "IVF512,SQ8"
    assert default_factory(600_000) == "IVF1024,SQ8"


def test_a_query_finds_its_own_line_first_and_scores_are_cosines(
    index: Path, encoded: tuple[Path, Path, ModelRef]
) -> None:
    opened = open_index(index)
    encoder = query_model(opened, None, lambda ref: ModelRef(ref=ref), None)  # pooling and model from the manifest
    found = dict(search(opened, ["red house", "a dog runs"], encoder, SearchSettings(k=6), CPU))
    unit = unit_rows(np.load(encoded[1]))
    cosines = unit @ unit.T
    for query, row in (("red house", 5), ("a dog runs", 1)):
        assert found[query][0].sentence == query
        assert [hit.rank for hit in found[query]] == [1, 2, 3, 4, 5, 6]
        assert sorted(hit.row for hit in found[query]) == [0, 1, 2, 3, 4, 5]
        for hit in found[query]:
            assert hit.score == pytest.approx(cosines[row, hit.row], abs=1e-5)
            assert hit.sentence == LINES[hit.row]


def test_a_store_is_indexed_with_its_own_sentences_and_space(index: Path, tmp_path: Path) -> None:  # noqa: ARG001
    store = tmp_path / "store"
    store.mkdir()
    rows = np.eye(3, 5, dtype=np.float16)
    np.save(store / "embeddings.npy", rows)
    (store / "sentences.txt").write_text("one\ntwo\nthree\n", encoding="utf-8")
    fields: dict[str, Any] = {"format_version": 1, "num_rows": 3, "rows_done": 3, "num_truncated": 0, "max_length": 8}
    fields |= {"normalized": True, "width": 5, "dtype": "float16", "pooling": "avg"}
    fields |= {"teacher": "someone/else", "teacher_fingerprint": "a" * 64, "prompt": "passage: "}
    (store / "manifest.json").write_text(json.dumps(fields), encoding="utf-8")
    report = build_index(rows_of_store(store), tmp_path / "two", IndexSettings())
    assert report.space == {"name": "someone/else", "fingerprint": "a" * 64}
    opened = open_index(tmp_path / "two")
    assert (opened.prompt, opened.sentences.take([2, 0])) == ("passage: ", ["three", "one"])
    found, cosines = opened.search(np.array([[0, 3, 0, 0, 0]], dtype=np.float32), 1)
    assert (found.tolist(), cosines.tolist()) == ([[1]], [[1.0]])


def test_lists_are_looked_into_until_95_percent_are_found(tmp_path: Path) -> None:
    rows = made_up(tmp_path, clustered(3000))
    report = build_index(rows, tmp_path / "index", IndexSettings(factory="IVF32,SQ8"))
    assert report.recall_at_10 >= 0.95
    opened = open_index(tmp_path / "index")
    checked = check_index(opened, 500, SearchSettings())
    assert checked.recall >= 0.95
    assert checked.nprobe == report.nprobe
    one_list = check_index(opened, 500, SearchSettings(nprobe=1))
    assert one_list.recall < checked.recall
    # more results than the lists of one probe hold: no result is missing
    found, _ = opened.search(rows.embeddings[:3], 3000, nprobe=1)
    assert (np.sort(found, axis=1) == np.arange(3000)).all()


def test_of_repeated_rows_any_is_as_good_as_another(tmp_path: Path) -> None:
    rows = made_up(tmp_path, np.repeat(clustered(50), 40, axis=0))
    report = build_index(rows, tmp_path / "index", IndexSettings(factory="IVF4,Flat"))
    assert report.recall_at_10 == 1.0
    assert check_index(open_index(tmp_path / "index"), 100, SearchSettings()).recall == 1.0


@pytest.mark.parametrize("factory", ["HNSW8,Flat", "SQ8", "PCA8,IVF4,Flat"])
def test_other_kinds_by_their_factory(tmp_path: Path, factory: str) -> None:
    build_index(made_up(tmp_path, clustered(300)), tmp_path / "index", IndexSettings(factory=factory))
    found, _ = open_index(tmp_path / "index").search(clustered(300)[:20], 1)
    assert (found[:, 0] == np.arange(20)).mean() > 0.5


def test_what_faiss_cannot_make_is_one_line(tmp_path: Path) -> None:
    rows = made_up(tmp_path, clustered(50))
    with pytest.raises(UsageError, match="--factory Nothing7 is none for 16 numbers: could not parse"):
        build_index(rows, tmp_path / "index", IndexSettings(factory="Nothing7"))
    with pytest.raises(UsageError, match="FAISS cannot make IVF64,Flat of 50 rows"):
        build_index(rows, tmp_path / "index", IndexSettings(factory="IVF64,Flat"))
    with pytest.raises(DeviceError, match="needs faiss-gpu"):
        build_index(rows, tmp_path / "index", IndexSettings(device="cuda"))
    with pytest.raises(UsageError, match="unknown device 'gpu'"):
        build_index(rows, tmp_path / "index", IndexSettings(device="gpu"))
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npy"]


def test_without_faiss_the_error_is_the_pip_command(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UsageError, match="an index needs faiss") as caught:
        open_index(index)
    assert "pip install 'distilcse[cpu]'" in str(caught.value.hint)
    with pytest.raises(UsageError, match="an index needs faiss"):
        build_index(made_up(tmp_path, clustered(3)), tmp_path / "two", IndexSettings())


def test_rows_that_are_not_finite_or_not_of_these_sentences_leave_nothing_behind(tmp_path: Path) -> None:
    rows = clustered(30)
    rows[7, 3] = np.nan
    with pytest.raises(DataError, match=r"rows\.npy has NaN or infinity in row 7"):
        build_index(made_up(tmp_path, rows), tmp_path / "index", IndexSettings())
    short = Rows(**{**vars(made_up(tmp_path, clustered(30))), "sentences": lambda: iter(["one"])})
    with pytest.raises(DataError, match="has 30 rows, but 1 sentences"):
        build_index(short, tmp_path / "index", IndexSettings())
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npy"]


def test_an_array_of_another_model_or_text_is_refused(
    encoded: tuple[Path, Path, ModelRef], tiny: Callable[..., Path], tmp_path: Path
) -> None:
    text, rows, model = encoded
    other = ModelRef(ref=str(tiny("bert", seed=1)), pooler="avg")
    with pytest.raises(DataError, match=r"rows\.npy was not encoded by .*: . of 6 rows"):
        rows_of_array(rows, text, other, CPU)
    with pytest.raises(DataError, match="16 numbers, not 8"):
        rows_of_array(rows, text, ModelRef(ref=str(tiny("bert", width=8)), pooler="avg"), CPU)
    shuffled, longer = tmp_path / "shuffled.txt", tmp_path / "longer.txt"
    shuffled.write_text("\n".join(LINES[::-1]) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="was not encoded by"):
        rows_of_array(rows, shuffled, model, CPU)
    longer.write_text("\n".join([*LINES, "x"]) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"has 6 rows, .*longer\.txt 7 lines"):
        rows_of_array(rows, longer, model, CPU)
    np.save(tmp_path / "flat.npy", np.ones(3))
    with pytest.raises(DataError, match="holds float64"):
        rows_of_array(tmp_path / "flat.npy", text, model, CPU)
    with pytest.raises(UsageError, match="neither an embedding store nor"):
        rows_of_array(tmp_path / "rows.parquet", text, model, CPU)


def test_an_index_that_changed_on_the_disk_is_refused(index: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        open_index(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is no index"):
        open_index(tmp_path)
    for name in ("index.faiss", "sentences.txt", "offsets.npy"):
        content = (index / name).read_bytes()
        (index / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(DataError, match=f"{name} has changed since it was written"):
            open_index(index)
        (index / name).write_bytes(content[:-1])
        with pytest.raises(DataError, match=f"{name} has .* bytes, but its manifest says"):
            open_index(index)
        (index / name).write_bytes(content)
    assert len(open_index(index)) == len(LINES)


def test_a_file_that_this_faiss_cannot_read_names_both_versions(index: Path) -> None:
    from distilcse_cli.files import sha256_file

    content = b"XxYy" + (index / "index.faiss").read_bytes()[4:]
    (index / "index.faiss").write_bytes(content)
    manifest = json.loads((index / "manifest.json").read_text())
    manifest["faiss_version"] = "9.9"
    manifest["sha256"]["index.faiss"] = sha256_file(index / "index.faiss")
    (index / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"faiss .* cannot read .*index\.faiss, which faiss 9\.9 wrote"):
        open_index(index)


def test_an_index_is_replaced_only_with_overwrite_and_only_by_a_whole_one(index: Path, tmp_path: Path) -> None:
    before = (index / "manifest.json").read_bytes()
    with pytest.raises(DataError, match="is not empty"):
        build_index(made_up(tmp_path, clustered(30)), index, IndexSettings())
    broken = clustered(30)
    broken[0] = np.inf
    with pytest.raises(DataError, match="NaN or infinity"):
        build_index(made_up(tmp_path, broken), index, IndexSettings(), overwrite=True)
    assert (index / "manifest.json").read_bytes() == before
    build_index(made_up(tmp_path, clustered(30)), index, IndexSettings(), overwrite=True)
    assert len(open_index(index)) == 30
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(DataError, match="is not empty"):
        build_index(made_up(tmp_path, clustered(30)), tmp_path / "other", IndexSettings(), overwrite=True)


def test_only_a_model_of_the_space_may_query(
    index: Path, tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_index(index)
    other = str(tiny("bert", seed=1))
    with pytest.raises(UsageError) as caught:
        query_model(opened, other, lambda ref: ModelRef(ref=ref, pooler="avg"), None)
    assert opened.space.name in caught.value.message
    assert other in caught.value.message
    student = shutil.copytree(other, tmp_path / "student")
    (student / "distilcse.json").write_text(json.dumps({"result": {"space": opened.space.as_dict()}}))
    query_model(opened, str(student), lambda ref: ModelRef(ref=ref), None)
    monkeypatch.setitem(opened.manifest, "model", str(tmp_path / "gone"))
    with pytest.raises(ModelError, match=r"holds rows of .*, and no model .*gone"):
        query_model(opened, None, lambda ref: ModelRef(ref=ref), None)


def test_a_check_needs_the_rows_that_the_index_was_made_from(index: Path, tmp_path: Path) -> None:
    opened = open_index(index)
    (tmp_path / "rows.npy").rename(tmp_path / "moved.npy")
    with pytest.raises(DataError, match=r"was made from .*rows\.npy, which does not exist"):
        check_index(opened, 10, SearchSettings(k=2))
    assert check_index(opened, 10, SearchSettings(k=2), rows=tmp_path / "moved.npy").recall == 1.0
    np.save(tmp_path / "rows.npy", np.ones((2, 16), np.float32))
    with pytest.raises(DataError, match=r"holds \(2, 16\), but"):
        check_index(opened, 10, SearchSettings(k=2))
    np.save(tmp_path / "rows.npy", np.load(tmp_path / "moved.npy")[::-1])
    with pytest.raises(DataError, match=r"rows\.npy holds other rows than"):
        check_index(opened, 10, SearchSettings(k=2))
    (tmp_path / "rows.npy").write_bytes((tmp_path / "moved.npy").read_bytes()[:-8])
    with pytest.raises(DataError, match=r"rows\.npy is damaged or no array"):
        check_index(opened, 10, SearchSettings(k=2))
