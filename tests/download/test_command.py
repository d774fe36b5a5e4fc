"""`distilcse download`: entries from the hub, groups, `--verify`, `--remove`, `--dir`, `--revision`."""

import json
import os
from pathlib import Path

import pytest

from distilcse_cli import catalogue
from distilcse_cli.catalogue.hub import HubFiles
from distilcse_cli.errors import UsageError
from tests.data.wheelhouse import files_under
from tests.download.conftest import Client
from tests.download.fake_hub import COMMIT, FakeHub, Fault, Repo
from tests.download.test_archives import GOOD, tarred

MODEL = {"config.json": b"{}", "model.safetensors": b"weights", "README.md": b"---\nlicense: mit\n---\n"}


def serve_paper(hub: FakeHub) -> None:
    for entry in catalogue.ENTRIES:
        if isinstance(entry.source, HubFiles) and entry.kind == "model":
            hub.repos[entry.source.repo] = Repo(dict(MODEL))
    hub.repos["ffgcc/DistilCSE"] = Repo(
        {"CKD-BERT-base.pth": b"1", "CKD-Tiny-L6.pth": b"22", "CKD-Tiny-L4.pth": b"333"}
    )
    hub.repos["datasets/ffgcc/NEWS5M"] = Repo({"README.md": b"# News\n" * 99, "train.txt": b"A sentence.\n" * 9})
    simcse = {"nli_for_simcse.csv": b"sent0,sent1,hard_neg\n", "senteval.tar": tarred(*GOOD), "wiki1m.txt": b"no"}
    hub.repos["datasets/princeton-nlp/datasets-for-simcse"] = Repo(simcse)


def test_the_group_paper_is_all_that_the_published_run_needs(client: Client, hub: FakeHub, home: Path) -> None:
    serve_paper(hub)
    done = client("download", "paper")
    sets, models = home / "datasets", home / "models"
    assert done.out.splitlines() == [
        str(sets / "news5m" / "train.txt"),
        str(sets / "nli" / "nli_for_simcse.csv"),
        str(sets / "senteval"),
        *(str(models / name) for name in ("simcse-roberta-large", "bert-base-uncased", "tinybert-l6", "tinybert-l4")),
    ]
    assert files_under(sets / "senteval") == {"downstream/STS/a.txt", "downstream/SICK/b.txt", "source.json"}
    assert files_under(sets / "nli") == {"nli_for_simcse.csv", "source.json"}
    assert files_under(models / "tinybert-l4") == {*MODEL, "source.json"}
    hub.requests.clear()
    assert client("download", "paper").out == done.out
    assert hub.requests == []


def test_every_entry_of_the_hub_can_be_downloaded_and_every_base_is_a_model(client: Client, hub: FakeHub) -> None:
    serve_paper(hub)
    names = [entry.name for entry in catalogue.ENTRIES if isinstance(entry.source, HubFiles)]
    paths = client("download", *names).out.splitlines()
    assert len(paths) == len(names) == 11
    assert all(Path(path).exists() for path in paths)
    assert client("download", "--verify").out.splitlines() == [f"{name}: whole" for name in names]
    bases = {entry.base for entry in catalogue.ENTRIES if entry.base}
    assert bases == {"bert-base-uncased", "tinybert-l6", "tinybert-l4"}


def test_the_groups_name_entries_and_demo_is_what_the_demo_takes() -> None:
    from distilcse_cli.evaluation import demo

    assert all(catalogue.is_known(name) for names in catalogue.GROUPS.values() for name in names)
    assert catalogue.GROUPS["demo"] == (demo.TEACHER, demo.ARTICLES)


def test_hub_ids_are_downloaded_listed_verified_and_removed(client: Client, hub: FakeHub, home: Path) -> None:
    hub.repos["a/b"] = Repo(dict(MODEL))
    hub.repos["datasets/a/c"] = Repo({"x.txt": b"x"})
    assert client("download", "a/b", "datasets/a/c").out.splitlines() == [
        str(home / "models" / "a--b"),
        str(home / "datasets" / "a--c"),
    ]
    listed = {one["name"]: one for one in json.loads(client("download", "--list", "--json").out)}
    assert listed["a/b"]["path"] == str(home / "models" / "a--b")
    assert listed["a/b"]["record"]["revision"] == COMMIT
    assert listed["a/b"]["record"]["licenses"] == [{"where": "README.md, license", "says": "mit"}]
    assert "a--c" in client("download", "--list").out
    assert client("download", "--verify").out.splitlines() == ["a/b: whole", "datasets/a/c: whole"]
    assert client("download", "--remove", "a/b").out == f"{home / 'models' / 'a--b'}\n"
    assert {path.name for path in (home / "models").iterdir()} == {".a--b.lock"}
    again = client("download", "--remove", "a/b")
    assert (again.out, again.err) == ("", "a/b: not here\n")


