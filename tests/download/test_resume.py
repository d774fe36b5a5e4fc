"""Bar 1: a transfer that breaks goes on from where it stopped, and the file ends right every time."""

import os
import random
import signal
from pathlib import Path

import pytest

from tests.download.conftest import Client
from tests.download.fake_hub import FakeHub, Fault, Repo

SIZE = 300_000
CONTENT = random.Random(1).randbytes(SIZE)
NUM_CUTS, NUM_KILLS = 50, 20
CUTS = sorted(random.Random(2).sample(range(1, SIZE), NUM_CUTS))
LARGE = frozenset({"weights.pth"})


def serve(hub: FakeHub, *, is_large: bool = True, etag: str | None = None) -> None:
    hub.repos["datasets/a/b"] = Repo({"weights.pth": CONTENT}, large=LARGE if is_large else frozenset(), etag=etag)


def downloaded(home: Path) -> bytes:
    return (home / "datasets" / "a--b" / "weights.pth").read_bytes()


def clear(client: Client, hub: FakeHub) -> None:
    client("download", "--remove", "datasets/a/b")
    hub.requests.clear()


@pytest.mark.parametrize("is_large", [True, False], ids=["large", "small"])
def test_after_a_cut_at_any_of_fifty_bytes_the_same_run_goes_on_from_there(
    client: Client, hub: FakeHub, home: Path, is_large: bool
) -> None:
    serve(hub, is_large=is_large)
    for cut in CUTS:
        hub.faults["weights.pth"] = [Fault(cut_at=cut)]
        client("download", "datasets/a/b")
        assert downloaded(home) == CONTENT
        assert hub.ranges("weights.pth") == [None, f"bytes={cut}-"]
        clear(client, hub)


def test_a_run_that_gives_up_at_any_of_fifty_bytes_is_continued_by_the_next_one(
    client: Client, hub: FakeHub, home: Path
) -> None:
    serve(hub)
    for cut in CUTS:
        hub.faults["weights.pth"] = [Fault(cut_at=cut), *[Fault(cut_at=0)] * 6]
        failed = client("download", "datasets/a/b", code=6)
        assert "connection broke" in failed.error
        assert "run the same command again to resume" in failed.error
        assert not (home / "datasets" / "a--b").exists()
        hub.requests.clear()
        hub.faults.clear()
        client("download", "datasets/a/b")
        assert downloaded(home) == CONTENT
        assert hub.ranges("weights.pth") == [f"bytes={cut}-"]
        assert {path.name for path in (home / "datasets").iterdir()} == {"a--b", ".a--b.lock"}
        clear(client, hub)


def test_a_run_killed_at_any_of_twenty_bytes_is_continued_by_the_next_one(
    client: Client, hub: FakeHub, home: Path
) -> None:
    serve(hub)
    for cut in random.Random(3).sample(range(1, SIZE), NUM_KILLS):
        hub.faults["weights.pth"] = [Fault(cut_at=cut, stall=True)]
        job = {"argv": ["download", "datasets/a/b"], "environment": client.environment}
        pid = client.job(fork=True, **job)["pid"]
        assert hub.stalled.wait(timeout=60)
        part = home / "datasets" / ".a--b.partial"
        while not part.is_dir() or sum(file.stat().st_size for file in part.glob("*.part")) < cut:
            os.sched_yield()
        os.kill(pid, signal.SIGKILL)
        assert os.WTERMSIG(client.job(wait=pid)["status"]) == signal.SIGKILL
        hub.release.set()
        assert not (home / "datasets" / "a--b").exists()
        hub.requests.clear()
        client("download", "datasets/a/b")
        assert downloaded(home) == CONTENT
        assert hub.ranges("weights.pth") == [f"bytes={cut}-"]
        clear(client, hub)
        hub.stalled.clear()
        hub.release.clear()


