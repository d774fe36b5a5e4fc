"""Where outputs go: through links, into pipes and devices, and never over what is not a file or folder of ours."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distilcse_cli import files, paths
from distilcse_cli.errors import DataError, UsageError
from distilcse_cli.files import atomic_folder, atomic_path, write_json
from distilcse_cli.paths import content, expanded, file_target, folder_target, is_mount


def test_a_file_is_written_through_links(tmp_path: Path) -> None:
    real, link, second = tmp_path / "real.json", tmp_path / "link.json", tmp_path / "second.json"
    link.symlink_to(real)  # leads to nothing yet
    second.symlink_to(link)
    for number in range(2):
        write_json(second, {"number": number})
        assert real.read_text() == f'{{\n  "number": {number}\n}}\n'
    assert link.is_symlink()
    assert second.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.json", "real.json", "second.json"]


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    device = tmp_path / "null"
    device.symlink_to("/dev/null")  # not /dev/null itself: a failing test would break the machine
    write_json(device, {})
    assert file_target(device) is None
    assert device.is_symlink()
    assert Path("/dev/null").is_char_device()


def test_the_reader_of_a_pipe_gets_the_whole_content(tmp_path: Path) -> None:
    pipe, heard = tmp_path / "pipe.json", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: heard.append(pipe.read_text()), daemon=True)
    reader.start()
    write_json(pipe, {"score": 1})
    reader.join(timeout=60)
    assert heard == ['{\n  "score": 1\n}\n']
    assert pipe.is_fifo()


def test_a_full_device_is_one_line() -> None:
    with pytest.raises(DataError, match="cannot write /dev/full: No space left on device"):
        write_json(Path("/dev/full"), {})


def test_standard_streams_are_added_to_and_not_replaced(tmp_path: Path) -> None:
    with (tmp_path / "stdout").open("w") as stdout:
        stdout.write("a table\n")
        stdout.flush()
        write_json(Path(f"/dev/fd/{stdout.fileno()}"), {})
    assert (tmp_path / "stdout").read_text() == "a table\n{}\n"


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _nowhere(path: Path) -> None:
    path.symlink_to(path.parent / "absent" / "folder")


NO_TARGETS: list[Callable[[Path], Any]] = [_loop, _nowhere]


@pytest.mark.parametrize("make", NO_TARGETS)
@pytest.mark.parametrize("judge", [file_target, folder_target])
def test_a_link_that_leads_nowhere_is_refused(judge: Callable[[Path], Any], make: Any, tmp_path: Path) -> None:
    make(tmp_path / "out")
    with pytest.raises(DataError, match="out"):
        judge(tmp_path / "out")


@pytest.mark.parametrize("name", ["", ".", "./", "/", "..", "a/.."])
def test_a_folder_needs_a_name_of_its_own(name: str) -> None:
    with pytest.raises(UsageError, match="has no name of its own"):
        folder_target(Path(name))


def test_a_folder_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "folder")
    with atomic_folder(tmp_path / "link") as made:
        (made / "file").write_text("text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "folder" / "file").read_text() == "text"


def test_a_mount_point_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = tmp_path / "volume"
    (volume / "lost+found").mkdir(parents=True)
    before = volume.stat().st_ino
    for module in (files, paths):
        monkeypatch.setattr(module, "is_mount", lambda folder: folder == volume)
    with atomic_folder(volume) as made:
        assert made.parent == volume  # on the same disk
        (made / "distilcse.json").write_text("{}")
        (made / "model").mkdir()
    assert sorted(path.name for path in content(volume)) == ["distilcse.json", "model"]
    assert volume.stat().st_ino == before
    with pytest.raises(DataError, match="not empty"), atomic_folder(volume):
        pass


def test_a_file_that_cannot_be_replaced_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(_temporary: Path, target: Path) -> None:
        raise OSError(16, "Device or resource busy", str(target))

    (tmp_path / "mounted").write_text("old")
    monkeypatch.setattr(Path, "replace", busy)
    with atomic_path(tmp_path / "mounted") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "mounted").read_text() == "new"


def test_the_root_is_a_mount_point_and_a_new_folder_is_not(tmp_path: Path) -> None:
    assert is_mount(Path("/proc"))
    assert not is_mount(tmp_path)
    assert not is_mount(tmp_path / "absent")


def test_a_home_folder_that_does_not_exist_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="~nosuchuser/model: no home folder"):
        expanded("~nosuchuser/model")
