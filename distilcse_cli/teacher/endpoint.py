"""A server with the /v1/embeddings interface: one request, its retries, and what can be wrong with the answer.

Hosted models, text-embeddings-inference, vLLM, Ollama, llama.cpp, infinity and LM Studio share the interface, and
differ in limits, error bodies and the order of the vectors. The key is sent to the server and shown nowhere.
"""

import base64
import os
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from distilcse_cli.catalogue import refusals
from distilcse_cli.catalogue.offline import is_offline
from distilcse_cli.catalogue.refusals import TransientError, persist
from distilcse_cli.errors import NetworkError, UsageError
from distilcse_cli.teacher.settings import EndpointSettings

KEPT = "finished rows are kept: run the same command again to resume"
_TIMEOUTS = (10.0, 600.0, 60.0, None)
"""Seconds to connect, to wait for an answer and to send; None waits for a free connection."""
_TRANSIENT = (408, 409, 424, 425, 429, 500, 502, 503, 504)
_TOO_MUCH = (400, 413, 422)
"""What servers answer to too many or too long texts, and to much else."""


@dataclass(frozen=True)
class Answer:
    """What the server says to some sentences."""

    rows: np.ndarray
    """(N, D) float32, finite, none of them zero."""
    num_tokens: int | None
    """Tokens that the server counted; None if it does not say."""


