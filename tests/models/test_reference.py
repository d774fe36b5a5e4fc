"""What a model reference may be, and the one line that each wrong one gets."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from distilcse_cli.errors import ModelError, UsageError
from distilcse_cli.models.reference import ModelRef, resolve_reference


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


def test_a_catalogue_data_set_is_no_model_and_is_not_downloaded_to_find_out(home: Path) -> None:
    with pytest.raises(ModelError, match="news-articles is a data set") as caught:
        resolve_reference("news-articles")
    assert str(caught.value.hint).startswith("models are all-minilm-l6, all-mpnet-base-v2, simcse-roberta-large")
    assert not home.exists()


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
    with pytest.raises(UsageError, match="--revision v1 does not go with all-minilm-l6, which has one version only"):
        resolve_reference("all-minilm-l6", revision="v1")


def test_a_model_is_found_once_and_a_changed_copy_knows_where(tiny: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(tiny("bert"), tmp_path / "model")
    named = ModelRef(ref=str(folder), pooler="avg")
    assert named.locate() == folder
    moved = folder.rename(tmp_path / "elsewhere")
    assert named.locate() == folder
    assert replace(named, pooler="cls").locate() == folder
    moved.rename(folder)
    assert named.load(max_length=9).max_length == 9
    # where it was found is no part of what the user said
    assert named == ModelRef(ref=str(folder), pooler="avg")
    assert hash(named) == hash(ModelRef(ref=str(folder), pooler="avg"))


def test_an_unknown_pooling_is_refused_when_the_model_is_named() -> None:
    with pytest.raises(UsageError, match="unknown pooling 'nonesuch'"):
        ModelRef(ref="no-such-model", pooler="nonesuch")


def test_a_model_with_its_own_code_is_warned_of_once(
    tiny: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(tiny("bert"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "code.Model"}}))
    ModelRef(ref=str(folder)).load()
    assert capsys.readouterr().err.count("brings its own code") == 1


def test_naming_a_model_loads_no_torch() -> None:
    naming = "from distilcse_cli.models.reference import ModelRef; ModelRef(ref='m')"
    code = f"import sys; {naming}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
