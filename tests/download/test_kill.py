"""A download and a removal, killed right before each single touch of the disk, and run again."""

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.data.wheelhouse import files_under
from tests.download.conftest import Client
from tests.download.fake_hub import FakeHub, Repo
from tests.download.test_archives import GOOD, tarred
from tests.hostile.conftest import TALLY

SIMCSE = "datasets/princeton-nlp/datasets-for-simcse"
WHOLE = {"downstream/STS/a.txt", "downstream/SICK/b.txt", "README.md", "source.json"}


def kills(client: Client, *argv: str) -> Iterator[None]:
    """Run the command again and again, killed at a later touch each time, until it comes to its end."""
    for kill_at in itertools.count(1):
        pid = client.job(fork=True, argv=argv, environment=client.environment, kill_at=kill_at)["pid"]
        status = client.job(wait=pid)["status"]
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            return
        TALLY.kills["download"] = TALLY.kills.get("download", 0) + 1
        yield


def test_killed_before_any_touch_of_the_disk_a_download_is_whole_or_not_there(
    client: Client, hub: FakeHub, home: Path
) -> None:
    hub.repos[SIMCSE] = Repo(
        {"senteval.tar": tarred(*GOOD), "README.md": b"# Data\n"}, large=frozenset({"senteval.tar"})
    )
    num_kills = 0
    for _ in kills(client, "download", "senteval"):
        num_kills += 1
        folder = home / "datasets" / "senteval"
        assert not folder.exists() or files_under(folder) == WHOLE
        client("download", "senteval")
        assert client("download", "--verify", "senteval").out == "senteval: whole\n"
        assert files_under(folder) == WHOLE
        assert {path.name for path in folder.parent.iterdir()} <= {"senteval", ".senteval.lock"}
        shutil.rmtree(home)
    assert num_kills >= 20


def test_killed_before_any_touch_of_the_disk_a_removal_leaves_all_or_nothing(
    client: Client, hub: FakeHub, home: Path
) -> None:
    hub.repos[SIMCSE] = Repo({"senteval.tar": tarred(*GOOD), "README.md": b"# Data\n"})
    client("download", "senteval")
    num_kills = 0
    for _ in kills(client, "download", "--remove", "senteval"):
        num_kills += 1
        folder = home / "datasets" / "senteval"
        assert not folder.exists() or files_under(folder) == WHOLE
        client("download", "--remove", "senteval")
        assert {path.name for path in folder.parent.iterdir()} == {".senteval.lock"}
        client("download", "senteval")
    assert num_kills >= 5
