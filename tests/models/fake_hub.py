"""A hub on loopback: enough of its HTTP interface for `snapshot_download`, failures included."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def fake_hub(models: dict[str, Path | int]) -> Iterator[str]:
    """Serve each model id with the files of a folder, or with a status code; yield the endpoint's address.

    The only revisions are `main`, `v1` and `COMMIT`, all the same.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(send_body=True)

        def do_HEAD(self) -> None:
            self._answer(send_body=False)

        def log_message(self, *_arguments: object) -> None:
            pass

        def _answer(self, *, send_body: bool) -> None:
            parts = self.path.partition("?")[0].strip("/").split("/")
            is_api = parts[0] == "api"
            owner, name, verb, revision, *rest = parts[2:] if is_api else parts
            model = models.get(f"{owner}/{name}", 404)
            if isinstance(model, int):
                code = {401: "RepoNotFound", 404: "RepoNotFound", 403: "GatedRepo"}.get(model)
                self._send(model, b"{}", {"X-Error-Code": code} if code else {}, send_body)
            elif revision not in ("main", "v1", COMMIT):
                self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, send_body)
            elif not is_api:
                body = (model / "/".join(rest)).read_bytes()
                self._send(200, body, {"ETag": f'"{len(body)}-{rest[-1]}"', "X-Repo-Commit": COMMIT}, send_body)
            else:
                files = [
                    {
                        "type": "file",
                        "path": str(file.relative_to(model)),
                        "size": file.stat().st_size,
                        "oid": file.name,
                    }
                    for file in sorted(model.rglob("*"))
                    if file.is_file()
                ]
                info = {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": [{"rfilename": f["path"]} for f in files]}
                self._send(200, json.dumps(files if verb == "tree" else info).encode(), {}, send_body)

        def _send(self, status: int, body: bytes, headers: dict[str, str], send_body: bool) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if send_body:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
