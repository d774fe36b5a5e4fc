"""`export --web`: the files of the page with a stand-in for npm; the page itself where npm and chromium are."""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from distilcse_cli.config import EncodeSettings
from distilcse_cli.errors import NetworkError, UsageError
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.models.folder import save_student
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.runtime import Runtime
from distilcse_cli.serving.settings import OnnxSettings
from distilcse_cli.serving.web import VENDORED, export_web

FAKE_NPM = f"""#!{sys.executable}
import io, pathlib, sys, tarfile
VENDORED = {VENDORED!r}
with open(LOG_FILE, "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
folder = pathlib.Path(sys.argv[sys.argv.index("--pack-destination") + 1])
with tarfile.open(folder / "package.tgz", "w:gz") as archive:
    for member in VENDORED[sys.argv[2]]:
        entry = tarfile.TarInfo("package/" + member)
        entry.size = len(member)
        archive.addfile(entry, io.BytesIO(member.encode()))
"""
TEXTS = ["The cat sleeps.", "a Dog runs to the river", "red, big & <b>Ünïcode</b>", "a man and a child " * 30, "0815?"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def student(tiny: Callable[..., Path], tmp_path: Path) -> ModelRef:
    encoder = load_encoder(str(tiny("bert")), pooler="avg", prompt="the ")
    save_student(encoder, tmp_path / "student", card="", settings={})
    return ModelRef(ref=str(tmp_path / "student"))


def install_npm(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    (folder / "npm").write_text(script, encoding="utf-8")
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_the_page_has_all_that_it_asks_for(student: ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "npm.log"
    install_npm(tmp_path / "bin", FAKE_NPM.replace("LOG_FILE", repr(str(log))), monkeypatch)
    report = export_web(student, tmp_path / "page", TEXTS, OnnxSettings())
    page = tmp_path / "page"
    text = (page / "index.html").read_text(encoding="utf-8")
    asked = {*re.findall(r'from "\./([^"]+)"', text), *re.findall(r'"(\w+\.(?:json|onnx))"', text)}
    assert asked >= {"vendor/ort.wasm.min.mjs", "model.onnx", "student.json", "tokenizer.json"}
    assert all((page / name).is_file() for name in asked)
    assert not re.search(r"https?://", text)  # it asks no other server
    assert {path.name for path in (page / "vendor").iterdir()} == {
        Path(member).name for members in VENDORED.values() for member in members
    }
    for line, package in zip(log.read_text().splitlines(), VENDORED, strict=True):
        assert line.startswith(f"pack {package} --ignore-scripts")
    about = json.loads((page / "student.json").read_text(encoding="utf-8"))
    cpu = Runtime(device="cpu", dtype="float32", reason="test")
    ours = Embedder(student.load(), cpu, EncodeSettings(normalize=True)).sentences(TEXTS)
    np.testing.assert_allclose(about["embeddings"], ours, atol=2e-6)
    assert (about["prompt"], about["sentences"], about["max_length"]) == ("the ", TEXTS, 64)
    assert report["num_bytes"] == sum(path.stat().st_size for path in page.rglob("*") if path.is_file())


def test_what_npm_cannot_fetch_is_one_line_and_leaves_nothing(
    student: ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "#!/bin/sh\necho 'npm error request to https://me:secret@registry/x?token=1 failed' >&2\nexit 1\n"
    install_npm(tmp_path / "bin", script, monkeypatch)
    with pytest.raises(NetworkError, match=r"npm cannot fetch onnxruntime-web@[\d.]+: npm error request to") as caught:
        export_web(student, tmp_path / "page", TEXTS, OnnxSettings())
    assert "secret" not in str(caught.value)
    assert "token" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir() if "page" in path.name] == []
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="npm, which is not installed"):
        export_web(student, tmp_path / "page", TEXTS, OnnxSettings())


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None or CHROMIUM is None, reason="needs npm and chromium")
def test_in_a_browser_vectors_are_pythons_and_the_nearest_sentence_comes_first(
    student: ModelRef, tmp_path: Path
) -> None:
    try:
        export_web(student, tmp_path / "page", TEXTS, OnnxSettings())
    except NetworkError as error:
        pytest.skip(f"npm's registry is out of reach: {error.message}")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "page"))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/?q={quote(TEXTS[1])}"
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=120000", "--dump-dom")
        command = [str(CHROMIUM), *options, f"--user-data-dir={tmp_path / 'profile'}", address]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True, env=os.environ).stdout
        server.shutdown()
    difference = re.search(r'data-difference="([^"]+)"', shown)
    assert difference, shown
    assert float(difference[1]) < 1e-3
    first = re.search(r"<li><b>([\d.]+)</b>([^<]*)</li>", shown)
    assert first
    assert first.groups() == ("1.000", TEXTS[1])
