"""Hostile embedding stores, corpora and run folders: what commands find of earlier runs."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.hostile.case import Case, cut, folder, ids
from tests.hostile.conftest import TALLY, Command, Ended
from tests.hostile.test_models import evil_npy

EXTRACT = "extract --teacher {model} --corpus {text} --out rows --compute-dtype float32"
DISTILL = "distill --teacher {model} --student {other} --corpus {text} --embeddings rows --out student"
Spoil = Callable[[Path], object]


@pytest.fixture(scope="module")
def store(
    server: object, materials: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path], object]:
    """Copies a good store to a place."""
    from tests.hostile.conftest import ask

    work = tmp_path_factory.mktemp("store")
    ended = ask(server, EXTRACT, materials, folder=work, home=work / "home")  # type: ignore[arg-type]
    assert ended.code == 0, ended.err
    return lambda place: shutil.copytree(work / "rows", place)


def manifest(**changes: Any) -> Spoil:
    """Change fields of the manifest; None takes a field out."""

    def spoil(rows: Path) -> None:
        fields = json.loads((rows / "manifest.json").read_text(encoding="utf-8")) | changes
        kept = {name: value for name, value in fields.items() if value is not None}
        (rows / "manifest.json").write_text(json.dumps(kept), encoding="utf-8")

    return spoil


def text(content: str | bytes) -> Spoil:
    data = content.encode() if isinstance(content, str) else content
    return lambda rows: (rows / "manifest.json").write_bytes(data)


def array(change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    return lambda rows: np.save(rows / "embeddings.npy", change(np.load(rows / "embeddings.npy")))


def lying_header(shape: str) -> Spoil:
    """The header announces another shape of as many characters."""

    def spoil(rows: Path) -> None:
        file = rows / "embeddings.npy"
        content = file.read_bytes()
        assert b"(12, 16)" in content
        file.write_bytes(content.replace(b"(12, 16)", shape.encode().ljust(8)[:8]))

    return spoil


def nan_row(rows: np.ndarray) -> np.ndarray:
    rows[7, 3] = np.nan
    return rows


def archive(rows: Path) -> None:
    np.savez(rows / "x.npz", embeddings=np.load(rows / "embeddings.npy"))
    (rows / "x.npz").rename(rows / "embeddings.npy")


def a_folder_for_the_array(rows: Path) -> None:
    (rows / "embeddings.npy").unlink()
    (rows / "embeddings.npy").mkdir()


def unfinished(rows: Path) -> None:
    (rows / "manifest.json").rename(rows / "manifest.partial.json")
    (rows / "embeddings.npy").rename(rows / "embeddings.partial.npy")


SPOILT: dict[str, tuple[Spoil, str]] = {
    "no manifest": (lambda rows: (rows / "manifest.json").unlink(), "rows is no embedding store"),
    "a newer version": (manifest(format_version=2), "has format version 2, this program reads up to 1"),
    "a version that is text": (manifest(format_version="1"), "is not the manifest of an embedding store"),
    "an empty manifest": (text(""), "manifest.json is not valid JSON"),
    "a manifest cut short": (text('{"format_version": 1, "num_'), "manifest.json is not valid JSON"),
    "a manifest that is a list": (text("[]"), "should hold a JSON object, not a list"),
    "a manifest in UTF-16": (text("{}".encode("utf-16")), "manifest.json is not valid JSON"),
    "a deep manifest": (text("[" * 9**5), "manifest.json is not valid JSON"),
    "rows that are text": (manifest(num_rows="12"), "num_rows is '12'"),
    "negative width": (manifest(width=-16), "width is -16"),
    "no width": (manifest(width=None), "width is None"),
    "nothing about lengths": (manifest(normalized=None), "normalized is missing"),
    "a length that is text": (manifest(normalized="yes"), "normalized is 'yes'"),
    "no count of cut sentences": (manifest(num_truncated=None), "num_truncated is None"),
    "an unknown number format": (manifest(dtype="object"), "dtype is 'object'"),
    "fewer rows done": (manifest(rows_done=3), "rows_done is 3 there, 12 here"),
    "another teacher": (manifest(teacher_fingerprint="f" * 64), "teacher_fingerprint is ffffffffffff… there"),
    "another corpus": (manifest(corpus_fingerprint="f" * 64), "corpus_fingerprint is ffffffffffff… there"),
    "another pooling": (manifest(pooling="avg"), "pooling is avg there, cls here"),
    "a million rows by the manifest": (manifest(num_rows=10**6, rows_done=10**6), "its manifest says float32 (1000000"),
    "no array": (lambda rows: (rows / "embeddings.npy").unlink(), "cannot read rows/embeddings.npy"),
    "a folder for the array": (a_folder_for_the_array, "cannot read rows/embeddings.npy"),
    "an empty array file": (lambda rows: (rows / "embeddings.npy").write_bytes(b""), "damaged or no array"),
    "noise for the array": (lambda rows: (rows / "embeddings.npy").write_bytes(b"\x93NUMPY\xff" * 99), "no array"),
    "an array cut short": (lambda rows: cut(rows / "embeddings.npy", 0.9), "rows/embeddings.npy"),
    "an array too long": (lambda rows: (rows / "embeddings.npy").open("ab").write(b"more"), "bytes, its header"),
    "a header that says more": (lying_header("(99, 16)"), "rows/embeddings.npy"),
    "a header that says less": (lying_header("( 9, 16)"), "its manifest says float32 (12, 16)"),
    "a header of negative rows": (lying_header("(-2, 16)"), "rows/embeddings.npy"),
    "a header of code": (lying_header("exit(9) "), "damaged or no array"),
    "an array that runs code": (lambda rows: evil_npy(rows / "embeddings.npy", {}), "damaged or no array"),
    "an archive": (archive, "is an archive, not an array"),
    "double precision": (array(lambda rows: rows.astype("f8")), "its manifest says float32"),
    "another byte order": (array(lambda rows: rows.astype(">f4")), "rows/embeddings.npy"),
    "Fortran's order": (array(np.asfortranarray), "its manifest says float32 (12, 16)"),
    "three dimensions": (array(lambda rows: rows.reshape(12, 4, 4)), "its manifest says float32 (12, 16)"),
    "a NaN row": (array(nan_row), "has NaN or infinity in row 7"),
    "unfinished": (unfinished, "rows is unfinished: 12 of 12 rows"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_hostile_store_is_refused_in_one_line(
    refuse: Callable[[Case], Ended], store: Callable[[Path], object], tmp_path: Path, what: str
) -> None:
    spoil, says = SPOILT[what]

    def make(place: Path, _materials: Mapping[str, Path]) -> None:
        store(place)
        spoil(place)

    refuse(Case(f"distill: {what}", DISTILL, 3, says, {"rows": make}))
    assert not list(tmp_path.rglob("ran"))


@pytest.mark.parametrize("what", ["a newer version", "another teacher", "no array", "rows that are text"])
def test_extract_leaves_a_hostile_store_alone(
    refuse: Callable[[Case], Ended], store: Callable[[Path], object], what: str
) -> None:
    spoil, says = SPOILT[what]

    def make(place: Path, _materials: Mapping[str, Path]) -> None:
        store(place)
        spoil(place)

    refuse(Case(f"extract: {what}", EXTRACT, 3, says, {"rows": make}))


@pytest.mark.parametrize("what", ["nothing about lengths", "no count of cut sentences"])
def test_a_partial_manifest_that_somebody_edited_is_one_line(
    refuse: Callable[[Case], Ended], store: Callable[[Path], object], what: str
) -> None:
    spoil, says = SPOILT[what]

    def make(place: Path, _materials: Mapping[str, Path]) -> None:
        store(place)
        spoil(place)
        unfinished(place)

    refuse(Case(f"extract: {what}", EXTRACT, 3, says, {"rows": make}))


PLACES = [
    Case("distill: no store", DISTILL, 3, "rows does not exist"),
    Case("distill: an empty store", DISTILL, 3, "rows is no embedding store", {"rows": folder}),
    Case("distill: a file for a store", DISTILL, 3, "rows", {"rows": "text"}),
    Case("extract: rows that are not ours", EXTRACT, 3, "has a embeddings.npy", {"rows/embeddings.npy": "mine"}),
    Case("extract: sentences that are not ours", EXTRACT, 3, "has a sentences.txt", {"rows/sentences.txt": "mine"}),
    Case("extract: a broken start", EXTRACT, 3, "not valid JSON", {"rows/manifest.partial.json": "{"}),
]


@pytest.mark.parametrize("hostile", PLACES, ids=ids(PLACES))
def test_what_is_no_store_is_refused_in_one_line(refuse: Callable[[Case], Ended], hostile: Case) -> None:
    refuse(hostile)


# what is in the data home is ours: damaged, it is made again; of a later release, it is left alone


def cached(home: Path, kind: str) -> Path:
    (found,) = (home / kind).glob("[!.]*")
    return found


@pytest.mark.parametrize("kind", ["corpora", "tokens", "triplets"])
@pytest.mark.parametrize("what", ["cut", "emptied", "bytes changed", "no manifest", "manifest cut", "newer"])
def test_a_damaged_cache_is_made_again_and_a_later_releases_left_alone(
    command: Command, refuse: Callable[[Case], Ended], tmp_path: Path, kind: str, what: str
) -> None:
    line = (
        "finetune --student {other} --triplets {triples} --out student --max-steps 1"
        if kind == "triplets"
        else "distill --teacher {model} --student {other} --corpus {text} --out student --max-steps 1"
    )
    assert command(line).code == 0
    shutil.rmtree(tmp_path / "work" / "student")
    place = cached(tmp_path / "home", kind)
    damaged = next(path for path in sorted(place.iterdir()) if path.name != "manifest.json")
    if what == "cut":
        cut(damaged)
    elif what == "emptied":
        damaged.write_bytes(b"")
    elif what == "bytes changed":
        content = damaged.read_bytes()
        damaged.write_bytes(content[:-16] + b"\xff" * 16)
    elif what == "no manifest":
        (place / "manifest.json").unlink()
    elif what == "manifest cut":
        cut(place / "manifest.json")
    else:
        fields = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
        (place / "manifest.json").write_text(json.dumps(fields | {"format_version": 99}), encoding="utf-8")
        refuse(Case(f"newer {kind}", line, 3, "has format version 99, and this release reads up to"))
        return
    ended = command(line)
    assert ended.code == 0, ended.err
    assert f"{place} is damaged and is made again" in ended.err


@pytest.mark.parametrize("kind", ["corpora", "tokens", "triplets"])
def test_an_array_of_the_cache_that_runs_code_does_not(command: Command, tmp_path: Path, kind: str) -> None:
    """With a manifest that agrees to it, so that nothing is noticed before it is read."""
    line = (
        "finetune --student {other} --triplets {triples} --out student --max-steps 1"
        if kind == "triplets"
        else "extract --teacher {model} --corpus {text} --out rows"
        if kind == "corpora"
        else "distill --teacher {model} --student {other} --corpus {text} --out student --max-steps 1"
    )
    assert command(line).code == 0
    for array in cached(tmp_path / "home", kind).glob("*.npy"):
        shutil.rmtree(tmp_path / "work")
        good = array.read_bytes()
        evil_npy(array, {})
        array.write_bytes((array.read_bytes() + bytes(len(good)))[: len(good)])
        manifest(sha256={})(array.parent)
        ended = command(line)
        TALLY.inputs += 1
        if ended.code != 0:  # where no single sentences are asked for, nobody looks at where each one starts
            assert ended.code == 3, ended.err
            assert str(array.parent) in ended.error
            assert ended.error.endswith(("(remove it and run again)", "(remove the folder and run again)"))
            TALLY.refused += 1
        assert ended.code == 3 or array.name == "offsets.npy"
        array.write_bytes(good)
    assert not list(tmp_path.rglob("ran"))
