"""What a model reference may be, and the one line that each wrong one gets."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from distilcse_cli.data import catalogue
from distilcse_cli.errors import ModelError, UsageError
from distilcse_cli.models.references import resolve_reference
from tests.models.fake_hub import COMMIT, fake_hub

RESOLVE = """
import json, sys
from distilcse_cli.errors import DistilCSEError
from distilcse_cli.models.references import resolve_reference
answers = []
for ref, revision in json.loads(sys.argv[1]):
    try:
        answers.append(str(resolve_reference(ref, revision=revision)))
    except DistilCSEError as error:
        answers.append([error.exit_code, error.message, error.hint])
print(json.dumps(answers))
"""


def resolve_elsewhere(endpoint: str, cache: Path, *refs: tuple[str, str | None], **settings: str) -> list:
    """Resolve in a process of its own: the hub client reads its settings when it is imported."""
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0", **settings}
    command = [sys.executable, "-c", RESOLVE, json.dumps(refs)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no bars and no warnings where stderr is no terminal
    return json.loads(done.stdout)


def test_a_local_folder_is_taken_as_it_is(tiny: Callable[..., Path]) -> None:
    assert resolve_reference(str(tiny("bert"))) == tiny("bert")


def test_a_local_folder_wins_over_a_catalogue_name(
    tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny("bert"), tmp_path / "all-minilm-l6")
    monkeypatch.chdir(tmp_path)
    assert resolve_reference("all-minilm-l6") == Path("all-minilm-l6")


@pytest.mark.real_model
def test_a_catalogue_name_is_its_folder_in_the_data_home(minilm: Path) -> None:
    assert resolve_reference("all-minilm-l6") == minilm


def test_a_catalogue_data_set_is_no_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    csv = tmp_path / "NewsArticles.csv"
    csv.write_text("text\n", encoding="utf-8")
    monkeypatch.setattr(catalogue, "fetch", lambda _name: csv)
    with pytest.raises(ModelError, match="news-articles is a data set") as caught:
        resolve_reference("news-articles")
    assert caught.value.hint == "models are all-minilm-l6"


def test_an_unknown_name_lists_the_catalogue_and_what_it_may_have_meant() -> None:
    with pytest.raises(ModelError, match="no model all-minlm-l6") as caught:
        resolve_reference("all-minlm-l6")
    assert "did you mean all-minilm-l6?" in str(caught.value.hint)
    assert "owner/name" in str(caught.value.hint)


@pytest.mark.parametrize("ref", ["./nowhere", "/nowhere/at/all", "~/nowhere/at/all", "a/b/c", "-x/y", "a b/c"])
def test_what_can_be_no_hub_id_is_never_asked_for_there(ref: str) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        resolve_reference(ref)


@pytest.mark.parametrize("ref", ["", "  "])
def test_an_empty_reference_is_a_usage_error_and_not_the_current_folder(ref: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        resolve_reference(ref)


def test_a_folder_without_a_model_names_the_files_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"neither config\.json nor modules\.json"):
        resolve_reference(str(tmp_path))


def test_a_file_is_no_model_folder(tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(b"")
    with pytest.raises(ModelError, match="is a file, not a model folder"):
        resolve_reference(str(tmp_path / "model.pth"))


def test_a_revision_goes_with_hub_models_only(tiny: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match=r"--revision v1 does not go with .*, a local folder"):
        resolve_reference(str(tiny("bert")), revision="v1")
    with pytest.raises(UsageError, match="--revision v1 does not go with all-minilm-l6, a catalogue entry"):
        resolve_reference("all-minilm-l6", revision="v1")


def test_a_hub_id_is_downloaded_without_pickles_and_then_found_offline(
    tiny: Callable[..., Path], tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny("bert"), model)
    for unwanted in ("pytorch_model.bin", "tf_model.h5", "onnx/model.onnx", "onnx/config.json", "modeling_evil.py"):
        (model / unwanted).parent.mkdir(exist_ok=True)
        (model / unwanted).write_text("{}", encoding="utf-8")
    with fake_hub({"owner/name": model}) as endpoint:
        first, pinned = resolve_elsewhere(endpoint, tmp_path / "hf", ("owner/name", None), ("owner/name", "v1"))
    (again,) = resolve_elsewhere(endpoint, tmp_path / "hf", ("owner/name", None), HF_HUB_OFFLINE="1")
    assert Path(first).name == COMMIT
    assert first == pinned == again
    assert sorted(file.name for file in Path(first).iterdir()) == sorted(
        file.name for file in tiny("bert").iterdir() if file.is_file()
    )


def test_pickled_weights_are_downloaded_where_there_are_no_others(tiny: Callable[..., Path], tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny("bert"), model)
    (model / "model.safetensors").unlink()
    dense = model / "2_Dense"
    dense.mkdir()
    for folder in (model, dense):
        torch.save({}, folder / "pytorch_model.bin")
    modules = [{"path": "", "type": "sentence_transformers.models.Transformer"}]
    modules += [{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]
    (model / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    with fake_hub({"owner/name": model}) as endpoint:
        (folder,) = resolve_elsewhere(endpoint, tmp_path / "hf", ("owner/name", None))
    assert (Path(folder) / "pytorch_model.bin").is_file()
    assert (Path(folder) / "2_Dense" / "pytorch_model.bin").is_file()


def test_every_refusal_of_the_hub_is_one_line_with_a_remedy(tiny: Callable[..., Path], tmp_path: Path) -> None:
    models: dict[str, Path | int] = {"a/known": tiny("bert"), "a/private": 401, "a/gated": 403, "a/broken": 500}
    with fake_hub(models) as endpoint:
        missing, private, gated, broken, revision = resolve_elsewhere(
            endpoint,
            tmp_path / "hf",
            *(("a/missing", None), ("a/private", None), ("a/gated", None), ("a/broken", None), ("a/known", "v9")),
        )
    (gone,) = resolve_elsewhere(endpoint, tmp_path / "hf", ("a/other", None))
    (offline,) = resolve_elsewhere(endpoint, tmp_path / "hf", ("a/other", None), HF_HUB_OFFLINE="1")
    answers = (missing, private, gated, broken, revision, gone, offline)
    assert [code for code, _, _ in answers] == [6] * 7
    assert all(hint and "\n" not in message + hint for _, message, hint in answers)
    assert "there is no folder a/missing, and the hub has no such model" in missing[1]
    assert "(401)" in private[1]
    assert gated[2] == f"accept its terms at {endpoint}/a/gated, then set HF_TOKEN"
    assert broken[1] == "the hub answers 500 when asked for a/broken"
    assert revision[1] == "the hub's a/known has no revision v9"
    assert f"there is no folder a/other, and it cannot be had from {endpoint}: " in gone[1]
    assert "HF_HUB_OFFLINE forbids" in offline[1]
