"""Processes that wait for others say for whom, and give up; variables that make no sense are one line."""

import socket
from collections.abc import Iterator

import pytest

from distilcse_cli import rendezvous
from distilcse_cli.errors import UsageError
from distilcse_cli.ranks import joined, own_device
from distilcse_cli.rendezvous import Place, meet, place
from distilcse_cli.runtime import Runtime

CPU = Runtime(device="cpu", dtype="float32", reason="test")


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of rank 0 of two, with a port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    variables = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    return variables


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock on which each pause takes five seconds."""
    now = [0.0]
    monkeypatch.setattr(rendezvous.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(rendezvous.time, "sleep", lambda _: now.__setitem__(0, now[0] + 5))
    return now


@pytest.mark.parametrize(("rank", "missing"), [("0", 1), ("1", 0)])
def test_whoever_waits_says_for_whom_and_gives_up(
    rank: str,
    missing: int,
    group: dict[str, str],
    clock: list[float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RANK", rank)
    who = f"rank {missing} of 2 processes at 127.0.0.1:{group['MASTER_PORT']}"
    with pytest.raises(UsageError, match=f"waited 3m00s for {who}"), joined(CPU, minutes=3):
        pass
    assert clock[0] == 180
    # after 10, 70 and 130 seconds
    assert capsys.readouterr().err == f"waiting for {who}\n" * 3


@pytest.mark.usefixtures("clock")
def test_a_process_that_is_not_missed_leaves_the_words_to_rank_0(capsys: pytest.CaptureFixture[str]) -> None:
    patience = rendezvous._Patience(Place(rank=1, world_size=3, local_rank=0, host="h", port=1), minutes=1)
    for _ in range(12):
        patience.wait_for([2])
    with pytest.raises(SystemExit):
        patience.wait_for([2])
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("group")
def test_processes_that_are_all_here_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    store = meet(place())
    store.set("key", "value")
    assert store.get("key") == b"value"


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RANK", "abc"),
        ("RANK", "2"),
        ("RANK", "-1"),
        ("RANK", ""),
        ("WORLD_SIZE", "0"),
        ("WORLD_SIZE", "9" * 30),
        ("LOCAL_RANK", "²"),
        ("MASTER_PORT", "65536"),
    ],
)
def test_a_variable_that_makes_no_sense_is_one_line(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"{name} in the environment is '{value}'"), joined(CPU):
        pass
    with pytest.raises(UsageError, match=name):
        own_device("cuda")


def test_a_port_in_use_is_one_line(group: dict[str, str]) -> None:
    address = ("127.0.0.1", int(group["MASTER_PORT"]))
    with socket.create_server(address), pytest.raises(UsageError, match="another program uses it"):
        meet(place())
