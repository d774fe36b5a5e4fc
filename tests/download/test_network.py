"""The user's network: endpoints, proxies, certificates, and a token that stays where it belongs."""

import http.server
import json
import shutil
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from distilcse_cli.catalogue.refusals import public_text
from tests.download.conftest import TOKEN, Client, hub_environment, run_instant
from tests.download.fake_hub import FakeHub, Fault, Repo

CONTENT = b"sentence\n" * 100


@pytest.fixture
def environment(hub: FakeHub, home: Path, tmp_path: Path) -> dict[str, str]:
    """Of a process of its own that talks to the fake hub."""
    return hub_environment(hub, tmp_path / "hf") | {"DISTILCSE_HOME": str(home)}


def test_the_token_goes_to_the_hub_and_not_to_the_host_that_it_redirects_to(client: Client, hub: FakeHub) -> None:
    hub.repos["datasets/a/b"] = Repo({"a.txt": CONTENT, "b.pth": CONTENT}, large=frozenset({"b.pth"}))
    hub.faults["b.pth"] = [Fault(cut_at=10)]
    client("download", "datasets/a/b")
    asked = [one for one in hub.requests if one.path != "api/agent-harnesses"]
    by_host = {host: {one.headers.get("authorization") for one in asked if one.host == host} for host in ("hub", "cdn")}
    assert by_host == {"hub": {f"Bearer {TOKEN}"}, "cdn": {None}}
    # list, a.txt, twice the redirect, and the two halves of b.pth
    assert [one.host for one in asked].count("cdn") == 2


def test_neither_token_nor_signature_is_shown_or_written(client: Client, hub: FakeHub, home: Path) -> None:
    hub.repos["datasets/a/b"] = Repo({"b.pth": CONTENT}, large=frozenset({"b.pth"}))
    shown = ""
    for fault in (Fault(cut_at=10), Fault(cut_at=0), Fault(status=403), Fault(status=500)):
        hub.faults["b.pth"] = [fault] * 20
        shown += client("download", "datasets/a/b", code=6).err
        hub.faults.clear()
    shown += client("download", "datasets/a/b").err
    shown += client("download", "--list", "--json").out
    written = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    for secret in (TOKEN, "secret-signature"):
        assert secret not in shown
        assert secret.encode() not in written


def test_a_token_that_no_header_can_hold_is_not_shown(hub: FakeHub, environment: dict[str, str]) -> None:
    hub.repos["datasets/a/b"] = Repo({"a.txt": CONTENT})
    curly = environment | {"HF_TOKEN": "hf_odd\u2019token"}
    done = run_instant("download", "datasets/a/b", code=6, environment=curly)
    assert "HF_TOKEN or HF_ENDPOINT holds odd characters" in done.stderr
    assert "hf_odd" not in done.stderr


def test_what_others_say_is_shown_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "odd token")
    said = """GET http://me:pw@hub:8/x?sig=abc&y=1 failed,
      https://me@hub/a, (proxy socks5://u:p%40@h:1) with hf_abcdefghijk and odd token"""
    shown = "GET http://hub:8/x failed, https://hub/a, (proxy socks5://h:1) with hf_… and $HF_TOKEN"
    assert public_text(said) == shown
    assert public_text("3 of 5 tokens? yes: user@example.org") == "3 of 5 tokens? yes: user@example.org"


def test_a_password_in_the_endpoint_is_not_shown(hub: FakeHub, environment: dict[str, str]) -> None:
    endpoint = hub.endpoint.replace("http://", "http://user:pa55word@")
    for repo in (Repo(status=403), Repo(status=500)):
        hub.repos["datasets/a/b"] = repo
        done = run_instant("download", "datasets/a/b", code=6, environment=environment | {"HF_ENDPOINT": endpoint})
        assert "pa55word" not in done.stderr


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        # nothing listens on the discard port
        ("http://127.0.0.1:9", "cannot get data set a/b from http://127.0.0.1:9: Connection refused, 3 times"),
        ("ftp://127.0.0.1", "HF_ENDPOINT is not an address of a hub"),
        ("http://127.0.0.1:9:9", "HF_ENDPOINT is not an address of a hub"),
        ("http://user:secret@:9", "HF_ENDPOINT is not an address of a hub"),
        ("127.0.0.1:9", "HF_ENDPOINT is not an address of a hub"),
    ],
)
def test_an_endpoint_that_is_none_is_one_line(environment: dict[str, str], endpoint: str, says: str) -> None:
    done = run_instant("download", "datasets/a/b", code=6, environment=environment | {"HF_ENDPOINT": endpoint})
    *_, last = done.stderr.splitlines()
    assert last.startswith("error: ")
    assert says in last


def test_a_proxy_of_the_user_is_used(hub: FakeHub, environment: dict[str, str], home: Path) -> None:
    hub.repos["datasets/a/b"] = Repo({"a.txt": CONTENT})
    behind = {"HF_ENDPOINT": "http://hub.invalid", "HTTP_PROXY": hub.endpoint, "NO_PROXY": ""}
    run_instant("download", "datasets/a/b", code=0, environment=environment | behind)
    assert (home / "datasets" / "a--b" / "a.txt").read_bytes() == CONTENT
    assert {one.headers["host"] for one in hub.requests} == {"hub.invalid"}


def test_a_certificate_that_is_not_trusted_is_no_reason_to_try_again(
    environment: dict[str, str], tmp_path: Path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    made += ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"https://localhost:{server.server_port}"
        done = run_instant("download", "datasets/a/b", code=6, environment=environment | {"HF_ENDPOINT": endpoint})
        server.shutdown()
    assert f"{endpoint} shows a certificate that is not trusted here" in done.stderr
    assert "SSL_CERT_FILE" in done.stderr
    assert "trying again" not in done.stderr


def test_the_record_names_the_public_page_and_not_the_mirror(client: Client, hub: FakeHub, home: Path) -> None:
    card = b"---\nlicense: cc-by-4.0\n---\n# Sentences\n"
    hub.repos["datasets/a/b"] = Repo({"a.txt": CONTENT, "README.md": card})
    done = client("download", "datasets/a/b")
    assert "license as stated in README.md, license: cc-by-4.0" in done.err
    text = (home / "datasets" / "a--b" / "source.json").read_text(encoding="utf-8")
    assert hub.endpoint not in text
    assert json.loads(text)["url"] == "https://huggingface.co/datasets/a/b"
