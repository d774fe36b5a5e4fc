"""Outputs in parts, shared among jobs, or gone on with: always the rows of a plain run."""

import gc
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from distilcse_cli.config import EncodeSettings, TextSettings
from distilcse_cli.data.every_line import Lines, Row
from distilcse_cli.errors import DataError, UsageError
from distilcse_cli.models.encoder import SentenceEncoder, load_encoder
from distilcse_cli.models.rounds import embed_rounds
from distilcse_cli.runtime import Runtime
from distilcse_cli.serving import encode as module
from distilcse_cli.serving.encode import EncodeReport, encode_file
from distilcse_cli.serving.parts import Parts
from distilcse_cli.serving.settings import OutputSettings

CPU = Runtime(device="cpu", dtype="float32", reason="test")
NUM_ROWS, WINDOW_ROWS = 50, 8
SUFFIXES = (".npy", ".npz", ".jsonl", ".parquet")


@pytest.fixture(scope="module")
def encoder(tiny: Callable[..., Path]) -> SentenceEncoder:
    return load_encoder(str(tiny("bert", num_layers=1)), pooler="avg")


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distilcse_cli.serving.encode.embed_rounds", partial(embed_rounds, window_rows=WINDOW_ROWS))
    monkeypatch.setattr("distilcse_cli.serving.survey.WINDOW_ROWS", WINDOW_ROWS)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.jsonl"
    lines = ({"n": i, "t": "the cat " * (i % 5) + "dog"} for i in range(NUM_ROWS))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@dataclass
class Job:
    """`encode_file` of the text, again and again."""

    text: Path
    encoder: SentenceEncoder

    def __call__(
        self, out: str, *, overwrite: bool = False, max_length: int | None = None, **output: Any
    ) -> EncodeReport:
        columns = ("n",) if out.endswith(("jsonl", "parquet")) else ()
        inputs = Lines(sources=(self.text,), text=TextSettings(text_column="t"), columns=columns)
        settings, path = EncodeSettings(max_length=max_length), self.text.with_name(out)
        return encode_file(
            inputs, self.encoder, path, settings, CPU, output=OutputSettings(**output), overwrite=overwrite
        )


@pytest.fixture
def encode(text: Path, encoder: SentenceEncoder) -> Job:
    return Job(text, encoder)


def rows_of(*files: Path) -> list[Any]:
    """All that the files hold, row by row, in the order of their names."""
    rows: list[Any] = []
    for file in sorted(files):
        match file.suffix:
            case ".npy":
                rows += [row.tobytes() for row in np.load(file)]
            case ".npz":
                rows += [row.tobytes() for row in np.load(file)["embeddings"]]
            case ".jsonl":
                rows += file.read_text(encoding="utf-8").splitlines()
            case _:
                rows += pq.read_table(file).to_pylist()
    return rows


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_of_any_size_jobs_and_a_kept_run_hold_the_rows_of_a_plain_run(encode: Job, suffix: str) -> None:
    plain = encode(f"plain{suffix}")
    assert plain.num_rows == NUM_ROWS
    kept = encode(f"kept{suffix}", resume=True)
    assert kept.files[0].read_bytes() == plain.files[0].read_bytes()

    # 50 rows are files of 20, 20 and 10; their ends lie inside of windows of 8 rows
    files = encode(f"files{suffix}", rows_per_file=20).files
    assert [file.name for file in files] == [f"files-{k:05d}-of-00003{suffix}" for k in range(3)]
    assert [len(rows_of(file)) for file in files] == [20, 20, 10]
    jobs = [encode(f"jobs{suffix}", rows_per_file=20, shard=f"{i}/2").files for i in (1, 0)]
    assert [len(mine) for mine in jobs] == [2, 1]
    for file in files:
        assert file.read_bytes() == file.with_name(file.name.replace("files", "jobs")).read_bytes()
    shares = [encode(f"shares{suffix}", shard=f"{i}/4").files[0] for i in range(4)]
    assert [len(rows_of(share)) for share in shares] == [12, 13, 12, 13]
    assert rows_of(*plain.files) == rows_of(*files) == rows_of(*shares)
    assert kept.lengths.as_dict() == plain.lengths.as_dict()


