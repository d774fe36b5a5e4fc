"""A small server with the /v1/embeddings interface, in a thread, that speaks the dialects of the real ones.

`python -m tests.teacher.embedding_server` serves until it is killed, and prints its address.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import numpy as np

WIDTH = 8


def vector(text: str, width: int = WIDTH) -> np.ndarray:
    """The server's vector of a text, not of length 1."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    return np.random.default_rng(seed).normal(size=width).astype(np.float32)


Reply = tuple[int, dict[str, str], bytes]


def reply(status: int, body: Any = None, **headers: str) -> Reply:
    """An answer whose body is JSON, bytes as they are, or empty."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, content


@dataclass
class Dialect:
    """How a server differs from the others."""

    most_items: int = 2048
    """More of them are refused."""
    refusal: Reply = field(
        default_factory=lambda: reply(400, {"error": {"message": "too many inputs", "type": "invalid", "code": None}})
    )
    longest: int = 10_000
    """Characters of a text; a longer one is refused."""
    speaks_base64: bool = True
    order: Callable[[list[Any]], list[Any]] = lambda data: data
    """Changes the order of the vectors."""
    has_usage: bool = True
    cuts: bool = True
    """Whether `dimensions` is obeyed."""


DIALECTS = {
    "OpenAI": Dialect(),
    "text-embeddings-inference": Dialect(
        most_items=3,
        refusal=reply(422, {"message": "batch size 5 > maximum allowed", "code": 422, "type": "Validation"}),
        order=lambda data: data[::-1],
    ),
    "vLLM": Dialect(
        refusal=reply(400, {"error": {"message": "too long", "type": "BadRequest", "code": 400}}), longest=40
    ),
    "Ollama": Dialect(speaks_base64=False, cuts=False),
    "llama.cpp": Dialect(has_usage=False, order=lambda data: [{**one, "encoding_format": "base64"} for one in data]),
    "LM Studio": Dialect(most_items=1, refusal=reply(413, {"error": "request entity too large"}), speaks_base64=False),
}


class EmbeddingServer:
    """`with EmbeddingServer() as server:` listens at `server.url` and remembers what it was asked."""

    def __init__(self, dialect: Dialect | None = None, *, port: int = 0) -> None:
        self.dialect = dialect or Dialect()
        self.width = WIDTH
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.planned: dict[int, Reply] = {}
        """Number of a request, from 0 -> what is answered instead."""
        self.before: Callable[[], object] = lambda: None
        """Called in the middle of each request."""
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    @property
    def texts(self) -> list[str]:
        """All texts that came, in the order of arrival."""
        return [text for request in self.requests for text in request["input"]]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    number = len(server.requests)
                    server.requests.append(body)
                    server.keys.append(self.headers.get("Authorization"))
                server.before()
                path = reply(404, {"error": {"message": "no such path"}}) if self.path != "/v1/embeddings" else None
                status, headers, content = path or server.planned.get(number) or server._answer(body)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None: ...

        return Handler

    def _answer(self, body: dict[str, Any]) -> Reply:
        texts, dialect = body["input"], self.dialect
        if len(texts) > dialect.most_items or "" in texts or any(len(text) > dialect.longest for text in texts):
            return dialect.refusal
        width = body.get("dimensions", self.width) if dialect.cuts else self.width
        rows = [vector(text, self.width)[:width] for text in texts]
        is_base64 = dialect.speaks_base64 and body.get("encoding_format") == "base64"
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(row.astype("<f4").tobytes()).decode() if is_base64 else row.tolist(),
            }
            for index, row in enumerate(rows)
        ]
        tokens = sum(len(text.split()) for text in texts)
        usage = {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}} if dialect.has_usage else {}
        return reply(200, {"object": "list", "model": body["model"], "data": dialect.order(data), **usage})

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


if __name__ == "__main__":
    served = EmbeddingServer()
    print(served.url, flush=True)
    served._http.serve_forever()
