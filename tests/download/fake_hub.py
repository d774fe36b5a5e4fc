"""A hub on loopback, with a second host for large files, ranges, and every way to fail that we promise to survive."""

import base64
import hashlib
import json
import re
import socket
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PORTAL = b"<html><body>Welcome to the hotel. Please log in.</body></html>"
_ERROR_CODES = {401: "RepoNotFound", 404: "RepoNotFound", 403: "GatedRepo"}


@dataclass
class Fault:
    """What goes wrong with one answer. Fields left at None go right."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_at: int | None = None
    """Close the connection before this byte of the file."""
    length: int | None = None
    """Content-Length to claim."""
    body: bytes | None = None
    """Send this instead."""
    content_type: str | None = None
    ignore_range: bool = False
    end_cleanly: bool = False
    """End at `cut_at` with the last chunk of a chunked body, as if that were all."""
    stall: bool = False
    """Wait at `cut_at` until `FakeHub.release` is set or the client is gone."""


@dataclass
class Repo:
    """A repository: its files, or the status that it is refused with."""

    files: dict[str, bytes] = field(default_factory=dict)
    status: int | None = None
    large: frozenset[str] = frozenset()
    """Files that the hub redirects to its other host, with a sha256 known beforehand."""
    lies: dict[str, dict[str, object]] = field(default_factory=dict)
    """Fields of the list of files that are replaced."""
    private: bool = False
    branches: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Files that were committed, by branch."""
    etag: str | None = None
    """ETag of every file; None for one that depends on the content, "" for none."""


@dataclass
class Asked:
    """A request that came in."""

    host: str
    path: str
    headers: dict[str, str]


