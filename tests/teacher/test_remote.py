"""Rows from a server: right in every dialect, kept through every fault, and never with the key in sight."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distilcse_cli import console
from distilcse_cli.catalogue import refusals
from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.corpus import Corpus, prepare_corpus
from distilcse_cli.errors import DataError, DistilCSEError, NetworkError, UsageError
from distilcse_cli.teacher import remote
from distilcse_cli.teacher.endpoint import asked_wait
from distilcse_cli.teacher.remote import extract_remote
from distilcse_cli.teacher.settings import EndpointSettings
from distilcse_cli.teacher.store import EmbeddingStore, open_store, vectors_fingerprint
from tests.teacher.embedding_server import DIALECTS, WIDTH, Dialect, EmbeddingServer, Reply, reply, vector

TEXTS = [f"sentence {number} of the corpus" for number in range(11)]
KEY = "sk-0123456789secret"


@pytest.fixture
def corpus(tmp_path: Path, home: Path) -> Corpus:
    (tmp_path / "corpus.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    corpus = prepare_corpus([str(tmp_path / "corpus.txt")], CorpusSettings())
    assert home.exists()
    return corpus


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer() as started:
        yield started


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited for before retries; no time passes."""
    waited: list[float] = []
    monkeypatch.setattr(refusals.time, "sleep", waited.append)
    return waited


def taken(server: EmbeddingServer, corpus: Corpus, out: Path, **settings: Any) -> EmbeddingStore:
    options = {name: settings.pop(name) for name in ("dtype", "normalize", "prompt") if name in settings}
    given = {"model": "m", "request_size": 5, "concurrency": 1, **settings}
    try:
        return extract_remote(corpus, out, EndpointSettings(endpoint=server.url, **given), **options)
    finally:
        # a request that was on its way when the run stopped must not be counted with those of the next run
        for thread in threading.enumerate():
            if thread.name == remote.THREADS:
                thread.join()


def expected(texts: list[str] = TEXTS, width: int = WIDTH) -> np.ndarray:
    rows = np.stack([vector(text)[:width] for text in texts])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("encoding_format", ["base64", "float"])
@pytest.mark.parametrize("name", DIALECTS)
def test_rows_are_right_in_every_dialect(name: str, encoding_format: str, corpus: Corpus, tmp_path: Path) -> None:
    with EmbeddingServer(DIALECTS[name]) as server:
        store = taken(server, corpus, tmp_path / "out", encoding_format=encoding_format)
    np.testing.assert_allclose(store.embeddings, expected(), atol=1e-7)
    assert store.sentences_path.read_text(encoding="utf-8").splitlines() == TEXTS
    assert open_store(tmp_path / "out", corpus=corpus).num_extracted == 0
    assert store.manifest["normalized"] is True
    # five words a sentence; a refused request costs nothing
    assert store.manifest["num_tokens"] == (5 * len(TEXTS) if DIALECTS[name].has_usage else None)
    assert {request["encoding_format"] for request in server.requests} == {encoding_format}
    assert all("dimensions" not in request and "" not in request["input"] for request in server.requests)


def test_the_manifest_says_what_the_teacher_was_and_the_rows_may_stay_as_sent(
    server: EmbeddingServer, corpus: Corpus, tmp_path: Path
) -> None:
    store = taken(server, corpus, tmp_path / "out", normalize=False, dtype="float16", terms="no rivals")
    np.testing.assert_array_equal(store.embeddings, np.stack([vector(text) for text in TEXTS]).astype(np.float16))
    wanted = {"origin": "endpoint", "teacher": "m", "terms": "no rivals", "endpoint": f"{server.url}/embeddings"}
    assert {name: store.manifest[name] for name in wanted} == wanted
    assert store.manifest["teacher_fingerprint"] == vectors_fingerprint("m", WIDTH)
    assert store.manifest["normalized"] is False


def test_prompt_and_dimensions_are_sent(server: EmbeddingServer, corpus: Corpus, tmp_path: Path) -> None:
    store = taken(server, corpus, tmp_path / "out", prompt="passage: ", dimensions=4)
    np.testing.assert_allclose(store.embeddings, expected([f"passage: {text}" for text in TEXTS], 4), atol=1e-6)
    assert {request["dimensions"] for request in server.requests} == {4}