def test_a_transfer_cut_again_and_again_is_patient_as_long_as_something_arrives(
    client: Client, hub: FakeHub, home: Path
) -> None:
    serve(hub)
    # many more cuts than retries, each a little further on
    hub.faults["weights.pth"] = [Fault(cut_at=cut) for cut in CUTS]
    client("download", "datasets/a/b")
    assert downloaded(home) == CONTENT
    assert hub.ranges("weights.pth") == [None, *(f"bytes={cut}-" for cut in CUTS)]


def test_a_server_without_ranges_sends_it_all_again(client: Client, hub: FakeHub, home: Path) -> None:
    serve(hub)
    hub.faults["weights.pth"] = [Fault(cut_at=1000), Fault(ignore_range=True)]
    client("download", "datasets/a/b")
    assert downloaded(home) == CONTENT


def test_a_server_without_ranges_that_always_cuts_at_the_same_byte_is_given_up(client: Client, hub: FakeHub) -> None:
    serve(hub)
    hub.faults["weights.pth"] = [Fault(cut_at=1000, ignore_range=True)] * 20
    assert "6 times in a row" in client("download", "datasets/a/b", code=6).error


def test_content_that_changed_meanwhile_is_never_mixed_with_the_old(client: Client, hub: FakeHub, home: Path) -> None:
    for etag in (None, "", '"same-name-for-everything"', 'W/"weak"'):
        for is_large in (True, False):
            serve(hub, is_large=is_large, etag=etag)
            hub.faults["weights.pth"] = [Fault(cut_at=1000), *[Fault(cut_at=0)] * 6]
            client("download", "datasets/a/b", code=6)
            hub.faults.clear()
            new = CONTENT[::-1]
            hub.repos["datasets/a/b"].files["weights.pth"] = new
            client("download", "datasets/a/b")
            assert downloaded(home) == new
            clear(client, hub)


def test_without_size_and_hash_only_an_etag_lets_a_transfer_go_on(client: Client, hub: FakeHub, home: Path) -> None:
    for etag, second in ((None, "bytes=1000-"), ("", None), ('W/"weak"', None)):
        serve(hub, is_large=False, etag=etag)
        hub.repos["datasets/a/b"].lies["weights.pth"] = {"size": None, "blobId": None}
        hub.faults["weights.pth"] = [Fault(cut_at=1000)]
        client("download", "datasets/a/b")
        assert downloaded(home) == CONTENT
        assert hub.ranges("weights.pth") == [None, second]
        clear(client, hub)


def test_a_part_that_was_damaged_on_disk_is_thrown_away_and_fetched_once_more(
    client: Client, hub: FakeHub, home: Path
) -> None:
    serve(hub)
    hub.faults["weights.pth"] = [Fault(cut_at=1000), *[Fault(cut_at=0)] * 6]
    client("download", "datasets/a/b", code=6)
    (part,) = (home / "datasets" / ".a--b.partial").glob("*.part")
    assert part.read_bytes() == CONTENT[:1000]
    part.write_bytes(bytes(1000))
    hub.faults.clear()
    hub.requests.clear()
    client("download", "datasets/a/b")
    assert downloaded(home) == CONTENT
    assert hub.ranges("weights.pth") == ["bytes=1000-", None]


def test_files_that_are_done_are_not_moved_again(client: Client, hub: FakeHub, home: Path) -> None:
    hub.repos["datasets/a/b"] = Repo({"one.txt": b"one" * 100, "two.txt": b"two" * 100, "copy.txt": b"one" * 100})
    hub.faults["two.txt"] = [Fault(cut_at=0)] * 6
    client("download", "datasets/a/b", code=6)
    hub.faults.clear()
    hub.requests.clear()
    client("download", "datasets/a/b")
    assert hub.ranges("one.txt") == []
    folder = home / "datasets" / "a--b"
    assert (folder / "copy.txt").read_bytes() == (folder / "one.txt").read_bytes() == b"one" * 100
