import json
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

pytestmark = pytest.mark.e2e
Command = Callable[..., CompletedProcess[str]]

USAGE_ERRORS = {
    "out without a format": ["encode", "text.txt", "--model", "m", "--out", "rows.txt"],
    "no out for stdin": ["encode", "--model", "m"],
    "no out for stdin as -": ["encode", "-", "--model", "m", "--overwrite"],
    "unknown pooling": ["encode", "text.txt", "--model", "m", "--out", "rows.npy", "--pooler", "nonesuch"],
    "unknown number format": ["encode", "text.txt", "--model", "m", "--out", "rows.npy", "--dtype", "int8"],
    "unknown product format": ["encode", "text.txt", "--model", "m", "--out", "rows.npy", "--compute-dtype", "tf32"],
    "no tokens": ["encode", "text.txt", "--model", "m", "--out", "rows.npy", "--batch-tokens", "0"],
    "no model": ["encode", "text.txt", "--out", "rows.npy"],
    "ids of lines": ["encode", "text.txt", "--model", "m", "--out", "out.jsonl", "--id-column", "id"],
    "ids in an array": ["encode", "text.txt", "--model", "m", "--out", "out.npy", "--id-column", "id"],
    "stdin to go on with": ["encode", "--model", "m", "--out", "rows.npy", "--resume"],
    "a job over the others": [
        *("encode", "text.txt", "--model", "m", "--out", "rows.npy"),
        *("--shard", "0/2", "--overwrite"),
    ],
    "no such job": ["encode", "text.txt", "--model", "m", "--out", "rows.npy", "--shard", "2/2"],
    "several files without a name": ["encode", "text.txt", "text.txt", "--model", "m"],
    "output over input": ["encode", "rows.jsonl", "--model", "m", "--out", "rows.jsonl"],
    "no corpus": ["extract", "--teacher", "m", "--out", "out"],
    "words upside down": [
        *("extract", "--teacher", "m", "--corpus", "text.txt", "--out", "out"),
        *("--min-words", "5", "--max-words", "4"),
    ],
    "unknown policy": ["extract", "--teacher", "m", "--corpus", "text.txt", "--out", "out", "--on-bad-line", "cry"],
}


