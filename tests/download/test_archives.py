"""Tar files: what is unpacked, what is refused, and that no member gets outside or onto the disk as anything else."""

import contextlib
import gzip
import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distilcse_cli.catalogue import archives
from distilcse_cli.catalogue.archives import unpack_tar
from distilcse_cli.errors import NetworkError
from tests.download.conftest import Client
from tests.download.fake_hub import FakeHub, Repo

Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: object) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tarred(*members: Member) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


GOOD = (
    member("STS", kind=tarfile.DIRTYPE, mode=0o000),
    member("STS/a.txt", b"one\n", mode=0o4777, uid=0),
    member("./SICK/b.txt", b"two\n"),
)


@pytest.fixture
def unpack(tmp_path: Path) -> Callable[..., list[str]]:
    """`unpack(bytes)`: unpack a tar file into `into/` of the test's folder."""
    (tmp_path / "scratch").mkdir()

    def run(content: bytes, num_bytes: int | None = None) -> list[str]:
        path = tmp_path / "data.tar"
        path.write_bytes(content)
        return unpack_tar(path, tmp_path / "into", tmp_path / "scratch", name="data.tar", num_bytes=num_bytes)

    return run


def files_under(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_files_and_folders_are_unpacked_with_our_own_modes(
    unpack: Callable[..., list[str]], tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    assert unpack(compress(tarred(*GOOD)), 1000) == []
    assert files_under(tmp_path / "into") == {"STS/a.txt": b"one\n", "SICK/b.txt": b"two\n"}
    assert (tmp_path / "into" / "STS" / "a.txt").stat().st_mode & 0o7111 == 0
    assert (tmp_path / "into" / "STS").stat().st_mode & 0o700 == 0o700


REFUSED = {
    "parent": (member("../evil", b"x"), "points outside"),
    "parent further down": (member("STS/../../evil", b"x"), "points outside"),
    "absolute": (member("/evil", b"x"), "points outside"),
    "backslash": (member("..\\evil", b"x"), "points outside"),
    "drive": (member("C:/evil", b"x"), "points outside"),
    "line feed": (member("a\nb", b"x"), "points outside"),
    "symbolic link out": (member("STS/link", kind=tarfile.SYMTYPE, linkname="/etc"), "a link"),
    "symbolic link inside": (member("STS/link", kind=tarfile.SYMTYPE, linkname="a.txt"), "a link"),
    "hard link": (member("STS/link", kind=tarfile.LNKTYPE, linkname="STS/a.txt"), "a link"),
    "hard link out": (member("STS/link", kind=tarfile.LNKTYPE, linkname="/etc/passwd"), "a link"),
    "character device": (member("null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3), "no plain file"),
    "block device": (member("disk", kind=tarfile.BLKTYPE, devmajor=8), "no plain file"),
    "pipe": (member("pipe", kind=tarfile.FIFOTYPE), "no plain file"),
    "same name twice": (member("STS/a.txt", b"other"), "twice"),
    "a file where a folder is": (member("STS", b"other"), "twice"),
    "a folder where a file is": (member("STS/a.txt/b", b"other"), "twice"),
}


@pytest.mark.parametrize(("evil", "says"), REFUSED.values(), ids=REFUSED)
def test_a_member_that_is_no_plain_file_inside_is_refused(
    unpack: Callable[..., list[str]], tmp_path: Path, evil: Member, says: str
) -> None:
    with pytest.raises(NetworkError, match=says) as caught:
        unpack(tarred(*GOOD, evil))
    assert "\n" not in caught.value.message
    assert {path.name for path in tmp_path.iterdir()} == {"data.tar", "scratch", "into"}
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_a_link_is_not_followed_by_the_member_after_it(unpack: Callable[..., list[str]], tmp_path: Path) -> None:
    link = member("STS/out", kind=tarfile.SYMTYPE, linkname=str(tmp_path))
    with pytest.raises(NetworkError):
        unpack(tarred(link, member("STS/out/evil", b"x")))
    assert not (tmp_path / "evil").exists()


def test_an_archive_of_more_bytes_than_allowed_is_refused(unpack: Callable[..., list[str]]) -> None:
    # four bytes and four bytes: one more than seven
    with pytest.raises(NetworkError, match="more than the 7 bytes allowed"):
        unpack(tarred(*GOOD), 7)


def test_a_small_file_that_decompresses_without_end_is_stopped_in_time(
    unpack: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 10)
    bomb = gzip.compress(tarred(member("zeros", bytes(20_000_000))))
    assert len(bomb) < 100_000
    with pytest.raises(NetworkError, match="bytes allowed: refused"):
        unpack(bomb, 1_000_000)
    # the budget, and room for the headers of ten members
    assert sum(path.stat().st_size for path in (tmp_path / "scratch").iterdir()) <= 1_000_000 + 10 * 2 * 512


def test_a_header_that_claims_more_than_there_is_is_refused(unpack: Callable[..., list[str]]) -> None:
    lying, _ = member("zeros")
    lying.size = 10**15
    with pytest.raises(NetworkError, match="bytes allowed: refused"):
        unpack(lying.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def test_a_sparse_file_is_refused(unpack: Callable[..., list[str]]) -> None:
    sparse = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": "0,1",
        "GNU.sparse.size": "1000000000",
    }
    with pytest.raises(NetworkError, match=r"no plain file|bytes allowed"):
        unpack(tarred(member("zeros", b"x", pax_headers=sparse)), 10**10)


def test_too_many_members_are_refused(unpack: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    with pytest.raises(NetworkError, match="more than 2 members"):
        unpack(tarred(*GOOD))


@pytest.mark.parametrize("content", [b"", b"x", b"<html>log in</html>" * 100, b"\x1f\x8bnot gzip", b"BZh9not bzip2"])
def test_what_is_no_tar_file_is_said_to_be_none(unpack: Callable[..., list[str]], content: bytes) -> None:
    with pytest.raises(NetworkError, match=r"data\.tar is no valid tar file"):
        unpack(content, 1000)


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_an_archive_cut_within_a_file_is_said_to_be_broken(
    unpack: Callable[..., list[str]], compress: Callable[[bytes], bytes]
) -> None:
    content = compress(tarred(member("a.txt", os.urandom(5000))))
    with pytest.raises(NetworkError, match="no valid tar file"):
        unpack(content[:3000], 10_000)


class MakeFile:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.fixture
def pickles(tmp_path: Path) -> tuple[Path, dict[str, bytes]]:
    """A file that must not appear, and pickles in every dress that would make it."""
    witness = tmp_path / "witness"
    evil = MakeFile(witness)
    checkpoint, array = io.BytesIO(), io.BytesIO()
    torch.save({"weight": evil}, checkpoint)
    np.save(array, np.array([evil], dtype=object), allow_pickle=True)
    bare = {f"protocol{number}": pickle.dumps(evil, protocol=number) for number in range(2, 6)}
    named = {"valid.pkl": pickle.dumps(evil, protocol=0), "model.pth": checkpoint.getvalue()}
    return witness, bare | named | {"model": checkpoint.getvalue(), "rows.npy": array.getvalue()}


def test_pickles_never_leave_the_archive(
    unpack: Callable[..., list[str]], tmp_path: Path, pickles: tuple[Path, dict[str, bytes]]
) -> None:
    witness, evil = pickles
    left_out = unpack(tarred(*GOOD, *(member(f"COCO/{name}", content) for name, content in evil.items())))
    assert sorted(left_out) == sorted(f"COCO/{name}" for name in evil)
    assert files_under(tmp_path / "into") == {"STS/a.txt": b"one\n", "SICK/b.txt": b"two\n"}
    assert not witness.exists()


def test_downloading_pickles_as_files_or_in_an_archive_runs_none(
    client: Client, hub: FakeHub, home: Path, pickles: tuple[Path, dict[str, bytes]]
) -> None:
    witness, evil = pickles
    archive = tarred(*GOOD, *(member(f"COCO/{name}", content) for name, content in evil.items()))
    hub.repos["datasets/princeton-nlp/datasets-for-simcse"] = Repo({"senteval.tar": archive})
    hub.repos["ffgcc/DistilCSE"] = Repo({"CKD-Tiny-L4.pth": evil["model.pth"]})
    done = client("download", "senteval", "ckd-tiny-l4")
    assert f"left out {len(evil)} pickled files" in done.err
    client("download", "--verify")
    folder = home / "datasets" / "senteval"
    unpacked = {"downstream/STS/a.txt", "downstream/SICK/b.txt", "source.json"}
    assert set(files_under(folder)) == unpacked
    assert not witness.exists()


@pytest.mark.parametrize(("evil", "says"), [REFUSED["parent"], REFUSED["symbolic link out"], REFUSED["pipe"]])
def test_a_download_with_an_evil_archive_fails_with_one_line_and_leaves_nothing(
    client: Client, hub: FakeHub, home: Path, evil: Member, says: str
) -> None:
    hub.repos["datasets/princeton-nlp/datasets-for-simcse"] = Repo({"senteval.tar": tarred(*GOOD, evil)})
    assert says in client("download", "senteval", code=6).error
    assert not (home / "datasets" / "senteval").exists()
    assert not any("evil" in path.name for path in home.rglob("*"))


BASE = tarred(*GOOD, member("MR/c.txt", b"three\n" * 50))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, len(BASE) - 1), st.binary(min_size=1, max_size=20)), max_size=6))
def test_a_damaged_archive_is_unpacked_inside_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, bytes]]
) -> None:
    content = bytearray(BASE)
    for place, piece in changes:
        content[place : place + len(piece)] = piece
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "data.tar").write_bytes(content)
    (folder / "scratch").mkdir()
    # any other exception fails the test
    with contextlib.suppress(NetworkError):
        unpack_tar(folder / "data.tar", folder / "into", folder / "scratch", name="data.tar", num_bytes=None)
    assert {path.name for path in folder.iterdir()} <= {"data.tar", "scratch", "into"}
    assert all(path.is_file() or path.is_dir() for path in folder.rglob("*"))
    assert not any(path.is_symlink() for path in folder.rglob("*"))
