"""A command line run in this process, and a data home that looks as if things had been downloaded."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from distilcse_cli import catalogue


@dataclass(frozen=True)
class Said:
    """How a command line ended, and what it printed."""

    code: int
    out: str
    err: str


Typed = Callable[..., Said]


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """`typed("distill", "--help", code=0)`: run a command line in this process, in the test's folder."""
    from distilcse_cli.__main__ import run

    monkeypatch.chdir(tmp_path)

    def type_in(*words: object, code: int = 0) -> Said:
        monkeypatch.setattr(sys, "argv", ["distilcse", *map(str, words)])
        try:
            ended = run()
        except SystemExit as exited:
            ended = int(exited.code or 0)
        captured = capsys.readouterr()
        assert ended == code, f"{' '.join(sys.argv)}\nexit {ended}\n{captured.out}\n{captured.err}"
        return Said(ended, captured.out, captured.err)

    return type_in


@pytest.fixture
def download(home: Path) -> Callable[[str, Path], Path]:
    """`download("nli", path)`: put a file or folder into the data home as that download; returns its path."""

    def put(name: str, content: Path) -> Path:
        entry = catalogue.entry(name)
        assert entry.folder.is_relative_to(home)
        if content.is_dir():
            shutil.copytree(content, entry.folder)
        else:
            entry.folder.mkdir(parents=True)
            shutil.copyfile(content, entry.folder / (content.name if entry.file in (None, "*") else entry.file))
        files = [
            {"path": str(path.relative_to(entry.folder)), "bytes": path.stat().st_size}
            for path in entry.folder.rglob("*")
            if path.is_file() and path.name != "source.json"
        ]
        record = {"source": entry.source.label, "files": files, "licenses": []}
        (entry.folder / "source.json").write_text(json.dumps(record), encoding="utf-8")
        found = catalogue.present(name)
        assert found is not None
        return found

    return put
