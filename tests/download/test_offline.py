"""`--offline` and `HF_HUB_OFFLINE=1`: kept with every way to the network forbidden."""

from pathlib import Path

import pytest

from tests.download.conftest import Client, hub_environment, run_instant
from tests.download.fake_hub import FakeHub, Repo
from tests.download.instant import CAUGHT

OFFLINE = {"HF_HUB_OFFLINE": "1"}
ABSENT = ["all-minilm-l6", "news-articles", "senteval", "ckd-tiny-l4", "paper", "a/b", "datasets/a/b"]


@pytest.fixture
def forbidden(hub: FakeHub, home: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a process that ends with `CAUGHT` when it reaches for the network."""
    return hub_environment(hub, tmp_path / "hf") | {"DISTILCSE_HOME": str(home), "FORBID_NETWORK": "1"}


@pytest.mark.parametrize("argv", [["download", "a/b"], ["download", "news-articles"], ["resolve", "a/b"]])
def test_the_trap_catches_whoever_is_not_told_to_be_offline(forbidden: dict[str, str], argv: list[str]) -> None:
    run_instant(*argv, code=CAUGHT, environment=forbidden)


@pytest.mark.parametrize("name", ABSENT)
def test_what_is_absent_is_one_line_and_not_asked_for(client: Client, hub: FakeHub, name: str) -> None:
    for done in (client("download", "--offline", name, code=6), client("download", name, code=6, **OFFLINE)):
        assert "is not here, and --offline or HF_HUB_OFFLINE forbids to download it" in done.error
    assert hub.requests == []


def test_absent_things_are_not_looked_for_on_the_network(forbidden: dict[str, str]) -> None:
    for argv in (["download", "--offline", "a/b"], ["download", "--offline", "news-articles"]):
        run_instant(*argv, code=6, environment=forbidden)
    for argv in (["download", "a/b"], ["download", "news-articles"], ["download", "senteval"]):
        run_instant(*argv, code=6, environment=forbidden | OFFLINE)


def test_what_is_here_is_found_listed_verified_and_removed_without_network_even_when_allowed(
    client: Client, hub: FakeHub, forbidden: dict[str, str]
) -> None:
    hub.repos["a/b"] = Repo({"config.json": b"{}", "model.safetensors": b"x"})
    client("download", "a/b")
    hub.repos.clear()
    for argv in (["resolve", "a/b"], ["download", "a/b"], ["download", "--list"], ["download", "--verify", "--json"]):
        assert "a--b" in run_instant(*argv, code=0, environment=forbidden).stdout
    run_instant("download", "--remove", "a/b", code=0, environment=forbidden)


def test_a_model_or_corpus_of_the_hub_is_not_asked_for_either(forbidden: dict[str, str], tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("One sentence.\n", encoding="utf-8")
    out = tmp_path / "out"
    arguments = ["extract", "--teacher", "a/b", "--corpus", text, "--out", out]
    assert "forbids to download it" in run_instant(*arguments, code=6, environment=forbidden | OFFLINE).stderr
    corpus = ["extract", "--teacher", "a/b", "--corpus", "owner/data", "--out", out]
    run_instant(*corpus, code=6, environment=forbidden | OFFLINE)
