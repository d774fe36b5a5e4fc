"""Every way in which the hub fails us: one line with a remedy, exit code 6, and nothing under its final name."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.download.conftest import TOKEN, Client
from tests.download.fake_hub import PORTAL, FakeHub, Fault, Repo

CONTENT = b"sentence\n" * 100  # 900 bytes
ALWAYS = 20


@dataclass
class Failure:
    """What goes wrong, and what must be said."""

    says: str
    hint: str
    listing: list[Fault] = field(default_factory=list)
    file: list[Fault] = field(default_factory=list)
    repo: Repo = field(default_factory=lambda: Repo({"a.txt": CONTENT}))
    num_requests: int | None = None
    """How often the hub is asked: once where a retry cannot help."""


def always(**fault: object) -> list[Fault]:
    return [Fault(**fault)] * ALWAYS  # type: ignore[arg-type]


FAILURES = {
    "401": Failure(r"the hub has no data set a/b, or a private one \(401\)", "set HF_TOKEN", repo=Repo(status=401)),
    "404": Failure(r"the hub has no data set a/b, or a private one \(404\)", "check the name", repo=Repo(status=404)),
    "403": Failure(
        "does not hand out data set a/b to you", "accept its terms at http://127.0.0.1", repo=Repo(status=403)
    ),
    "400": Failure("the hub answers 400", "try again later", listing=always(status=400), num_requests=1),
    "429": Failure(r"asks to slow down \(429\) .*6 times", "HF_TOKEN", listing=always(status=429), num_requests=6),
    "429 for hours": Failure(
        r"slow down \(429\) .*asks to wait 2h00m",
        "again later",
        listing=always(status=429, headers={"Retry-After": "7200"}),
        num_requests=1,
    ),
    "500": Failure("answers 500 when asked for data set a/b, 6 times", "try later", listing=always(status=500)),
    "503": Failure("answers 503", "try later", listing=always(status=503), num_requests=6),
    "login page for the list": Failure(
        "something other than data set a/b, perhaps a login page", "log in", listing=always(body=PORTAL), num_requests=1
    ),
    "json of something else": Failure(
        "something other than data set a/b",
        "HF_ENDPOINT",
        listing=always(body=b"[1, 2]", content_type="application/json"),
    ),
    "json without commit": Failure(
        "something other than data set a/b", "HF_ENDPOINT", listing=always(body=b'{"id": "a/b"}')
    ),
    "file 401": Failure(r"the hub has no a.txt of data set a/b, or a private", "HF_TOKEN", file=always(status=401)),
    "file 403": Failure("does not hand out a.txt of data set a/b", "accept its terms", file=always(status=403)),
    "file 404": Failure(
        "the hub has no a.txt", "moved or removed", file=always(status=404, headers={"X-Error-Code": "EntryNotFound"})
    ),
    "file 429": Failure(r"slow down \(429\) when asked for a.txt", "HF_TOKEN", file=always(status=429)),
    "file 500": Failure("answers 500 when asked for a.txt", "what has arrived is kept", file=always(status=500)),
    "file 502": Failure("answers 502 when asked for a.txt", "what has arrived is kept", file=always(status=502)),
    "login page for the file": Failure(
        "something other than a.txt", "log in", file=always(body=PORTAL, content_type="text/html; charset=utf-8")
    ),
    "login page that poses as the file": Failure(
        r"send 62 bytes for a.txt of data set a/b, which has 900", "proxy or mirror", file=always(body=PORTAL)
    ),
    "too long by its header": Failure("about to send 1,000 bytes", "proxy or mirror", file=always(length=1000)),
    "too short by its header": Failure("about to send 10 bytes", "proxy or mirror", file=always(length=10)),
    "truncated": Failure(
        "ended after 10 of 900 bytes", "run the same command again to resume", file=always(cut_at=10, end_cleanly=True)
    ),
    "cut": Failure("connection broke", "run the same command again to resume", file=always(cut_at=10)),
    "cut at once": Failure(r"from http://127.0.0.1:\d+: connection cut, 6 times", "connection", file=always(cut_at=0)),
    "other bytes": Failure("not the file it announced: deleted", "proxy or mirror", file=always(body=CONTENT[::-1])),
    "too many bytes": Failure(
        "sends more than the 900 bytes of a.txt", "", file=always(body=CONTENT * 2, end_cleanly=True, cut_at=1800)
    ),
    "another total": Failure(
        "about to send 901 bytes",
        "proxy or mirror",
        file=[Fault(cut_at=10), *always(headers={"Content-Range": "bytes 10-899/901"})],
    ),
    "no file": Failure("none of the files wanted", "check the name", repo=Repo({".gitattributes": b""})),
    **{
        f"file named {name!r}": Failure("points outside of it: refused", "", repo=Repo({name: b""}))
        for name in ("../evil.txt", "/evil.txt", "a/../../evil.txt", "a\\evil.txt", "a\nb.txt")
    },
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_failure_is_one_line_with_a_remedy_and_exit_code_6(
    client: Client, hub: FakeHub, home: Path, failure: Failure
) -> None:
    hub.repos["datasets/a/b"] = failure.repo
    hub.faults["api"], hub.faults["a.txt"] = list(failure.listing), list(failure.file)
    done = client("download", "datasets/a/b", code=6)
    assert done.out == ""
    assert re.match(rf"error: .*{failure.says}", done.error), done.err
    assert failure.hint in done.error
    assert TOKEN not in done.err
    assert done.err.count("error: ") == 1
    if failure.num_requests is not None:
        assert len([one for one in hub.requests if one.path != "api/agent-harnesses"]) == failure.num_requests
    left = {path.name for path in (home / "datasets").iterdir()}
    assert left <= {".a--b.lock", ".a--b.partial"}


@pytest.mark.parametrize(
    "fault", [Fault(status=429, headers={"Retry-After": "0"}), Fault(status=503), Fault(status=500)]
)
def test_what_passes_is_waited_for(client: Client, hub: FakeHub, fault: Fault) -> None:
    hub.repos["datasets/a/b"] = Repo({"a.txt": CONTENT})
    hub.faults["api"], hub.faults["a.txt"] = [fault], [fault] * 2
    done = client("download", "datasets/a/b")
    assert done.err.count("trying again in 0s") == 3


@pytest.mark.parametrize(
    "headers", [{"Content-Range": "bytes 0-9/900"}, {"Content-Range": "nonsense"}, {"Content-Encoding": "gzip"}]
)
def test_a_part_other_than_the_one_asked_for_is_not_pieced_together(
    client: Client, hub: FakeHub, home: Path, headers: dict[str, str]
) -> None:
    hub.repos["datasets/a/b"] = Repo({"a.txt": CONTENT})
    hub.faults["a.txt"] = [Fault(cut_at=10), Fault(headers=headers)]
    client("download", "datasets/a/b")
    assert hub.ranges("a.txt") == [None, "bytes=10-", None]
    assert (home / "datasets" / "a--b" / "a.txt").read_bytes() == CONTENT


def test_a_server_that_falls_silent_is_asked_again(client: Client, hub: FakeHub, home: Path) -> None:
    hub.repos["datasets/a/b"] = Repo({"a.txt": CONTENT})
    hub.faults["a.txt"] = [Fault(cut_at=10, stall=True)]
    done = client("download", "datasets/a/b", HF_HUB_DOWNLOAD_TIMEOUT="0.2")
    assert "no answer in time" in done.err
    assert hub.ranges("a.txt") == [None, "bytes=10-"]
    assert (home / "datasets" / "a--b" / "a.txt").read_bytes() == CONTENT


def test_a_file_that_arrived_wrong_is_not_gone_on_from(client: Client, hub: FakeHub, home: Path) -> None:
    hub.repos["datasets/a/b"] = Repo({"a.txt": CONTENT})
    hub.faults["a.txt"] = always(body=CONTENT[::-1])
    client("download", "datasets/a/b", code=6)
    hub.faults.clear()
    hub.requests.clear()
    client("download", "datasets/a/b")
    assert hub.ranges("a.txt") == [None]
    assert (home / "datasets" / "a--b" / "a.txt").read_bytes() == CONTENT


def test_a_size_that_the_disk_cannot_hold_is_noticed_before_anything_is_moved(client: Client, hub: FakeHub) -> None:
    hub.repos["datasets/a/b"] = Repo({"a.txt": CONTENT}, lies={"a.txt": {"size": 10**18}})
    assert "needs 1,000,000,000,000 MB of disk" in client("download", "datasets/a/b", code=3).error
    assert hub.ranges("a.txt") == []


def test_a_list_with_odd_sizes_and_hashes_is_taken_for_one_without(client: Client, hub: FakeHub, home: Path) -> None:
    hub.repos["datasets/a/b"] = Repo({"a.txt": CONTENT}, lies={"a.txt": {"size": "many", "blobId": "../../x"}})
    client("download", "datasets/a/b")
    assert (home / "datasets" / "a--b" / "a.txt").read_bytes() == CONTENT