class FakeHub:
    """The two servers, their repositories, the faults to come, and the requests that came."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.requests: list[Asked] = []
        self.uploaded: dict[str, bytes] = {}
        """Contents of large files, by sha256."""
        self.stalled, self.release = threading.Event(), threading.Event()
        self.endpoint = self.other_host = ""

    def reset(self) -> None:
        """Forget all repositories, faults and requests."""
        self.repos.clear()
        self.faults.clear()
        self.requests.clear()
        self.uploaded.clear()
        self.stalled.clear()
        self.release.clear()

    def ranges(self, file: str) -> list[str | None]:
        """The Range header of each request that asked for the bytes of a file."""
        return [one.headers.get("range") for one in self._for(file) if "api" not in one.path]

    def _for(self, file: str) -> list[Asked]:
        moved = {path for path in (one.path for one in self.requests) if path.endswith(file)}
        # a large file is asked for twice: at the hub, and where that redirects to
        large = any(one.host == "cdn" and one.path in moved for one in self.requests)
        return [one for one in self.requests if one.path in moved and (one.host == "cdn" or not large)]

    @contextmanager
    def serve(self) -> Iterator["FakeHub"]:
        """Answer in threads until the block ends."""
        hub = ThreadingHTTPServer(("127.0.0.1", 0), self._handler("hub"))
        cdn = ThreadingHTTPServer(("127.0.0.1", 0), self._handler("cdn"))
        for server in (hub, cdn):
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{hub.server_port}"
        self.other_host = f"http://localhost:{cdn.server_port}"
        try:
            yield self
        finally:
            self.release.set()
            for server in (hub, cdn):
                server.shutdown()
                server.server_close()

    def _handler(self, host: str) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                self.close_connection = True
                # a request to a proxy names the host as well
                path = re.sub(r"^http://[^/]+", "", unquote(self.path.partition("?")[0])).strip("/")
                headers = {name.lower(): value for name, value in self.headers.items()}
                hub.requests.append(Asked(host, path, headers))
                if path == "api/agent-harnesses":
                    return self._send(404, b"", {})
                faults = hub.faults["api" if path.startswith("api/") else path.rpartition("/")[2]]
                # a redirect is no answer yet
                fault = Fault() if not faults or hub.redirects(host, path) else faults.pop(0)
                if path.startswith("api/"):
                    return self._list(path, fault)
                return self._file(path, fault)

            def do_PUT(self) -> None:
                self.close_connection = True
                hub.uploaded[self.path.rpartition("/")[2]] = self.rfile.read(int(self.headers["Content-Length"]))
                self._send(200, b"", {})

            def do_POST(self) -> None:
                self.close_connection = True
                path, length = unquote(self.path.partition("?")[0]).strip("/"), int(self.headers["Content-Length"])
                hub.requests.append(Asked(host, path, {name.lower(): value for name, value in self.headers.items()}))
                body = self.rfile.read(length)
                faults = hub.faults[path.rpartition("/")[2]]
                status, answer = (faults.pop(0).status, {}) if faults else hub.written(path, body)
                self._send(int(status or 500), json.dumps(answer).encode(), {"Content-Type": "application/json"})

            def _list(self, path: str, fault: Fault) -> None:
                found = re.fullmatch(r"api/(models|datasets)/([^/]+/[^/]+)(?:/(?:revision|tree)/(.+))?", path)
                assert found, path
                repo = hub.repos.get(f"{'datasets/' if found[1] == 'datasets' else ''}{found[2]}", Repo(status=404))
                status = fault.status or repo.status
                if fault.body is not None:
                    return self._send(200, fault.body, {"Content-Type": fault.content_type or "text/html"})
                if status:
                    code = _ERROR_CODES.get(status)
                    headers = {"X-Error-Code": code} if code else {}
                    return self._send(status, b'{"error": "no"}', headers | fault.headers)
                revision, _, folder = (found[3] or "main").partition("/")
                if folder and not any(name.startswith(f"{folder}/") for name in repo.files):
                    return self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
                if revision not in ("main", "v1", COMMIT):
                    return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                if "/tree/" in path:
                    tree = [{"type": "file", "path": n, "size": len(c), "oid": _git(c)} for n, c in repo.files.items()]
                    return self._send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
                body = {
                    "id": found[2],
                    "private": repo.private,
                    "sha": COMMIT,
                    "siblings": [_listed(repo, name) for name in repo.files],
                }
                return self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

            def _file(self, path: str, fault: Fault) -> None:
                owner, _, file = path.partition("/resolve/")
                file = file.partition("/")[2]
                repo = hub.repos[owner]
                if target := hub.redirects(host, path):
                    return self._send(302, b"", {"Location": target})
                if file not in repo.files:
                    return self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
                content = repo.files[file]
                if fault.status:
                    return self._send(fault.status, b"{}", fault.headers)
                etag = f'"{hashlib.sha256(content).hexdigest()}"' if repo.etag is None else repo.etag
                start = self._start(etag, fault)
                if start is not None and start >= len(content):
                    return self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                headers = {"Content-Type": fault.content_type or "application/octet-stream", "X-Repo-Commit": COMMIT}
                headers |= fault.headers
                if etag:
                    headers["ETag"] = etag
                if start is not None:
                    headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                    headers |= fault.headers
                return self._body(206 if start is not None else 200, start or 0, content, headers, fault)

            def _start(self, etag: str, fault: Fault) -> int | None:
                asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
                changed = self.headers.get("If-Range") not in (None, etag)
                return int(asked[1]) if asked and not changed and not fault.ignore_range else None

            def _body(self, status: int, start: int, content: bytes, headers: dict[str, str], fault: Fault) -> None:
                body = (content if fault.body is None else fault.body)[start:]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if fault.end_cleanly:
                    self.send_header("Transfer-Encoding", "chunked")
                else:
                    self.send_header("Content-Length", str(len(body) if fault.length is None else fault.length))
                self.send_header("Connection", "close")
                self.end_headers()
                if self.command == "HEAD":
                    return
                if fault.cut_at is not None:
                    body = body[: max(fault.cut_at - start, 0)]
                if fault.end_cleanly:
                    self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n")
                    return
                self.wfile.write(body)
                self.wfile.flush()
                if fault.stall:
                    hub.stalled.set()
                    hub.release.wait(timeout=60)
                if fault.cut_at is not None:
                    self.connection.shutdown(socket.SHUT_WR)

            def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body)), "Connection": "close"} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def written(self, path: str, body: bytes) -> tuple[int, dict[str, object]]:
        """Do what a POST asks for; status and answer."""
        asked = [json.loads(line) for line in body.splitlines()]
        if path == "api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "api/repos/create":
            name = f"{asked[0]['organization']}/{asked[0]['name']}"
            if name in self.repos:
                return 409, {"url": f"{self.endpoint}/{name}"}
            self.repos[name] = Repo(private=asked[0].get("visibility") == "private", branches={"main": {}})
            return 200, {"url": f"{self.endpoint}/{name}"}
        if path.endswith("/info/lfs/objects/batch"):
            objects = [
                one | {"actions": {"upload": {"href": f"{self.other_host}/{one['oid']}"}}}
                for one in asked[0]["objects"]
            ]
            return 200, {"transfer": "basic", "objects": objects}
        found = re.fullmatch(r"api/models/([^/]+/[^/]+)/(branch|preupload|commit)/(.+)", path)
        assert found, path
        branches = self.repos[found[1]].branches
        if found[2] == "branch":
            status = 409 if found[3] in branches else 200
            branches.setdefault(found[3], {})
            return status, {}
        if found[3] not in branches:
            return 404, {}
        if found[2] == "preupload":
            modes = {True: "lfs", False: "regular"}
            return 200, {
                "files": [
                    {
                        "path": one["path"],
                        "uploadMode": modes[one["path"].endswith((".safetensors", ".onnx"))],
                        "shouldIgnore": False,
                    }
                    for one in asked[0]["files"]
                ]
            }
        for one in asked[1:]:
            value = one["value"]
            content = self.uploaded[value["oid"]] if one["key"] == "lfsFile" else base64.b64decode(value["content"])
            branches[found[3]][value["path"]] = content
        return 200, {"commitUrl": f"{self.endpoint}/{found[1]}/commit/{COMMIT}", "commitOid": COMMIT}

    def redirects(self, host: str, path: str) -> str | None:
        """Where the hub sends a request for a large file on to."""
        owner, found, file = path.partition("/resolve/")
        if host != "hub" or not found or file.partition("/")[2] not in self.repos[owner].large:
            return None
        return f"{self.other_host}/{path}?signature=secret-signature"


def _listed(repo: Repo, name: str) -> dict[str, object]:
    content = repo.files[name]
    listed: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": _git(content)}
    if name in repo.large:
        sha256 = hashlib.sha256(content).hexdigest()
        listed["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
    return listed | repo.lies.get(name, {})


def _git(content: bytes) -> str:
    """Git's name of a content."""
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content)).hexdigest()
