"""`distilcse env` and `distilcse --version` as a user runs them."""

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from distilcse_cli import __version__
from distilcse_cli.__main__ import run

pytestmark = pytest.mark.e2e
Distilcse = Callable[..., subprocess.CompletedProcess[str]]


def rows(text: str) -> dict[str, str]:
    """The report's lines: a name, two or more spaces, its value."""
    pairs = [line.split("  ", maxsplit=1) for line in text.splitlines()]
    return {name: value.strip() for name, value in pairs}


def test_version_is_the_one_that_the_package_states(distilcse: Distilcse) -> None:
    assert distilcse("--version").stdout == f"distilcse {__version__}\n"
    assert __version__ == importlib.metadata.version("distilcse")


def test_env_names_versions_device_and_folders(distilcse: Distilcse, home: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "HF_TOKEN"}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "ATEN_CPU_CAPABILITY": "avx2"}
    found = rows(distilcse("env", cold=True, env=environment).stdout)
    assert found["distilcse"] == __version__
    assert found["python"].startswith(platform.python_version())
    for package in ("torch", "transformers", "tokenizers", "datasets", "huggingface_hub"):
        assert found[package] == importlib.metadata.version(package)
    assert found["device"] == "cpu"
    # torch is told to stay below AVX-512, where no CPU multiplies bf16
    assert found["dtype"] == "float32 (the CPU has no bf16 instructions)"
    assert found["GPUs"] == "none"
    assert found["cores"] == f"{len(os.sched_getaffinity(0))} usable of {os.cpu_count()}"
    assert found["data home"] == str(home)
    assert found["free disk there"].endswith(" GB")
    assert found["downloaded"] == "nothing"
    assert "HF_TOKEN" in found["not set"].split()
    assert not home.exists()


SECRETS = {
    "HF_TOKEN": "hf_hunter2",
    "HTTPS_PROXY": "http://me:hunter2@proxy.example:8080",
    "PIP_EXTRA_INDEX_URL": "https://index.example/hunter2/simple",
    "HF_ENDPOINT": "https://me:hunter2@hub.example",
}


def test_env_never_prints_a_token_or_an_address_that_may_hold_a_password(distilcse: Distilcse) -> None:
    done = distilcse("env", cold=True, env={**os.environ, **SECRETS})
    assert "hunter2" not in done.stdout + done.stderr
    found = rows(done.stdout)
    assert {name: found[name] for name in SECRETS} == dict.fromkeys(SECRETS, "set")


def test_env_as_json_has_the_same_facts_and_no_secrets_either(distilcse: Distilcse, home: Path) -> None:
    done = distilcse("env", "--json", cold=True, env={**os.environ, **SECRETS})
    assert "hunter2" not in done.stdout + done.stderr
    facts = json.loads(done.stdout)
    assert {name: facts["variables"][name] for name in SECRETS} == dict.fromkeys(SECRETS, "set")
    assert facts["variables"]["DISTILCSE_HOME"] == facts["data_home"] == str(home)
    assert facts["data_home_free_bytes"] > 0
    assert facts["packages"]["torch"] == importlib.metadata.version("torch")
    assert facts["torch_threads"] >= 1


def test_env_reports_where_no_home_folder_is_known(distilcse: Distilcse) -> None:
    done = distilcse("env", env={**os.environ, "DISTILCSE_HOME": "~nosuchuser/home"})
    assert rows(done.stdout)["data home"] == "unknown: ~nosuchuser/home: no home folder is known for ~"
    assert rows(done.stdout)["downloaded"] == "nothing"


def test_a_variable_that_should_be_a_number_and_is_none_is_ignored_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["distilcse", "--version"])
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "abc")
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "20")
    assert run() == 0
    assert capsys.readouterr().err == "warning: HF_HUB_DOWNLOAD_TIMEOUT is 'abc', which is no number: it is ignored\n"
    assert "HF_HUB_DOWNLOAD_TIMEOUT" not in os.environ
    assert os.environ["HF_HUB_ETAG_TIMEOUT"] == "20"


def test_env_reports_a_torch_that_does_not_load(distilcse: Distilcse, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "torch.py").write_text("raise OSError('libcudart.so.12: no such\\nfile')\n", encoding="utf-8")
    done = distilcse("env", cold=True, env={**os.environ, "PYTHONPATH": str(broken)})
    assert rows(done.stdout)["torch"] == "does not load: libcudart.so.12: no such file"
    assert "data home" in rows(done.stdout)