class _Refused(Exception):
    """The server does not take these texts; fewer of them may do."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"{status}{said}")


class EmbeddingServer:
    """The server. Threads may share it.

    Args:
        settings: with an endpoint.

    Raises:
        NetworkError: the network is forbidden, and the server is not on this machine.
        UsageError: the key has characters that no key has.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        self.name = urlsplit(settings.url).netloc
        self._settings, self._is_closed = settings, False
        if is_offline() and not settings.is_local:
            raise NetworkError(
                f"--offline or HF_HUB_OFFLINE forbids the network, and {self.name} is not on this machine",
                hint="leave it out, or name a server on localhost",
            )
        self._key = os.environ.get(settings.api_key_variable, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise UsageError(f"the key in {settings.api_key_variable} holds odd characters", hint="set it again")
        self._client = self._connected()

    def _connected(self) -> Any:
        refusals.check_endpoint()
        from huggingface_hub.utils import get_session

        # the HTTP library of the hub client differs between its versions; ours is a client of our own
        client = type(get_session())(timeout=_TIMEOUTS, trust_env=not self._settings.is_local)
        if self._key:
            client.headers["Authorization"] = f"Bearer {self._key}"
        return client

    def close(self) -> None:
        """Make no further requests; those that wait for a retry give up."""
        self._is_closed = True
        self._client.close()

    def embed(self, sentences: list[str], first: int) -> Answer:
        """Ask for the rows of sentences, in smaller parts where the server refuses all at once.

        Args:
            sentences: N texts, none of them empty.
            first: number of the first one, counted from 0, for messages.

        Raises:
            NetworkError: the server refuses, fails too often, or answers something else.
        """
        try:
            return persist(lambda: self._ask(sentences, first))
        except _Refused as refused:
            if len(sentences) == 1:
                raise NetworkError(
                    f"{self.name} refuses sentence {first + 1:,} alone ({refused})",
                    hint="shorten it or leave it out, or check --model, --dimensions and --encoding-format",
                ) from refused
        half = len(sentences) // 2
        parts = [self.embed(sentences[:half], first), self.embed(sentences[half:], first + half)]
        counts = [part.num_tokens for part in parts if part.num_tokens is not None]
        rows = [part.rows for part in parts]
        if rows[0].shape[1] != rows[1].shape[1]:
            raise self._wrong(f"sends rows of {rows[0].shape[1]:,} and of {rows[1].shape[1]:,} numbers")
        return Answer(np.concatenate(rows), sum(counts) if len(counts) == 2 else None)

    def _ask(self, sentences: list[str], first: int) -> Answer:
        from huggingface_hub.errors import HTTPError

        settings = self._settings
        body: dict[str, Any] = {
            "model": settings.model,
            "input": sentences,
            "encoding_format": settings.encoding_format,
        }
        if settings.dimensions is not None:
            body["dimensions"] = settings.dimensions
        try:
            response = self._client.post(settings.url, json=body)
        except (HTTPError, RuntimeError) as error:
            if self._is_closed:
                raise NetworkError("stopped") from None
            reason = refusals.reason(error)
            raise TransientError(
                message=f"no answer from {self.name}: {reason}",
                hint=f"check --endpoint and that the server runs; {KEPT}",
                is_unlikely=type(error).__name__ in ("ConnectError", "ProxyError"),
            ) from None  # its text may hold the key
        if response.status_code != 200:
            raise self._refusal(response)
        return self._read(response, len(sentences), first)

    def _refusal(self, response: Any) -> Exception:
        status, said, variable = response.status_code, self._said(response), self._settings.api_key_variable
        message = f"{self.name} answers {status}{said}"
        if status in _TOO_MUCH:
            return _Refused(status, said)
        if status in _TRANSIENT and "insufficient_quota" not in response.text:
            slower = "lower --concurrency, or try later; " if status == 429 else ""
            return TransientError(message=message, hint=slower + KEPT, retry_after=asked_wait(response.headers))
        if status in (401, 403):
            fault = f"refuses the key in {variable}" if self._key else f"wants a key, and {variable} holds none"
            hint = f"put the server's key into {variable}, or name another variable with --api-key-variable"
            return NetworkError(f"{self.name} {fault} ({status}{said})", hint=hint)
        if status == 404:
            return NetworkError(message, hint="check --endpoint and --model")
        if 300 <= status < 400:
            return NetworkError(f"{message}: it sends us elsewhere", hint="name the address that it leads to")
        return NetworkError(message, hint=KEPT)

    def _said(self, response: Any) -> str:
        """What the body of an error says, after a colon, in one line and without the key."""
        try:
            body = response.json()
        except (ValueError, RecursionError):
            return ""
        for field in ("error", "message", "detail"):
            if isinstance(body, dict) and body.get(field):
                body = body[field]
        if not body:
            return ""
        text = refusals.public_text(str(body))
        return ": " + (text.replace(self._key, "…") if self._key else text)[:300]

    def _wrong(self, what: str) -> NetworkError:
        return NetworkError(f"{self.name} {what}", hint="check --endpoint, whose address usually ends in /v1")

    def _read(self, response: Any, num: int, first: int) -> Answer:
        """The rows of a good answer, in the order of the sentences."""
        try:
            body = response.json()
        except (ValueError, RecursionError):
            raise TransientError(
                message=f"{self.name} sends no whole JSON", hint=f"check --endpoint; {KEPT}", is_unlikely=True
            ) from None
        items = body.get("data") if isinstance(body, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise self._wrong("does not answer as /v1/embeddings does: there is no list `data`")
        if sorted(str(item.get("index")) for item in items) != sorted(map(str, range(num))):
            raise self._wrong(f"answers {num:,} texts with {len(items):,} vectors, or numbers them wrongly")
        found = [_row(item.get("embedding")) for item in sorted(items, key=lambda item: int(item["index"]))]
        widths = {0 if row is None else len(row) for row in found}
        if len(widths) > 1 or 0 in widths:
            raise self._wrong(f"sends rows of {' and '.join(map(str, sorted(widths)))} numbers")
        rows = np.stack([row for row in found if row is not None])
        is_fit = np.isfinite(rows).all(axis=1) & rows.any(axis=1)
        if not is_fit.all():
            place = f"sentence {first + int(is_fit.argmin()) + 1:,}"
            raise self._wrong(f"sends zeros, NaN or infinity for {place}")
        usage = body.get("usage")
        counted = usage.get("prompt_tokens", usage.get("total_tokens")) if isinstance(usage, dict) else None
        return Answer(rows, counted if isinstance(counted, int) else None)


def _row(value: object) -> np.ndarray | None:
    """Numbers, or their bytes in base64, as (D,) float32; None for anything else."""
    try:
        if isinstance(value, str):
            return np.frombuffer(base64.b64decode(value, validate=True), "<f4").astype(np.float32)
        row = np.asarray(value, dtype=np.float32)
    except (ValueError, TypeError):
        return None
    return row if row.ndim == 1 else None


def asked_wait(headers: Any) -> float:
    """Seconds that a server asks us to wait: Retry-After-Ms, or Retry-After as a number or a date; 0 if it does not."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        try:
            return max(0.0, float(value) * unit)
        except ValueError:
            try:
                return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
            except ValueError:
                continue
    return 0.0
