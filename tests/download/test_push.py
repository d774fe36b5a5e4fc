"""`distilcse push`: all files of a student in one commit, or one line that says why not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.download.conftest import TOKEN, Client
from tests.download.fake_hub import COMMIT, FakeHub, Fault, Repo

RUN = ("metrics.jsonl", "speed.jsonl", "curves.png", "tensorboard/events", ".DS_Store")


@pytest.fixture
def student(tiny: Callable[..., Path], tmp_path: Path) -> Path:
    """A student with a card and a graph, and files of its training."""
    folder = tmp_path / "student"
    shutil.copytree(tiny("bert"), folder)
    for name in ("README.md", "onnx/model.onnx", *RUN):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.fixture(autouse=True)
def without_xet(client: Client) -> None:
    """The store that hf_xet talks to is no part of the fake hub."""
    client.environment["HF_HUB_DISABLE_XET"] = "1"


def test_a_students_files_are_one_commit_without_those_of_the_training(
    client: Client, hub: FakeHub, student: Path
) -> None:
    (student / "README.md").write_bytes(b'SentenceTransformer("path/to/this/folder")')
    done = client("push", student, "--to-repo", "me/small", "--private", "--json")
    report = json.loads(done.out)
    files = {path.relative_to(student).as_posix(): path for path in student.rglob("*") if path.is_file()}
    wanted = {name: path.read_bytes() for name, path in files.items() if name not in RUN}
    wanted["README.md"] = b'SentenceTransformer("me/small")'
    assert hub.repos["me/small"].branches == {"main": wanted}
    assert set(hub.uploaded.values()) == {wanted["model.safetensors"], wanted["onnx/model.onnx"]}
    assert hub.repos["me/small"].private
    assert (report["url"], report["commit"]) == (f"{hub.endpoint}/me/small", COMMIT)
    assert (sorted(report["files"]), report["num_bytes"]) == (sorted(wanted), sum(map(len, wanted.values())))
    assert TOKEN not in done.out + done.err
    assert f"Bearer {TOKEN}" in {one.headers.get("authorization") for one in hub.requests}


def test_a_branch_is_made_and_the_main_one_left_alone(client: Client, hub: FakeHub, student: Path) -> None:
    hub.repos["me/small"] = Repo(branches={"main": {"README.md": b"old"}})
    client("push", student, "--to-repo", "me/small", "--revision", "try")
    client("push", student, "--to-repo", "me/small", "--revision", "try")
    assert hub.repos["me/small"].branches["main"] == {"README.md": b"old"}
    assert hub.repos["me/small"].branches["try"]["README.md"] == b"README.md"


@pytest.mark.parametrize(
    ("where", "status", "said"),
    [
        ("create", 401, "does not accept the token"),
        ("main", 403, "may not write to me/small"),
        ("main", 400, "the hub refuses"),
    ],
)
def test_a_refusal_is_one_line_and_commits_nothing(
    where: str, status: int, said: str, client: Client, hub: FakeHub, student: Path
) -> None:
    hub.faults[where] = [Fault(status=status)]
    done = client("push", student, "--to-repo", "me/small", code=6)
    assert f"{said} ({status}); nothing is committed" in done.error
    assert "me/small" not in hub.repos or hub.repos["me/small"].branches == {"main": {}}
    assert TOKEN not in done.err


def test_what_cannot_be_pushed_is_said_before_anything_is_asked(
    client: Client, hub: FakeHub, student: Path, tmp_path: Path
) -> None:
    push = ("push", student, "--to-repo", "me/small")
    assert "hf auth login" in client(*push, code=2, HF_TOKEN="").error
    for wrong in ("hf_\xe9", "hf_a hf_b"):
        assert "characters that no token has" in client(*push, code=2, HF_TOKEN=wrong).error
    assert "needs the network" in client(*push, code=6, HF_HUB_OFFLINE="1").error
    assert "must be NAME/REPO" in client("push", student, "--to-repo", "small", code=2).error
    assert "no folder here" in client("push", tmp_path / "none", "--to-repo", "me/small", code=2).error
    (tmp_path / "secret").touch()
    (student / "notes.txt").symlink_to(tmp_path / "secret")
    assert "notes.txt is a link out of the folder" in client(*push, code=2).error
    (student / "notes.txt").unlink()
    (student / "README.md").unlink()
    assert "no README.md" in client(*push, code=4).error
    (student / "model.safetensors").unlink()
    client(*push, code=4)
    assert hub.requests == []


def test_a_public_repository_does_not_become_private_by_being_asked(
    client: Client, hub: FakeHub, student: Path
) -> None:
    hub.repos["me/small"] = Repo(branches={"main": {}})
    assert "exists and is public" in client("push", student, "--to-repo", "me/small", "--private", code=2).error
    assert hub.repos["me/small"].branches == {"main": {}}
