"""Progress without a terminal: plain lines on stderr."""

import pytest

from distilcse_cli import console


def test_the_last_count_is_printed_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.0)
    with console.Progress("encode", None, "sentences") as progress:
        progress.update(2)
        progress.update(3)
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "encode: 2 sentences",
        "encode: 5 sentences",
    ]


def test_a_count_since_the_last_line_is_printed_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with console.Progress("encode", 5, "sentences") as progress:
        progress.update(5)
    with console.Progress("encode", 5, "sentences", initial=5):
        pass
    assert capsys.readouterr().err.count("encode: 5 of 5 sentences") == 1
