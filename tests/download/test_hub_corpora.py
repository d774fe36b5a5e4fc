"""`--corpus owner/name`: a data set of the hub, streamed by `datasets`, whose words are ours."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.download.conftest import TOKEN, Client, hub_environment, run_instant
from tests.download.fake_hub import PORTAL, FakeHub, Fault, Repo

TEXT = b"the cat sleeps\na dog runs\n"
FAILURES: dict[str, tuple[Repo, list[Fault], str]] = {
    "401": (Repo(status=401), [], "the hub has no data set a/b, or a private one (401)"),
    "403": (Repo(status=403), [], "the hub does not hand out data set a/b to you (403)"),
    "404": (Repo(status=404), [], "the hub has no data set a/b, or a private one (404)"),
    "429": (Repo(status=429), [], "the hub asks to slow down (429) when asked for data set a/b, 6 times in a row"),
    "503": (Repo(status=503), [], "the hub answers 503 when asked for data set a/b, 6 times in a row"),
    "login page": (Repo(), [Fault(body=PORTAL)], "something other than data set a/b, perhaps a login page"),
}


@pytest.fixture
def extract(tiny: Callable[..., Path], tmp_path: Path) -> tuple[object, ...]:
    return ("extract", "--teacher", tiny("bert"), "--corpus", "a/b", "--out", tmp_path / "rows")


def test_a_data_set_of_the_hub_is_a_corpus(
    client: Client, hub: FakeHub, tmp_path: Path, extract: tuple[object, ...]
) -> None:
    hub.repos["datasets/a/b"] = Repo({"README.md": b"# Text\n", "train.txt": TEXT})
    client(*extract)
    assert (tmp_path / "rows" / "sentences.txt").read_bytes() == TEXT


def test_a_data_set_of_the_hub_holds_vectors(client: Client, hub: FakeHub, tmp_path: Path) -> None:
    # more rows than are read at a time; every other text is there twice
    texts = [f"text {i // 2 if i % 4 < 2 else i}" for i in range(2100)]
    rows = [[float(text.split()[1]), 1.0] for text in texts]
    file = io.BytesIO()
    pq.write_table(pa.table({"id": range(2100), "text": texts, "embedding": rows}), file)
    hub.repos["datasets/a/vectors"] = Repo({"README.md": b"# Vectors\n", "train.parquet": file.getvalue()})
    client("import", "a/vectors", "--text-column", "text", "--name", "m", "--out", tmp_path / "store")
    kept = list(dict.fromkeys(texts))
    assert (tmp_path / "store" / "sentences.txt").read_text(encoding="utf-8").splitlines() == kept
    stored = np.load(tmp_path / "store" / "embeddings.npy")
    assert [f"text {row[0]:.0f}" for row in stored] == kept


@pytest.mark.parametrize("what", FAILURES)
def test_a_hub_that_refuses_a_corpus_is_one_line_and_exit_code_6(
    client: Client, hub: FakeHub, tmp_path: Path, extract: tuple[object, ...], what: str
) -> None:
    hub.repos["datasets/a/b"], faults, says = FAILURES[what]
    hub.faults["api"] = list(faults)
    done = client(*extract, code=6)
    assert done.error.startswith("error: there is no file a/b, and ")
    assert says in done.error
    assert done.error.endswith(")")
    assert not (tmp_path / "rows").exists()


def test_a_file_of_a_corpus_that_is_refused_is_one_line(
    client: Client, hub: FakeHub, tmp_path: Path, extract: tuple[object, ...]
) -> None:
    hub.repos["datasets/a/b"] = Repo({"README.md": b"# Text\n", "train.txt": TEXT})
    hub.faults["train.txt"] = [Fault(status=403)] * 20
    done = client(*extract, code=6)
    assert "does not hand out data set a/b to you (403)" in done.error
    assert TOKEN not in done.err
    assert not (tmp_path / "rows").exists()


def test_a_data_set_without_texts_says_what_else_to_do(
    client: Client, hub: FakeHub, extract: tuple[object, ...]
) -> None:
    hub.repos["datasets/a/empty"] = Repo({"README.md": b"# Nothing\n"})
    done = client(*("a/empty" if one == "a/b" else one for one in extract), code=3)
    assert done.error.startswith("error: cannot read the hub data set a/empty: ")
    assert done.error.endswith("(distilcse download datasets/a/empty, then name its file)")


@pytest.mark.parametrize("repo", [Repo(status=403), Repo(status=500), Repo({"README.md": b"", "x.bin": b"x"})])
def test_neither_token_nor_a_password_in_an_address_is_shown(
    hub: FakeHub, home: Path, tmp_path: Path, extract: tuple[object, ...], repo: Repo
) -> None:
    hub.repos["datasets/a/b"] = repo
    endpoint = hub.endpoint.replace("http://", "http://user:pa55word@")
    environment = hub_environment(hub, tmp_path / "hf") | {"DISTILCSE_HOME": str(home), "HF_ENDPOINT": endpoint}
    done = run_instant(*extract, code=6 if repo.status else 3, environment=environment)
    assert "a/b" in done.stderr
    assert "pa55word" not in done.stdout + done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_without_a_network_it_is_said_after_two_retries(
    hub: FakeHub, home: Path, tmp_path: Path, extract: tuple[object, ...]
) -> None:
    # nothing listens on the discard port
    nowhere = {"HF_ENDPOINT": "http://user:pa55word@127.0.0.1:9", "DISTILCSE_HOME": str(home)}
    done = run_instant(*extract, code=6, environment=hub_environment(hub, tmp_path / "hf") | nowhere)
    assert "cannot get data set a/b from http://127.0.0.1:9: Connection refused, 3 times in a row" in done.stderr
    assert "pa55word" not in done.stderr