def interrupt_after(num_windows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C after so many windows."""
    add, left = Parts.add, iter(range(num_windows))

    def add_some(self: Parts, *window: Any) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        add(self, *window)

    monkeypatch.setattr(Parts, "add", add_some)


@pytest.mark.parametrize(("output", "files"), [({}, 1), ({"rows_per_file": 20}, 3)])
def test_an_interrupted_run_is_reported_and_goes_on_where_it_was(
    encode: Job, output: dict[str, Any], files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = encode("whole.parquet", resume=True, **output)
    with monkeypatch.context() as patched:
        interrupt_after(3, patched)
        with pytest.raises(KeyboardInterrupt):
            encode("rows.parquet", resume=True, **output)
    # three windows of 8 rows are done: the first file of 20 rows is whole, a single file is not
    assert len(list(encode.text.parent.glob("rows*.parquet"))) == (1 if files == 3 else 0)
    with pytest.raises(DataError, match=r"rows.parquet (is unfinished|was begun before)") as refused:
        encode("rows.parquet", **output)
    assert "--resume continues it" in str(refused.value.hint)

    report = encode("rows.parquet", resume=True, **output)
    assert (report.num_rows, report.num_encoded) == (NUM_ROWS, NUM_ROWS - 24)
    assert report.lengths.as_dict() == whole.lengths.as_dict()
    for made, expected in zip(report.files, whole.files, strict=True):
        assert made.read_bytes() == expected.read_bytes()
    # once more, there is nothing to do; a file that was damaged since is made again
    assert encode("rows.parquet", resume=True, **output).num_encoded == 0
    report.files[0].write_bytes(b"PAR1")
    assert encode("rows.parquet", resume=True, **output).num_encoded == (20 if files == 3 else NUM_ROWS)
    assert report.files[0].read_bytes() == whole.files[0].read_bytes()
    state = next(encode.text.parent.glob(".rows*.run"))
    assert not list(state.glob("rows-*"))


def test_a_run_does_not_go_on_with_another_text_or_other_settings(encode: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        interrupt_after(1, patched)
        with pytest.raises(KeyboardInterrupt):
            encode("rows.npy", resume=True)
    with pytest.raises(DataError, match=r"rows.npy does not fit this run: max_length is 64 there, 5 here") as refused:
        encode("rows.npy", resume=True, max_length=5)
    assert refused.value.hint == f"take model and settings of before; {module.GO_ON}"
    encode.text.write_text(encode.text.read_text().replace("dog", "man", 1))
    with pytest.raises(DataError, match=r"text.jsonl is not the text that .*rows.npy was begun with"):
        encode("rows.npy", resume=True)
    assert encode("rows.npy", overwrite=True).num_encoded == NUM_ROWS
    assert not list(encode.text.parent.glob(".*"))


def test_a_failure_before_the_first_row_leaves_nothing(encode: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_after(0, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        encode("rows.npy", rows_per_file=20)
    assert list(encode.text.parent.iterdir()) == [encode.text]


def test_files_of_another_set_are_not_mixed_in(encode: Job) -> None:
    old = encode("rows.npy", rows_per_file=30).files
    for size in (20, 30):
        with pytest.raises(DataError, match=r"rows-00000-of-00002.npy exists already|was begun before"):
            encode("rows.npy", rows_per_file=size)
    files = encode("rows.npy", rows_per_file=20, overwrite=True).files
    assert sorted(encode.text.parent.glob("rows-*")) == list(files)
    assert not old[0].exists()


def test_what_cannot_be_removed_or_made_is_named(encode: Job) -> None:
    folder = encode.text.parent
    encode("rows.npy", rows_per_file=30)
    (folder / ".rows-of-00002.npy.run" / "notes").mkdir()
    with pytest.raises(DataError, match=r"cannot remove .*notes: "):
        encode("rows.npy", rows_per_file=30, overwrite=True)
    (folder / "other-00007-of-00009.npy").mkdir()
    with pytest.raises(DataError, match=r"cannot remove .*other-00007-of-00009\.npy: "):
        encode("other.npy", rows_per_file=30, overwrite=True)
    with pytest.raises(DataError, match=r"cannot write .*File name too long"):
        encode("x" * 240 + ".npy", rows_per_file=30)


def test_a_job_of_several_is_not_told_to_overwrite_the_others(encode: Job) -> None:
    encode("rows.npy", shard="0/2")
    with pytest.raises(DataError, match="was begun before") as refused:
        encode("rows.npy", shard="0/2")
    assert "--overwrite" not in str(refused.value.hint)
    assert ".rows-of-00002.npy.run" in str(refused.value.hint)


def test_a_kept_column_may_have_any_name(encode: Job) -> None:
    encode.text.write_text('{"tokens": 1, "0": "a", "t": "a cat"}\n', encoding="utf-8")
    inputs = Lines(sources=(encode.text,), text=TextSettings(text_column="t"), columns=("tokens", "0"))
    out, output = encode.text.with_name("rows.jsonl"), OutputSettings(resume=True)
    encode_file(inputs, encode.encoder, out, EncodeSettings(), CPU, output=output)
    row = json.loads(out.read_text(encoding="utf-8"))
    assert (row["tokens"], row["0"]) == (1, "a")


def test_more_jobs_than_files_are_refused(encode: Job) -> None:
    with pytest.raises(UsageError, match="--shard 3/4, but the input makes only 3 files of 20 rows"):
        encode("rows.npy", rows_per_file=20, shard="3/4")
    with pytest.raises(UsageError, match="--shard 0/51, but the input makes only 50 rows"):
        encode("rows.npy", shard="0/51")
    for wrong in ("4/4", "1", "a/b", "-1/2"):
        with pytest.raises(UsageError, match="must be I/N with I from 0 to N-1"):
            OutputSettings(shard=wrong)


def test_a_line_that_would_be_cut_stops_everything_and_is_named(encode: Job) -> None:
    # with [CLS] and [SEP], line i has 2 * (i % 5) + 3 tokens: 3, 5, 7, 9, 11
    with pytest.raises(DataError) as refused:
        encode("rows.npy", fail_on_truncate=True, rows_per_file=20, max_length=8)
    first = f"{encode.text}, line 4 with 9"
    assert refused.value.message == f"20 of 50 lines have more than 8 tokens, the first is {first}"
    assert list(encode.text.parent.iterdir()) == [encode.text]
    report = encode("rows.npy", fail_on_truncate=True, max_length=11)
    assert report.lengths.as_dict() == {
        "num_truncated": 0,
        "share_truncated": 0.0,
        "longest": 11,
        "token_lengths": [{"from": 0, "to": 8, "lines": 30}, {"from": 9, "to": 16, "lines": 20}],
    }
    # lines that are cut count with all of their tokens
    cut = encode("cut.npy", max_length=6).lengths
    assert cut.as_dict() | {"num_truncated": 30, "share_truncated": 0.6} == cut.as_dict()
    assert cut.histogram() == report.lengths.histogram()
    assert str(cut) == "tokens a line: 0-8: 30 (60.0%), 9-16: 20 (40.0%); longest 11"


def test_fewer_numbers_a_row_are_scaled_to_length_1_only_if_rows_are(encode: Job) -> None:
    whole = np.load(encode("whole.npy").files[0])
    report = encode("short.npy", truncate_dim=5)
    assert report.width == 5
    np.testing.assert_array_equal(np.load(report.files[0]), whole[:, :5])
    encode.encoder.normalize = True
    try:
        unit = np.load(encode("unit.npy", truncate_dim=5).files[0])
    finally:
        encode.encoder.normalize = False
    np.testing.assert_allclose(unit, whole[:, :5] / np.linalg.norm(whole[:, :5], axis=1, keepdims=True), atol=1e-6)
    with pytest.raises(UsageError, match="--truncate-dim is 17, but a row has 16 numbers"):
        encode("long.npy", truncate_dim=17)


def test_memory_does_not_grow_with_the_rows(
    encoder: SentenceEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Text(str):
        """A line whose copies in memory can be counted."""

    class Many(Lines):
        def rows(self) -> Iterator[Row]:
            return (("many", Text("a cat"), (i,)) for i in range(30 * WINDOW_ROWS))

    alive, add = [], Parts.add

    def count(self: Parts, *window: Any) -> None:
        add(self, *window)
        alive.append(sum(type(thing) is Text for thing in gc.get_objects()))

    monkeypatch.setattr(Parts, "add", count)
    monkeypatch.setattr(module, "output_columns", lambda *_: {"n": None})
    inputs = Many(sources=(), columns=("n",))
    output = OutputSettings(rows_per_file=100)
    encode_file(inputs, encoder, tmp_path / "rows.jsonl", EncodeSettings(), CPU, output=output)
    # the window at hand and the one just read
    assert len(alive) == 30
    assert max(alive) <= 2 * WINDOW_ROWS