def test_dimensions_that_a_server_ignores_are_an_error(corpus: Corpus, tmp_path: Path) -> None:
    with (
        EmbeddingServer(DIALECTS["Ollama"]) as server,
        pytest.raises(NetworkError, match=r"asked for 4 .* but sends 8"),
    ):
        taken(server, corpus, tmp_path / "out", dimensions=4)
    assert not (tmp_path / "out").exists()


def test_requests_go_out_together_and_rows_come_in_order(
    server: EmbeddingServer, corpus: Corpus, tmp_path: Path
) -> None:
    # ten requests; each answer waits until there are two
    server.before = threading.Barrier(2, timeout=60).wait
    store = taken(server, corpus, tmp_path / "out", request_size=2, concurrency=2, prompt="")
    np.testing.assert_allclose(store.embeddings, expected(), atol=1e-7)


# retries

PASSING: dict[str, tuple[Reply, float]] = {
    "429 with seconds": (reply(429, {"error": {"message": "slow"}}, Retry_After="7"), 7.0),
    "429 with milliseconds": (reply(429, None, retry_after_ms="1500"), 1.5),
    "429 without": (reply(429, {"message": "overloaded", "code": 429, "type": "Overloaded"}), 1.0),
    "424": (reply(424, {"message": "backend"}), 1.0),
    "408": (reply(408), 1.0),
    "500": (reply(500, {"error": "text"}), 1.0),
    "503": (reply(503, {"error": {"message": "loading", "code": 503}}, Retry_After="2"), 2.0),
    "broken JSON": (reply(200, b'{"data": [{"index": 0, "embed'), 1.0),
    "a page": (reply(200, b"<html>sign in</html>"), 1.0),
}


@pytest.mark.parametrize("case", PASSING)
def test_what_passes_is_tried_again(
    case: str, server: EmbeddingServer, corpus: Corpus, tmp_path: Path, waits: list[float]
) -> None:
    server.planned[1], wait = PASSING[case]
    store = taken(server, corpus, tmp_path / "out")
    np.testing.assert_allclose(store.embeddings, expected(), atol=1e-7)
    assert waits == [wait]
    assert [len(request["input"]) for request in server.requests] == [5, 5, 5, 1]


def test_waits_as_servers_write_them() -> None:
    assert asked_wait({}) == asked_wait({"retry-after": "soon"}) == asked_wait({"retry-after": "-3"}) == 0
    assert asked_wait({"retry-after": "2.5"}) == 2.5
    now = time.time()
    assert 50 < asked_wait({"retry-after": formatdate(now + 60, usegmt=True)}) <= 60
    assert asked_wait({"retry-after": formatdate(now - 60, usegmt=True)}) == 0


