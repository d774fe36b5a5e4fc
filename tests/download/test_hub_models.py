"""`--model owner/name`: from the data home, the hub client's own cache, or the hub."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.download.conftest import Client, hub_environment
from tests.download.fake_hub import COMMIT, FakeHub, Fault, Repo

UNWANTED = {
    **dict.fromkeys(("pytorch_model.bin", "tf_model.h5", "onnx/model.onnx", "modeling_evil.py", "logo.png"), b"x"),
    **dict.fromkeys(("onnx/config.json", "checkpoint-5/config.json", "checkpoint-5/model.safetensors"), b"{}"),
}


def files_of(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture
def model(tiny: Callable[..., Path]) -> dict[str, bytes]:
    return files_of(tiny("bert"))


def test_a_hub_id_is_downloaded_without_code_and_pickles_and_then_found_without_asking(
    client: Client, hub: FakeHub, home: Path, model: dict[str, bytes]
) -> None:
    hub.repos["owner/name"] = Repo(model | UNWANTED, large=frozenset({"model.safetensors"}))
    done = client.resolve("owner/name")
    folder = home / "models" / "owner--name"
    assert done.out == f"{folder}\n"
    assert set(files_of(folder)) == {*model, "source.json"}
    assert files_of(folder)["model.safetensors"] == model["model.safetensors"]
    record = json.loads((folder / "source.json").read_text(encoding="utf-8"))
    assert (record["url"], record["revision"]) == ("https://huggingface.co/owner/name", COMMIT)
    hub.requests.clear()
    assert client.resolve("owner/name").out == done.out
    assert client.resolve("owner/name", HF_HUB_OFFLINE="1").out == done.out
    assert hub.requests == []


def test_all_files_are_of_the_commit_that_the_list_was_of(
    client: Client, hub: FakeHub, model: dict[str, bytes]
) -> None:
    hub.repos["owner/name"] = Repo(model)
    client.resolve("owner/name")
    asked = [one.path for one in hub.requests if "/resolve/" in one.path]
    assert asked
    assert all(path.startswith(f"owner/name/resolve/{COMMIT}/") for path in asked)


def test_each_revision_has_a_folder_of_its_own(
    client: Client, hub: FakeHub, home: Path, model: dict[str, bytes]
) -> None:
    hub.repos["owner/name"] = Repo(model)
    assert client.resolve("owner/name", "v1").out == f"{home / 'models' / 'owner--name@v1'}\n"
    assert any(one.path == "api/models/owner/name/revision/v1" for one in hub.requests)
    assert client.resolve("owner/name").out == f"{home / 'models' / 'owner--name'}\n"
    assert "no revision v9" in client.resolve("owner/name", "v9", code=6).error
    assert "no branch, tag or commit" in client.resolve("owner/name", "../../evil", code=2).error


def test_pickled_weights_are_downloaded_only_where_there_are_no_others(
    client: Client, hub: FakeHub, home: Path, model: dict[str, bytes]
) -> None:
    safe = model.pop("model.safetensors")
    dense = {"2_Dense/config.json": b"{}", "2_Dense/pytorch_model.bin": b"pickle", "2_Dense/model.safetensors": safe}
    pool = {"1_Pooling/config.json": b"{}", "3_Dense/config.json": b"{}", "3_Dense/pytorch_model.bin": b"pickle"}
    hub.repos["owner/name"] = Repo(model | dense | pool | {"pytorch_model.bin": b"pickle"})
    client.resolve("owner/name")
    wanted = {*model, *dense, *pool, "pytorch_model.bin"} - {"2_Dense/pytorch_model.bin"}
    assert set(files_of(home / "models" / "owner--name")) == {*wanted, "source.json"}


def test_what_another_tool_has_left_in_the_cache_of_the_hub_client_is_used_without_asking(
    hub: FakeHub, home: Path, tmp_path: Path, model: dict[str, bytes]
) -> None:
    hub.repos["owner/name"] = Repo(model)
    environment = hub_environment(hub, tmp_path / "hf") | {"DISTILCSE_HOME": str(home)}
    code = "from huggingface_hub import snapshot_download; print(snapshot_download('owner/name'))"
    ours = "from distilcse_cli.models.reference import resolve_reference; print(resolve_reference('owner/name'))"
    cached = run(code, environment)
    assert Path(cached).name == COMMIT
    hub.repos.clear()
    assert run(ours, environment) == run(ours, environment | {"HF_HUB_OFFLINE": "1"}) == cached
    assert not home.exists()


def run(code: str, environment: dict[str, str]) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def test_a_misspelt_folder_is_said_to_be_none(client: Client) -> None:
    error = client.resolve("results/studnet", code=6).error
    assert error.startswith("error: there is no folder results/studnet, and the hub has no model results/studnet")


def test_a_download_that_broke_is_continued_by_whichever_command_needs_it(
    client: Client, hub: FakeHub, model: dict[str, bytes]
) -> None:
    hub.repos["owner/name"] = Repo(model, large=frozenset({"model.safetensors"}))
    hub.faults["model.safetensors"] = [Fault(cut_at=5000), *[Fault(cut_at=0)] * 6]
    client("download", "owner/name", code=6)
    hub.faults.clear()
    hub.requests.clear()
    client.resolve("owner/name")
    assert hub.ranges("model.safetensors") == ["bytes=5000-"]


def test_a_catalogue_entry_of_pickled_weights_is_no_model_folder(client: Client, hub: FakeHub, home: Path) -> None:
    hub.repos["ffgcc/DistilCSE"] = Repo({"CKD-Tiny-L4.pth": os.urandom(100), "CKD-Tiny-L6.pth": b"", "README.md": b""})
    error = client.resolve("ckd-tiny-l4", code=4).error
    assert "ckd-tiny-l4 is a file of pickled weights" in error
    assert str(home / "models" / "ckd-tiny-l4" / "CKD-Tiny-L4.pth") in error
    assert set(files_of(home / "models" / "ckd-tiny-l4")) == {"CKD-Tiny-L4.pth", "README.md", "source.json"}
