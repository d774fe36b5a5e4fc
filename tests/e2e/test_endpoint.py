"""`distilcse extract --endpoint`, from a server's rows to a student."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Typed
from tests.teacher.embedding_server import EmbeddingServer
from tests.training.conftest import write_corpus

KEY = "sk-0123456789secret"


@pytest.mark.e2e
def test_from_a_server_to_a_student(
    distilcse: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    home: Path,
    tiny: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SERVER_KEY", KEY)
    write_corpus(tmp_path / "corpus.txt", 60)
    num_tokens = len((tmp_path / "corpus.txt").read_text(encoding="utf-8").split())
    with EmbeddingServer() as server:
        asked = ("extract", "--endpoint", server.url, "--model", "big", "--api-key-variable", "SERVER_KEY")
        asked += ("--corpus", "corpus.txt", "--terms", "ask first", "--price-per-million", "1000000")
        done = distilcse("--offline", *asked, "--json")
        report = json.loads(done.stdout)
        assert "no --out is given: writing to big-embeddings" in done.stderr
        assert (report["out"], report["num_rows"], report["width"]) == ("big-embeddings", 60, 8)
        assert (report["num_extracted"], report["num_tokens"], report["cost"]) == (60, num_tokens, num_tokens)
        said = distilcse("--offline", *asked)
        assert f"0 of them computed now in 0s (0 sentences/s); {num_tokens:,} tokens, {num_tokens:,}.00" in said.stdout
    small = ("--student", tiny(), "--pooler", "avg", "--batch-size", 16, "--bank-size", 0, "--device", "cpu")
    distilcse("distill", "--embeddings", "big-embeddings", *small, "--max-steps", 2, "--out", "student")
    card = (tmp_path / "student" / "README.md").read_text(encoding="utf-8")
    assert "| teacher | big (vectors of 8 numbers) |" in card
    assert "| the teacher's terms | ask first |" in card
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert home.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no teacher is given"),
        (
            ("--teacher", "t", "--endpoint", "http://localhost", "--model", "m"),
            "--teacher and --endpoint are both given",
        ),
        (("--endpoint", "http://localhost"), "--endpoint needs the name that the server has for the model"),
        (("--endpoint", "http://localhost", "--model", "m", "--pooler", "avg"), "--pooler does not apply to a server"),
        (
            ("--endpoint", "http://localhost", "--model", "m", "--max-length", 9),
            "--max-length does not apply to a server",
        ),
        (("--endpoint", "http://localhost", "--model", "m", "--nproc", 2), "--nproc does not apply to a server"),
        (("--teacher", "t", "--concurrency", 2), "--concurrency does not apply to a model"),
    ],
)
def test_options_that_do_not_fit(typed: Typed, arguments: tuple[object, ...], message: str) -> None:
    assert typed("extract", "--corpus", "c.txt", *arguments, code=2).err.startswith(f"error: {message}")