LASTING: dict[str, tuple[Reply, str]] = {
    "400": (reply(400, {"error": {"message": "no", "code": None}}), r"refuses sentence 6 alone \(400: no\)"),
    "413": (reply(413), r"refuses sentence 6 alone \(413\)"),
    "422": (reply(422, {"detail": [{"msg": "bad"}]}), r"refuses sentence 6 alone \(422: \[\{'msg': 'bad'\}\]\)"),
    "401": (reply(401), r"refuses the key in OPENAI_API_KEY \(401\)"),
    "403": (reply(403, {"error": "Unauthorized"}), r"refuses the key in OPENAI_API_KEY \(403: Unauthorized\)"),
    "404": (reply(404, {"error": {"message": "model m not found"}}), "answers 404: model m not found"),
    "307": (reply(307, None, Location="http://elsewhere"), "answers 307: it sends us elsewhere"),
    "501": (reply(501, {"error": {"message": "--embeddings"}}), "answers 501: --embeddings"),
    "no money": (reply(429, {"error": {"message": "pay", "code": "insufficient_quota"}}), "answers 429: pay"),
    "a wait of hours": (reply(429, None, Retry_After="7200"), "and asks to wait 2h00m"),
    "another form": (reply(200, [[1.0]]), "does not answer as /v1/embeddings does"),
    "too few": (reply(200, {"data": [{"index": 0, "embedding": [1]}]}), "answers 5 texts with 1 vectors"),
    "an index twice": (
        reply(200, {"data": [{"index": i // 2, "embedding": [1]} for i in range(5)]}),
        "answers 5 texts with 5 vectors, or numbers them wrongly",
    ),
    "no index": (reply(200, {"data": [{"embedding": [1]}] * 5}), "or numbers them wrongly"),
    "no vector": (reply(200, {"data": [{"index": i} for i in range(5)]}), "sends rows of 0 numbers"),
    "bad base64": (reply(200, {"data": [{"index": i, "embedding": "€"} for i in range(5)]}), "sends rows of 0 numbers"),
    "two widths": (
        reply(200, {"data": [{"index": i, "embedding": [1] * (1 + i % 2)} for i in range(5)]}),
        "sends rows of 1 and 2 numbers",
    ),
    "another width": (
        reply(200, {"data": [{"index": i, "embedding": [1, 2]} for i in range(5)]}),
        "sends rows of 2 numbers, but before it sent 8",
    ),
    "NaN": (
        reply(200, {"data": [{"index": i, "embedding": [float("nan") if i == 1 else 1.0]} for i in range(5)]}),
        "sends zeros, NaN or infinity for sentence 7",
    ),
    "zeros": (
        reply(200, {"data": [{"index": i, "embedding": [0 if i == 2 else 1]} for i in range(5)]}),
        "sends zeros, NaN or infinity for sentence 8",
    ),
}


@pytest.mark.parametrize("case", LASTING)
def test_what_lasts_ends_at_once_keeps_what_there_is_and_can_be_resumed(
    case: str,
    server: EmbeddingServer,
    corpus: Corpus,
    tmp_path: Path,
    waits: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    answer, message = LASTING[case]
    server.planned = dict.fromkeys(range(1, 6), answer)
    with pytest.raises(NetworkError, match=message):
        taken(server, corpus, tmp_path / "out")
    assert waits == []
    manifest = json.loads((tmp_path / "out" / "manifest.partial.json").read_text(encoding="utf-8"))
    assert (manifest["rows_done"], manifest["num_tokens"]) == (5, 25)
    server.planned, server.requests = {}, []
    store = taken(server, corpus, tmp_path / "out")
    assert server.texts == TEXTS[5:]
    assert (store.num_extracted, store.manifest["num_tokens"]) == (6, 55)
    whole = taken(server, corpus, tmp_path / "whole")
    assert (store.folder / "embeddings.npy").read_bytes() == (whole.folder / "embeddings.npy").read_bytes()
    assert store.manifest == whole.manifest


def test_a_failure_that_does_not_pass_ends_after_five_retries(
    server: EmbeddingServer, corpus: Corpus, tmp_path: Path, waits: list[float]
) -> None:
    server.planned = {number: reply(500) for number in range(99)}
    with pytest.raises(NetworkError, match="answers 500, 6 times in a row"):
        taken(server, corpus, tmp_path / "out")
    assert waits == [1, 2, 4, 8, 16]
    assert not (tmp_path / "out").exists()


def test_a_text_that_is_too_long_is_named(corpus: Corpus, tmp_path: Path) -> None:
    with (
        EmbeddingServer(Dialect(longest=len(TEXTS[0]))) as server,
        pytest.raises(NetworkError, match="refuses sentence 11 alone"),
    ):
        taken(server, corpus, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "manifest.partial.json").read_text(encoding="utf-8"))["rows_done"] == 10


def test_no_server_is_one_line(corpus: Corpus, tmp_path: Path, waits: list[float]) -> None:
    with EmbeddingServer() as server:
        pass
    with pytest.raises(NetworkError, match=r"no answer from 127\.0\.0\.1:.*: Connection refused, 3 times in a row"):
        taken(server, corpus, tmp_path / "out")
    assert waits == [1, 2]


def test_ctrl_c_keeps_every_answer_that_has_come(
    server: EmbeddingServer, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(console.Progress):
        def update(self, num_units: int, facts: str = "") -> None:
            super().update(num_units, facts)
            if self.done == 10:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(console, "Progress", Stopped)
        with pytest.raises(KeyboardInterrupt):
            taken(server, corpus, tmp_path / "out")
    server.requests = []
    assert taken(server, corpus, tmp_path / "out").num_extracted == 1
    assert server.texts == TEXTS[10:]


def test_killed_before_the_manifest_nothing_is_asked_again(
    server: EmbeddingServer, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception): ...

    def killed(_: Path) -> None:
        raise Killed

    whole = taken(server, corpus, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(remote.partial, "fsync", killed)  # right after the array has its final name
        with pytest.raises(Killed):
            taken(server, corpus, tmp_path / "out")
    server.requests = []
    store = taken(server, corpus, tmp_path / "out")
    assert (server.requests, store.num_extracted, store.manifest) == ([], 0, whole.manifest)
    assert taken(server, corpus, tmp_path / "out").num_extracted == 0


OTHERWISE: dict[str, tuple[dict[str, Any], str]] = {
    "model": ({"model": "n"}, "teacher is m there, n here"),
    "dtype": ({"dtype": "float16"}, "dtype is float32 there, float16 here"),
    "length": ({"normalize": False}, "normalized is True there, False here"),
    "prompt": ({"prompt": "q: "}, "prompt is None there, q:  here"),
    "dimensions": ({"dimensions": 4}, "dimensions is None there, 4 here"),
}


@pytest.mark.parametrize("case", OTHERWISE)
def test_another_store_is_left_alone(case: str, server: EmbeddingServer, corpus: Corpus, tmp_path: Path) -> None:
    taken(server, corpus, tmp_path / "out")
    settings, message = OTHERWISE[case]
    with pytest.raises(DataError, match=message):
        taken(server, corpus, tmp_path / "out", **settings)


# the key, the address


def test_the_key_is_sent_and_nowhere_else(
    server: EmbeddingServer,
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    server.planned[1] = reply(429, {"error": {"message": f"key {KEY} is over its limit"}})
    server.planned[2] = reply(401, {"error": {"message": f"Incorrect API key provided: {KEY}"}})
    with pytest.raises(DistilCSEError) as caught:
        taken(server, corpus, tmp_path / "out", api_key_variable="MY_KEY")
    assert server.keys == [f"Bearer {KEY}"] * 3
    shown = f"{caught.value.message} {caught.value.hint} {caught.value.__cause__} {capsys.readouterr()}"
    assert "key … is over its limit" in shown
    assert "refuses the key in MY_KEY (401: Incorrect API key provided: …)" in shown
    assert KEY not in shown
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_without_a_key_none_is_sent(
    server: EmbeddingServer, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server.planned[0] = reply(401)
    with pytest.raises(NetworkError, match="wants a key, and OPENAI_API_KEY holds none"):
        taken(server, corpus, tmp_path / "out")
    assert server.keys == [None]
    monkeypatch.setenv("OPENAI_API_KEY", "naïve")
    with pytest.raises(UsageError, match="the key in OPENAI_API_KEY holds odd characters"):
        taken(server, corpus, tmp_path / "out")


def test_offline_asks_only_this_machine(
    server: EmbeddingServer, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nobody listens; this machine needs no proxy
    assert len(taken(server, corpus, tmp_path / "out")) == len(TEXTS)
    far = EndpointSettings(endpoint="https://api.example.com/v1", model="m")
    with pytest.raises(NetworkError, match=r"forbids the network, and api\.example\.com is not on this machine"):
        extract_remote(corpus, tmp_path / "far", far)
    assert not (tmp_path / "far").exists()


@pytest.mark.parametrize(
    ("typed", "url", "is_local"),
    [
        ("http://localhost:8080", "http://localhost:8080/v1/embeddings", True),
        ("http://localhost:8080/", "http://localhost:8080/v1/embeddings", True),
        ("https://api.example.com/v1/", "https://api.example.com/v1/embeddings", False),
        ("http://127.0.0.2/embeddings", "http://127.0.0.2/embeddings", True),
        ("http://[::1]:7997/openai", "http://[::1]:7997/openai/embeddings", True),
        ("http://10.0.0.1", "http://10.0.0.1/v1/embeddings", False),
    ],
)
def test_addresses(typed: str, url: str, is_local: bool) -> None:
    settings = EndpointSettings(endpoint=typed, model="m", price_per_million=0.02)
    assert (settings.url, settings.is_local) == (url, is_local)
    assert (settings.cost(2_000_000), settings.cost(None)) == (0.04, None)


@pytest.mark.parametrize(
    "make",
    [
        lambda: EndpointSettings(endpoint="http://localhost"),
        lambda: EndpointSettings(endpoint="localhost:8080", model="m"),
        lambda: EndpointSettings(endpoint="http://localhost:port", model="m"),
        lambda: EndpointSettings(endpoint=f"http://user:{KEY}@host", model="m"),
        lambda: EndpointSettings(endpoint=f"http://host/?key={KEY}", model="m"),
        lambda: EndpointSettings(concurrency=0),
    ],
)
def test_settings_that_cannot_be(make: Callable[[], object]) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert KEY not in f"{caught.value.message}{caught.value.hint}"
