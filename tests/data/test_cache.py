"""A cached folder is whole or absent, whatever dies on the way."""

import errno
import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from distilcse_cli.data.cache import build_once, read_manifest, write_manifest
from distilcse_cli.errors import DataError


def build(folder: Path) -> None:
    (folder / "data").write_text("four")
    write_manifest(folder, 1, {"answer": 42})


def test_a_folder_is_built_once_and_its_manifest_tells_sizes(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "key"
    assert build_once(folder, 1, build) is False
    assert build_once(folder, 1, build) is True
    manifest = read_manifest(folder, 1)
    sha256 = hashlib.sha256(b"four").hexdigest()
    assert manifest == {"format_version": 1, "answer": 42, "files": {"data": 4}, "sha256": {"data": sha256}}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "data").write_text("three"), "has 5 bytes, but its manifest says 4"),
        (lambda folder: (folder / "data").unlink(), "No such file"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "not valid JSON"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "should hold a JSON object"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "not a manifest of format version 1"),
        (lambda folder: (folder / "manifest.json").write_text('{"format_version": 1}'), "not a manifest"),
        (lambda folder: (folder / "manifest.json").unlink(), "No such file"),
    ],
)
def test_damage_is_found_and_mended(tmp_path: Path, damage: object, message: str) -> None:
    folder = tmp_path / "key"
    build_once(folder, 1, build)
    damage(folder)  # type: ignore[operator]
    with pytest.raises(DataError, match=message):
        read_manifest(folder, 1)
    assert build_once(folder, 1, build) is False
    assert read_manifest(folder, 1)["answer"] == 42


@pytest.mark.parametrize("sums", [{"data": 1}, {"data": None}, {"other": "00"}, [], None, "x"])
def test_sums_that_are_none_are_damage(tmp_path: Path, sums: object) -> None:
    folder = tmp_path / "key"
    build_once(folder, 1, build)
    manifest = read_manifest(folder, 1)
    (folder / "manifest.json").write_text(json.dumps(manifest | {"sha256": sums}))
    assert build_once(folder, 1, build) is False
    assert read_manifest(folder, 1) == manifest


def test_a_changed_byte_is_found_and_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "key"
    build_once(folder, 1, build)
    (folder / "data").write_text("fpur")
    assert build_once(folder, 1, build) is False
    assert f"{folder} is damaged and is made again" in capsys.readouterr().err
    assert (folder / "data").read_text() == "four"


def test_a_folder_of_before_the_sums_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "key"
    build_once(folder, 1, build)
    manifest = read_manifest(folder, 1)
    del manifest["sha256"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert build_once(folder, 1, build) is True


def test_a_build_that_fails_leaves_nothing_and_blocks_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        build(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_once(tmp_path / "key", 1, fail)
    assert not (tmp_path / "key").exists()
    assert not list(tmp_path.glob("*tmp*"))
    assert build_once(tmp_path / "key", 1, build) is False


KILLED = """
import os, signal, sys
from pathlib import Path
from distilcse_cli.data.cache import build_once
def build(folder):
    (folder / "data").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
build_once(Path(sys.argv[1]), 1, build)
"""


def test_a_killed_build_holds_no_lock_and_its_rest_is_swept(tmp_path: Path) -> None:
    folder = tmp_path / "key"
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], capture_output=True)
        assert done.returncode == -signal.SIGKILL
        assert not folder.exists()
        assert len(list(tmp_path.glob(".key.tmp-*"))) == 1
    assert build_once(folder, 1, build) is False
    assert not list(tmp_path.glob(".key.tmp-*"))


def test_a_cache_that_cannot_be_written_says_where_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write") as caught:
        build_once(tmp_path / "file" / "key", 1, build)
    assert "DISTILCSE_HOME" in str(caught.value.hint)


def test_a_file_system_without_locks_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_locks(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", no_locks)
    assert build_once(tmp_path / "key", 1, build) is False
    assert "is on a file system without locks: run one command at a time" in capsys.readouterr().err
    assert read_manifest(tmp_path / "key", 1)["answer"] == 42