def test_verify_finds_what_a_look_at_the_sizes_does_not(client: Client, hub: FakeHub, home: Path) -> None:
    hub.repos["a/b"] = Repo(dict(MODEL))
    client("download", "a/b")
    weights = home / "models" / "a--b" / "model.safetensors"
    weights.write_bytes(b"Weights")
    assert "already there" in client("download", "a/b").err
    done = client("download", "--verify", "a/b", code=3)
    assert f"a/b: {weights} has sha256" in done.out
    repair = "distilcse download a/b --remove && distilcse download a/b"
    assert f"1 of 1 downloads are not what they were: a/b ({repair})" in done.error
    for command in repair.split(" && "):
        client(*command.split()[1:])
    assert client("download", "--verify", "a/b").out == "a/b: whole\n"
    weights.unlink()
    assert f"a/b: {weights} is missing\n" == client("download", "--verify", code=3).out
    absent = client("download", "--verify", "tinybert-l4", code=3)
    assert "is not here" in absent.out
    assert absent.error.endswith(" (distilcse download tinybert-l4)")
    (weights.parent / "source.json").write_text("[]", encoding="utf-8")
    assert "source.json cannot be read" in client("download", "--verify", "a/b", code=3).out
    client("download", "a/b")
    client("download", "--verify", "a/b")


def test_remove_takes_a_begun_download_along_and_nothing_that_is_not_ours(
    client: Client, hub: FakeHub, home: Path
) -> None:
    hub.repos["a/b"] = Repo(dict(MODEL))
    hub.faults["model.safetensors"] = [Fault(cut_at=3), *[Fault(cut_at=0)] * 6]
    client("download", "a/b", code=6)
    assert (home / "models" / ".a--b.partial").is_dir()
    client("download", "--remove", "a/b")
    assert {path.name for path in (home / "models").iterdir()} == {".a--b.lock"}
    mine = home / "models" / "a--b" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("precious", encoding="utf-8")
    assert "was not made by distilcse download" in client("download", "--remove", "a/b", code=3).error
    assert mine.read_text(encoding="utf-8") == "precious"


def test_dir_is_used_in_place_of_the_data_home(client: Client, hub: FakeHub, home: Path, tmp_path: Path) -> None:
    hub.repos["a/b"] = Repo(dict(MODEL))
    there = tmp_path / "there"
    assert client("download", "a/b", "--dir", there).out == f"{there / 'a--b'}\n"
    assert not home.exists()
    assert client("download", "--verify", "a/b", "--dir", there).out == "a/b: whole\n"
    client("download", "--remove", "a/b", "--dir", there)
    assert {path.name for path in there.iterdir()} == {".a--b.lock"}


def test_a_revision_of_a_catalogue_entry_lives_beside_it(client: Client, hub: FakeHub, home: Path) -> None:
    serve_paper(hub)
    assert client("download", "tinybert-l4", "--revision", "v1").out == f"{home / 'models' / 'tinybert-l4@v1'}\n"
    assert client.resolve("tinybert-l4", "v1").out == f"{home / 'models' / 'tinybert-l4@v1'}\n"
    assert "tinybert-l4@v1" in client("download", "--list").out
    assert client("download", "--verify").out == "tinybert-l4@v1: whole\n"
    assert "already there" in client("download", "tinybert-l4@v1").err
    assert "no revision v9" in client("download", "tinybert-l4", "--revision", "v9", code=6).error
    error = client("download", "all-minilm-l6", "--revision", "v1", code=2).error
    assert "--revision v1 does not go with all-minilm-l6" in error


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--list", "--verify"], "exclude each other"),
        (["--verify", "--remove", "nli"], "exclude each other"),
        (["--remove"], "--remove needs a name, but nothing was named (distilcse download lists the names)"),
        (["--revision", "v1"], "--revision needs a name, but nothing was named"),
        (["a/b/c"], "the catalogue has no 'a/b/c'"),
        (["owner/name--x"], "the catalogue has no 'owner/name--x'"),
        (["../evil"], "the catalogue has no '../evil'"),
        (["papers"], "did you mean paper"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_a_usage_error(client: Client, argv: list[str], says: str) -> None:
    assert says in client("download", *argv, code=2).error


def test_a_name_is_never_a_path_out_of_the_data_home() -> None:
    for name in ("..", "../..", "a/..", "datasets/../x", "/etc/passwd", "a/b/../c"):
        assert catalogue.hub_entry(name) is None, name
        with pytest.raises(UsageError):
            catalogue.select([name])


def test_a_read_only_data_home_is_one_line(client: Client, hub: FakeHub, tmp_path: Path) -> None:
    hub.repos["a/b"] = Repo(dict(MODEL))
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    error = client("download", "a/b", code=3, DISTILCSE_HOME=str(blocked)).error
    assert "cannot write" in error
    assert os.fspath(blocked) in error
