"""`--offline` and `HF_HUB_OFFLINE=1`: kept with every way to the network forbidden."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.download.conftest import Client, hub_environment, run_instant
from tests.download.fake_hub import FakeHub, Repo
from tests.download.instant import CAUGHT
from tests.evaluation.small import write_sts16

OFFLINE = {"HF_HUB_OFFLINE": "1"}
ABSENT = ["all-minilm-l6", "news-articles", "senteval", "ckd-tiny-l4", "paper", "a/b", "datasets/a/b"]


@pytest.fixture
def forbidden(hub: FakeHub, home: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a process that ends with `CAUGHT` when it reaches for the network."""
    return hub_environment(hub, tmp_path / "hf") | {"DISTILCSE_HOME": str(home), "FORBID_NETWORK": "1"}


@pytest.mark.parametrize("argv", [["download", "a/b"], ["download", "news-articles"], ["resolve", "a/b"]])
def test_the_trap_catches_whoever_may_use_the_network(forbidden: dict[str, str], argv: list[str]) -> None:
    run_instant(*argv, code=CAUGHT, environment=forbidden)


@pytest.mark.parametrize("name", ABSENT)
def test_what_is_absent_is_one_line_and_not_asked_for(client: Client, hub: FakeHub, name: str) -> None:
    for done in (client("download", "--offline", name, code=6), client("download", name, code=6, **OFFLINE)):
        assert "is not here, and --offline or HF_HUB_OFFLINE forbids to download it" in done.error
        mend = "news5m" if name == "paper" else name
        assert done.error.endswith(f" (with the network allowed: distilcse download {mend})")
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


COMMANDS = [
    "encode TEXT --out OUT.npy --model a/b",
    "extract --corpus TEXT --out OUT --teacher a/b",
    "extract --corpus owner/data --out OUT --teacher a/b",
    "distill --corpus TEXT --out OUT --student a/b --teacher a/c",
    "distill --corpus owner/data --out OUT --student a/b --teacher a/c",
    "finetune --triplets TABLE --out OUT --student a/b",
    "eval --data DATA --tasks STS16 --model a/b",
    "convert ckd-tiny-l4 --out OUT",
    "demo --out OUT --sentences 100",
    "download news5m",
]
BOTH = pytest.mark.parametrize("option", [True, False], ids=["--offline", "HF_HUB_OFFLINE"])


@pytest.fixture
def typed(tmp_path: Path) -> Callable[..., list[str]]:
    """The words of a command line, with inputs of the test's own folder, and `--offline` before them."""
    (tmp_path / "text.txt").write_text("One sentence.\n", encoding="utf-8")
    (tmp_path / "table.csv").write_text("anchor,positive\na,b\n" * 3, encoding="utf-8")
    write_sts16(tmp_path / "data")
    paths = {"TEXT": "text.txt", "TABLE": "table.csv", "DATA": "data", "OUT.npy": "out.npy", "OUT": "out"}

    def make(line: str, *, option: bool = False) -> list[str]:
        return ["--offline"] * option + [
            str(tmp_path / paths[word]) if word in paths else word for word in line.split()
        ]

    return make


def check_refusal(stderr: str, folder: Path) -> None:
    *_, last = stderr.splitlines()
    assert last.startswith("error: ")
    assert re.search(r"--offline or HF_HUB_OFFLINE (forbids to|keeps us from) ", last)
    assert "downloading" not in stderr
    assert not any(folder.glob("out*"))


@pytest.mark.parametrize("line", COMMANDS)
@BOTH
def test_no_command_asks_for_what_is_not_here(
    client: Client, tmp_path: Path, typed: Callable[..., list[str]], line: str, option: bool
) -> None:
    environment = {} if option else OFFLINE
    done = client(*typed(line, option=option), code=6, forbid=True, **environment)
    check_refusal(done.err, tmp_path)


@pytest.mark.parametrize("line", [COMMANDS[0], COMMANDS[2]], ids=["model", "corpus"])
@BOTH
def test_nor_does_a_process_that_loads_all_libraries_itself(
    forbidden: dict[str, str], tmp_path: Path, typed: Callable[..., list[str]], line: str, option: bool
) -> None:
    environment = forbidden | ({} if option else OFFLINE)
    done = run_instant(*typed(line, option=option), code=6, environment=environment)
    check_refusal(done.stderr, tmp_path)


@pytest.mark.parametrize("line", COMMANDS)
def test_the_same_commands_ask_when_they_may(client: Client, typed: Callable[..., list[str]], line: str) -> None:
    client(*typed(line), code=CAUGHT, forbid=True)


def test_offline_after_the_commands_name_is_answered_with_where_it_belongs(client: Client) -> None:
    error = client("env", "--offline", code=2).error
    assert error == "error: No such option: --offline (it goes before the command: distilcse --offline COMMAND)"
