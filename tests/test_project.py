"""What strangers see of the project: its metadata, its page on PyPI, its site, its workflow and its citation."""

import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import distilcse_cli
import senteval
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = dict(re.findall(r"^([^#=\s]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
EXTRAS = PROJECT["optional-dependencies"]
VERSIONS = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
page = runpy.run_path(str(ROOT / "setup.py"))["page"]


def _yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_version_and_license_are_the_same_everywhere() -> None:
    citation = _yaml("CITATION.cff")
    assert PROJECT["version"] == distilcse_cli.__version__ == citation["version"]
    assert PROJECT["license"] == citation["license"] == "Apache-2.0"
    assert [author["name"] for author in PROJECT["authors"]] == [author["name"] for author in citation["authors"]]
    assert citation.get("repository-code") == PROJECT["urls"].get("Repository")


def test_classifiers_name_the_versions_of_python() -> None:
    assert PROJECT["requires-python"] == f">={VERSIONS[0]}"
    first = int(VERSIONS[0].removeprefix("3."))
    assert [f"3.{first + number}" for number in range(len(VERSIONS))] == VERSIONS


def test_links_of_readme_hold_on_pypi() -> None:
    readme = "[a\nb](docs/a.md#x), ![p](p.svg) [own](#here) [far](https://example.org/x) `[0](1)`"
    assert page(readme, None) == "a\nb,  own [far](https://example.org/x) `0`"
    address = "https://example.org/us/it"
    assert page("[a](docs/a.md#x) ![p](p.svg) [own](#here)", address) == (
        f"[a]({address}/blob/HEAD/docs/a.md#x) ![p]({address}/raw/HEAD/p.svg) [own]({address}/blob/HEAD/README.md#here)"
    )
    ours = page((ROOT / "README.md").read_text(encoding="utf-8"), PROJECT["urls"].get("Repository"))
    assert all(target.startswith("https://") for target in re.findall(r"\]\(([^)]+)\)", ours))


def test_every_link_within_the_project_leads_to_a_file() -> None:
    for file in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", file.read_text(encoding="utf-8")):
            assert (file.parent / target).exists(), f"{file.name}: {target}"


def test_every_requirement_has_a_pin() -> None:
    pinned = {re.sub(r"[-_.]+", "-", name).lower() for name in PINS}
    for line in sum((lines for name, lines in EXTRAS.items() if name != "gpu"), PROJECT["dependencies"]):
        name = re.match(r"[\w.-]+", line)[0]  # type: ignore[index]
        assert name == "distilcse" or re.sub(r"[-_.]+", "-", name).lower() in pinned, line


def test_pre_commit_runs_the_pinned_ruff() -> None:
    [repository] = _yaml(".pre-commit-config.yaml")["repos"]
    for hook in repository["hooks"]:
        assert hook["additional_dependencies"] == [f"ruff=={PINS['ruff']}"]


def test_the_workflow_calls_targets_that_exist_and_the_oldest_and_newest_python() -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    workflow = _yaml(".github/workflows/ci.yml")
    jobs = workflow["jobs"]
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert {run.removeprefix("make ") for run in runs} <= set(targets)
    assert {"make lint", "make test", "make test-lowest", "make docs", "make dist"} <= set(runs)
    matrix = jobs["test"]["strategy"]["matrix"]
    assert matrix["python"] == [VERSIONS[0], VERSIONS[-1]]
    assert {"ubuntu-latest", "macos-latest"} == set(matrix["os"])


def test_every_page_is_in_the_sites_navigation() -> None:
    pages = runpy.run_path(str(ROOT / "tools" / "pages.py"))["PAGES"]
    named = re.findall(r"^ +- .*: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(named) == len(set(named))
    assert set(named) == {file.name for file in (ROOT / "docs").glob("*.md")} | {*pages.values(), "api.md"}


def test_the_site_builds_with_every_link_and_every_public_name(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site"))
    build(config)  # strict: a warning is an error
    api = (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
    for module in (distilcse_cli, senteval):
        for name in getattr(module, "__all__", ()):
            assert not callable(getattr(module, name)) or f'id="{module.__name__}.{name}"' in api, name


def test_the_lowest_versions_are_those_of_pyproject() -> None:
    lowest = runpy.run_path(str(ROOT / "tools" / "lowest.py"))["lowest"]()
    assert len(lowest) >= len(PROJECT["dependencies"]) + 4
    for line in lowest:
        name, version = re.fullmatch(r"([\w-]+)==([\d.]+)", line).groups()  # type: ignore[union-attr]
        assert any(f"{name}>={version}" in lines for lines in (PROJECT["dependencies"], *EXTRAS.values())), line