def test_stdin_and_file_give_the_same_rows(
    distilcse: Command, tmp_path: Path, tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "the cat sleeps\n\na dog runs to the big red river\n"
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    monkeypatch.setenv("DISTILCSE_MODEL", str(tiny("bert")))
    done = distilcse("encode", "text.txt", "--out", "file.npy", "--json", "--max-length", 5)
    result = json.loads(done.stdout)
    assert (result["num_rows"], result["width"], result["num_truncated"]) == (3, 16, 1)
    assert "warning: 1 of 3 lines are longer than 5 tokens and were cut" in done.stderr
    piped = distilcse("encode", "--out", "deep/down/pipe.npz", "--max-length", 5, input=text)
    assert piped.stdout.startswith("deep/down/pipe.npz: 3 rows of 16 float32 in ")
    rows = np.load(tmp_path / "deep" / "down" / "pipe.npz")["embeddings"]
    np.testing.assert_array_equal(rows, np.load(tmp_path / "file.npy"))


def test_several_files_make_one_output_or_files_of_some_rows(
    distilcse: Command, tmp_path: Path, tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTILCSE_MODEL", str(tiny("bert")))
    (tmp_path / "a.txt").write_text("the cat sleeps\n\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("a dog\n", encoding="utf-8")
    distilcse("encode", "a.txt", "-", "b.txt", "--out", "one.npy", input="the dog\n")
    distilcse("encode", "--out", "piped.npy", input="the cat sleeps\n\nthe dog\na dog\n")
    assert (tmp_path / "one.npy").read_bytes() == (tmp_path / "piped.npy").read_bytes()

    command = ("encode", "a.txt", "b.txt", "--out", "rows.npy", "--rows-per-file", 2)
    done = distilcse(*command, "--json")
    result = json.loads(done.stdout)
    assert (result["num_rows"], result["num_encoded"]) == (3, 3)
    assert result["files"] == ["rows-00000-of-00002.npy", "rows-00001-of-00002.npy"]
    assert result["token_lengths"] == [{"from": 0, "to": 8, "lines": 3}]
    assert "tokens a line: 0-8: 3 (100.0%); longest 5\n" in done.stderr
    done = distilcse(*command, "--resume")
    both = "rows-00000-of-00002.npy to rows-00001-of-00002.npy"
    assert done.stdout.startswith(f"{both}: 3 rows of 16 float32; 0 of them computed now in ")
    assert "rows.npy was begun before: 2 of 2 files are whole" in distilcse(*command, code=3).stderr


def test_without_a_model_the_ways_out_are_named(distilcse: Command, home: Path) -> None:  # noqa: ARG001
    environment = {name: value for name, value in os.environ.items() if name != "DISTILCSE_MODEL"}
    done = distilcse("encode", "--out", "rows.npy", input="a\n", code=2, env=environment)
    hint = "(name one with --model REF or DISTILCSE_MODEL=REF, or run: distilcse download all-minilm-l6)"
    assert done.stderr == f"error: no model is named, and the default model is not downloaded {hint}\n"


def test_a_missing_file_and_a_folder_for_a_file(distilcse: Command, tmp_path: Path) -> None:
    done = distilcse("encode", "nowhere.txt", "--model", "m", "--out", "rows.npy", code=3)
    assert done.stderr == "error: nowhere.txt does not exist (check the name and the folder you are in)\n"
    done = distilcse("encode", tmp_path, "--model", "m", "--out", "rows.npy", code=3)
    assert done.stderr.startswith(f"error: {tmp_path} is a folder, a file is needed")
    assert done.stderr.count("\n") == 1


def test_usage_errors_are_one_line_each_and_do_not_load_torch(tmp_path: Path, home: Path) -> None:  # noqa: ARG001
    for name in ("text.txt", "rows.jsonl"):
        (tmp_path / name).write_text("a\n", encoding="utf-8")
    script = (
        "import json, sys\n"
        "from distilcse_cli.__main__ import run\n"
        "for sys.argv in json.loads(sys.argv[1]):\n"
        "    print(run(), sorted({'torch', 'transformers'} & sys.modules.keys()))\n"
    )
    command_lines = json.dumps([["distilcse", *arguments] for arguments in USAGE_ERRORS.values()])
    environment = {name: value for name, value in os.environ.items() if name != "DISTILCSE_MODEL"}
    done = subprocess.run(
        [sys.executable, "-c", script, command_lines], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.stdout.splitlines() == ["2 []"] * len(USAGE_ERRORS), done.stderr
    errors = done.stderr.splitlines()
    assert len(errors) == len(USAGE_ERRORS)
    assert all(line.startswith("error: ") for line in errors)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "text.txt"]


def test_stdin_is_read_from_where_it_stands(
    tmp_path: Path,
    tiny: Callable[..., Path],
    home: Path,  # noqa: ARG001
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("a header\nthe cat sleeps\na dog\n", encoding="utf-8")
    command = [sys.executable, "-m", "distilcse_cli", "encode", "--model", str(tiny("bert")), "--out", "rows.npy"]
    for extra in ([], ["/dev/stdin"]):
        with text.open("rb", buffering=0) as stdin:
            stdin.read(len("a header\n"))
            done = subprocess.run([*command, *extra], stdin=stdin, cwd=tmp_path, capture_output=True, text=True)
        assert done.stdout.startswith("rows.npy: 2 rows"), done.stderr
    with text.open("rb", buffering=0) as stdin:
        stdin.read(1)
        command = [sys.executable, "-m", "distilcse_cli", "extract", "--teacher", str(tiny("bert"))]
        extract = [*command, "--corpus", "/dev/stdin", "--out", "o"]
        done = subprocess.run(extract, stdin=stdin, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 3
    assert "error: /dev/stdin has been read in part" in done.stderr


@pytest.mark.parametrize("name", ["/dev/stdin", "pipe", "-"])
def test_several_processes_cannot_share_a_stream(distilcse: Command, tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = distilcse("encode", name, "--model", "m", "--out", "rows.npy", "--nproc", 2, input="a\nb\n", code=2)
    assert done.stderr.startswith("error: several processes cannot share ")
    assert done.stderr.count("\n") == 1


def test_a_column_of_a_table_is_embedded_when_it_is_named(
    distilcse: Command, tmp_path: Path, tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTILCSE_MODEL", str(tiny("bert")))
    (tmp_path / "lines.txt").write_text("the cat sleeps\na dog\n", encoding="utf-16")
    (tmp_path / "t.csv.xz").write_bytes(lzma.compress(b"id;body\n1;the cat sleeps\n2;a dog\n"))
    done = distilcse("encode", "t.csv.xz", code=3)
    assert "error: t.csv.xz is a table (csv), but a sentence a line is needed" in done.stderr
    distilcse("encode", "t.csv.xz", "--text-column", "body")
    done = distilcse("encode", "lines.txt", code=3)
    assert done.stderr.endswith("is UTF-16 by its byte order mark, not UTF-8 (--encoding utf-16 reads it)\n")
    distilcse("encode", "lines.txt", "--encoding", "utf-16", "--out", "lines.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "t.npy"), np.load(tmp_path / "lines.npy"))
