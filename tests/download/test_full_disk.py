"""A disk that fills up while something is downloaded: one line, nothing half done, and what has arrived is kept."""

import gzip
from pathlib import Path

import pytest

from tests.data.wheelhouse import files_under
from tests.download.conftest import Client, hub_environment, run_instant
from tests.download.fake_hub import FakeHub, Repo
from tests.download.test_archives import member, tarred
from tests.download.test_resume import CONTENT, serve

SIMCSE = "datasets/princeton-nlp/datasets-for-simcse"


@pytest.fixture
def environment(hub: FakeHub, home: Path, tmp_path: Path) -> dict[str, str]:
    return hub_environment(hub, tmp_path / "hf") | {"DISTILCSE_HOME": str(home)}


@pytest.mark.parametrize("limit", [1, 100_000, 299_999])
def test_a_transfer_that_fills_the_disk_goes_on_when_there_is_room(
    client: Client, hub: FakeHub, home: Path, environment: dict[str, str], limit: int
) -> None:
    serve(hub)
    done = run_instant("download", "datasets/a/b", code=3, environment=environment | {"FILE_LIMIT": str(limit)})
    *_, last = done.stderr.splitlines()
    assert last.startswith("error: cannot write ")
    assert "DISTILCSE_HOME" in last
    assert {path.name for path in (home / "datasets").iterdir()} == {".a--b.lock", ".a--b.partial"}
    hub.requests.clear()
    client("download", "datasets/a/b")
    assert (home / "datasets" / "a--b" / "weights.pth").read_bytes() == CONTENT
    # the first byte that did not fit is the first one asked for
    assert hub.ranges("weights.pth") in ([f"bytes={limit}-"], [None])


@pytest.mark.parametrize("limit", [1000, 30_000])
def test_an_archive_that_fills_the_disk_when_it_is_unpacked_leaves_nothing_half_done(
    client: Client, hub: FakeHub, home: Path, environment: dict[str, str], limit: int
) -> None:
    # a file of the hub that is small, and large when it is unpacked
    hub.repos[SIMCSE] = Repo({"senteval.tar": gzip.compress(tarred(member("STS/a.txt", b"a" * 60_000)))})
    done = run_instant("download", "senteval", code=3, environment=environment | {"FILE_LIMIT": str(limit)})
    assert done.stderr.splitlines()[-1].startswith("error: cannot write ")
    assert not (home / "datasets" / "senteval").exists()
    hub.requests.clear()
    client("download", "senteval")
    assert hub.ranges("senteval.tar") == [], "the archive was here already"
    assert files_under(home / "datasets" / "senteval") == {"downstream/STS/a.txt", "source.json"}
