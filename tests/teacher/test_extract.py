import json
import os
import random
import signal
import threading
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path

import faiss
import numpy as np
import pytest

from distilcse_cli.config import EncodeSettings
from distilcse_cli.data.corpus import Corpus
from distilcse_cli.errors import DataError, ModelError
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder, load_encoder
from distilcse_cli.runtime import Runtime
from distilcse_cli.teacher import extract as module
from distilcse_cli.teacher import partial
from distilcse_cli.teacher.extract import extract
from distilcse_cli.teacher.store import open_store
from tests.serving.limits import largest_file
from tests.teacher import processes

CPU = Runtime(device="cpu", dtype="float32", reason="test")
SETTINGS = EncodeSettings(batch_tokens=64)
WINDOW_ROWS = 8

MakeCorpus = Callable[..., Corpus]


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def partial_rows(out: Path) -> int:
    """Rows an unfinished store counts; 0 before it has begun, all of them after it is done."""
    for name in ("manifest.json", "manifest.partial.json"):
        try:
            return json.loads((out / name).read_text(encoding="utf-8"))["rows_done"]
        except FileNotFoundError:
            continue
    return 0


def test_rows_are_the_corpus_in_its_order(teacher: SentenceEncoder, make_corpus: MakeCorpus, tmp_path: Path) -> None:
    corpus = make_corpus(100)
    store = extract(teacher, corpus, tmp_path / "out", SETTINGS, CPU, window_rows=30)
    assert store.num_extracted == len(store) == 100
    np.testing.assert_allclose(store.embeddings, Embedder(teacher, CPU, SETTINGS).sentences(list(corpus)), atol=1e-5)
    assert store.sentences_path.read_text(encoding="utf-8") == "".join(f"{sentence}\n" for sentence in corpus)
    assert sorted(files_of(tmp_path / "out")) == ["embeddings.npy", "manifest.json", "sentences.txt"]


def test_the_manifest_says_whose_rows_they_are(
    teacher: SentenceEncoder, make_corpus: MakeCorpus, tmp_path: Path
) -> None:
    corpus = make_corpus(20)
    settings = EncodeSettings(normalize=True, max_length=10, dtype="float16")
    manifest = extract(teacher, corpus, tmp_path / "out", settings, CPU).manifest
    expected = {
        "num_rows": 20,
        "rows_done": 20,
        "width": 16,
        "dtype": "float16",
        "normalized": True,
        "pooling": "avg",
        "max_length": 10,
        "teacher": teacher.source,
        "teacher_fingerprint": teacher.fingerprint,
        "corpus_fingerprint": corpus.fingerprint,
        "compute_dtype": "float32",
    }
    assert {field: manifest[field] for field in expected} == expected
    # every word of the tiny tokenizer's list is one token, and a sentence has two special ones
    num_longer = sum(len(teacher.tokenizer(sentence)["input_ids"]) > 10 for sentence in corpus)
    assert manifest["num_truncated"] == num_longer > 0


def test_numpy_and_faiss_read_the_rows_as_they_are(
    teacher: SentenceEncoder, make_corpus: MakeCorpus, tmp_path: Path
) -> None:
    extract(teacher, make_corpus(60), tmp_path / "out", EncodeSettings(normalize=True), CPU)
    rows = np.load(tmp_path / "out" / "embeddings.npy", mmap_mode="r")
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    _, nearest = index.search(rows, 1)
    # of unit vectors that are all different, each has the largest product with itself
    assert nearest[:, 0].tolist() == list(range(60))


def test_float16_rows_are_the_rounded_float32_rows(
    teacher: SentenceEncoder, make_corpus: MakeCorpus, tmp_path: Path
) -> None:
    corpus = make_corpus(30)
    wide = extract(teacher, corpus, tmp_path / "wide", SETTINGS, CPU)
    narrow = extract(teacher, corpus, tmp_path / "narrow", EncodeSettings(batch_tokens=64, dtype="float16"), CPU)
    assert narrow.embeddings.dtype == np.float16
    np.testing.assert_array_equal(narrow.embeddings, wide.embeddings.astype(np.float16))


def test_a_complete_store_is_used_again_whatever_the_batch_size(
    teacher: SentenceEncoder, make_corpus: MakeCorpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = make_corpus(20)
    extract(teacher, corpus, tmp_path / "out", SETTINGS, CPU)
    before = files_of(tmp_path / "out")
    again = extract(teacher, corpus, tmp_path / "out", EncodeSettings(batch_tokens=999), CPU)
    assert again.num_extracted == 0
    assert files_of(tmp_path / "out") == before
    assert "is complete already (20 rows)" in capsys.readouterr().err


def test_a_complete_store_is_read_without_a_lock(
    teacher: SentenceEncoder, make_corpus: MakeCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = make_corpus(20)
    extract(teacher, corpus, tmp_path / "out", SETTINGS, CPU)

    def refused(*_: object) -> None:
        raise AssertionError("a store that nobody may write to needs no lock file")

    monkeypatch.setattr(module, "locked", refused)
    assert extract(teacher, corpus, tmp_path / "out", SETTINGS, CPU).num_extracted == 0


def test_a_store_that_does_not_match_is_an_error_that_names_both_values(
    teacher: SentenceEncoder, make_corpus: MakeCorpus, tmp_path: Path, tiny: Callable[..., Path]
) -> None:
    corpus, out = make_corpus(20), tmp_path / "out"
    extract(teacher, corpus, out, SETTINGS, CPU)
    before = files_of(out)
    bf16 = Runtime(device="cpu", dtype="bfloat16", reason="test")
    other_teacher = load_encoder(str(tiny("bert", seed=1)), pooler="avg")
    other_pooling = load_encoder(str(tiny("bert")), pooler="cls_before_pooler")
    for run, message in (
        ((teacher, make_corpus(21), SETTINGS, CPU), "num_rows is 20 there, 21 here"),
        ((teacher, make_corpus(20, seed=1), SETTINGS, CPU), "corpus_fingerprint is .*… there, .*… here"),
        ((other_teacher, corpus, SETTINGS, CPU), "teacher_fingerprint is .*… there, .*… here"),
        ((other_pooling, corpus, SETTINGS, CPU), "pooling is avg there, cls_before_pooler here"),
        ((teacher, corpus, EncodeSettings(dtype="float16"), CPU), "dtype is float32 there, float16 here"),
        ((teacher, corpus, EncodeSettings(normalize=True), CPU), "normalized is False there, True here"),
        ((teacher, corpus, EncodeSettings(max_length=9), CPU), "max_length is 64 there, 9 here"),
        ((teacher, corpus, SETTINGS, bf16), "compute_dtype is float32 there, bfloat16 here"),
    ):
        encoder, sentences, settings, runtime = run
        with pytest.raises(DataError, match=message):
            extract(encoder, sentences, out, settings, runtime)
    assert files_of(out) == before


def test_files_of_somebody_else_are_not_overwritten(
    teacher: SentenceEncoder, make_corpus: MakeCorpus, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "embeddings.npy").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"has a embeddings\.npy that is not of an embedding store"):
        extract(teacher, make_corpus(20), out, SETTINGS, CPU)
    assert files_of(out) == {"embeddings.npy": b"mine"}


def test_a_file_in_place_of_the_folder_is_an_error(
    teacher: SentenceEncoder, make_corpus: MakeCorpus, tmp_path: Path
) -> None:
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot write .*out: File exists"):
        extract(teacher, make_corpus(20), tmp_path / "out", SETTINGS, CPU)


class Killed(Exception):
    """Stands for the end of the process at one exact place."""


def interrupt(monkeypatch: pytest.MonkeyPatch, function: str, call: int, *, after: bool = False) -> None:
    """Let the `call`-th call of a function of `partial` be the last thing that happens."""
    original = getattr(partial, function)
    num_calls = 0

    def wrapped(*arguments: object, **settings: object) -> object:
        nonlocal num_calls
        num_calls += 1
        if num_calls == call and not after:
            raise Killed
        value = original(*arguments, **settings)
        if num_calls == call:
            raise Killed
        return value

    monkeypatch.setattr(partial, function, wrapped)


@pytest.mark.parametrize(
    ("function", "call"),
    # with 5 windows: the header and 5 writes; manifest.partial.json is written at the start and
    # behind each window, manifest.json is the seventh; the folder is fsynced once, behind the rename
    [*(("write", call) for call in range(1, 7)), *(("write_json", call) for call in range(1, 8)), ("fsync", 1)],
)
@pytest.mark.parametrize("after", [False, True])
def test_stopped_at_any_step_it_goes_on_to_the_same_bytes(
    teacher: SentenceEncoder,
    make_corpus: MakeCorpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    call: int,
    after: bool,
) -> None:
    corpus, out = make_corpus(38), tmp_path / "out"
    extract(teacher, corpus, tmp_path / "whole", SETTINGS, CPU, window_rows=WINDOW_ROWS)
    with monkeypatch.context() as patch:
        interrupt(patch, function, call, after=after)
        with pytest.raises(Killed):
            extract(teacher, corpus, out, SETTINGS, CPU, window_rows=WINDOW_ROWS)
    done = partial_rows(out)
    store = extract(teacher, corpus, out, SETTINGS, CPU, window_rows=WINDOW_ROWS)
    assert store.num_extracted == 38 - done
    assert files_of(out) == files_of(tmp_path / "whole")


def stop_after_two_windows(
    teacher: SentenceEncoder, corpus: Corpus, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, "write", 4)
        with pytest.raises(Killed):
            extract(teacher, corpus, out, SETTINGS, CPU, window_rows=WINDOW_ROWS)
    assert partial_rows(out) == 2 * WINDOW_ROWS


def test_an_unfinished_store_is_no_store_yet(
    teacher: SentenceEncoder, make_corpus: MakeCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after_two_windows(teacher, make_corpus(38), tmp_path / "out", monkeypatch)
    assert not (tmp_path / "out" / "embeddings.npy").exists()
    with pytest.raises(DataError, match="is unfinished: 16 of 38 rows"):
        open_store(tmp_path / "out")
    with pytest.raises(ValueError, match="mmap length"):
        np.load(tmp_path / "out" / "embeddings.partial.npy", mmap_mode="r")


def test_an_unfinished_store_is_not_gone_on_with_in_other_batches(
    teacher: SentenceEncoder, make_corpus: MakeCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, out = make_corpus(38), tmp_path / "out"
    stop_after_two_windows(teacher, corpus, out, monkeypatch)
    with pytest.raises(DataError, match="batch_tokens is 64 there, 65 here"):
        extract(teacher, corpus, out, EncodeSettings(batch_tokens=65), CPU, window_rows=WINDOW_ROWS)
    with pytest.raises(DataError, match="window_rows is 8 there, 9 here"):
        extract(teacher, corpus, out, SETTINGS, CPU, window_rows=9)


def test_half_a_window_and_temporary_files_of_a_killed_run_are_cut_off(
    teacher: SentenceEncoder, make_corpus: MakeCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, out = make_corpus(38), tmp_path / "out"
    extract(teacher, corpus, tmp_path / "whole", SETTINGS, CPU, window_rows=WINDOW_ROWS)
    stop_after_two_windows(teacher, corpus, out, monkeypatch)
    with (out / "embeddings.partial.npy").open("ab") as file:
        file.write(b"\xff" * 1000)
    (out / ".manifest.partial.json.tmp-abc.json").write_text("{", encoding="utf-8")
    extract(teacher, corpus, out, SETTINGS, CPU, window_rows=WINDOW_ROWS)
    assert files_of(out) == files_of(tmp_path / "whole")


def test_rows_that_the_disk_has_lost_are_missed(
    teacher: SentenceEncoder, make_corpus: MakeCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, out = make_corpus(38), tmp_path / "out"
    stop_after_two_windows(teacher, corpus, out, monkeypatch)
    os.truncate(out / "embeddings.partial.npy", 300)
    with pytest.raises(DataError, match="has lost rows that its manifest counts"):
        extract(teacher, corpus, out, SETTINGS, CPU, window_rows=WINDOW_ROWS)
    (out / "embeddings.partial.npy").unlink()
    with pytest.raises(DataError, match="has lost rows that its manifest counts"):
        extract(teacher, corpus, out, SETTINGS, CPU, window_rows=WINDOW_ROWS)


def test_a_broken_row_stops_the_run_behind_the_last_sound_window(
    teacher: SentenceEncoder, make_corpus: MakeCorpus, tmp_path: Path
) -> None:
    import torch

    corpus, out = make_corpus(38), tmp_path / "out"
    sentence = list(corpus)[20]
    last_word = teacher.tokenizer(sentence)["input_ids"][-2]
    before = [row for row in range(20) if last_word in teacher.tokenizer(list(corpus)[row])["input_ids"]]
    with torch.no_grad():
        teacher.backbone.get_input_embeddings().weight[last_word] = torch.nan
    first = before[0] if before else 20
    with pytest.raises(ModelError, match=f"NaN or infinity for row {first}, "):
        extract(teacher, corpus, out, SETTINGS, CPU, window_rows=WINDOW_ROWS)
    assert partial_rows(out) == first // WINDOW_ROWS * WINDOW_ROWS


def test_a_disk_that_fills_up_costs_one_window_and_one_line(
    teacher: SentenceEncoder, make_corpus: MakeCorpus, tmp_path: Path
) -> None:
    corpus, out = make_corpus(400), tmp_path / "out"
    extract(teacher, corpus, tmp_path / "whole", SETTINGS, CPU, window_rows=100)
    # 400 sentences take 20,000 to 24,000 bytes, the rows 400 * 16 * 4 = 25,600
    largest = (out.with_name("whole") / "sentences.txt").stat().st_size + 300
    assert largest < 25_600
    with (
        largest_file(largest),
        pytest.raises(DataError, match=r"cannot write .*partial\.npy: File too large") as caught,
    ):
        extract(teacher, corpus, out, SETTINGS, CPU, window_rows=100)
    assert "run the same command again" in str(caught.value.hint)
    assert partial_rows(out) == 300
    extract(teacher, corpus, out, SETTINGS, CPU, window_rows=100)
    assert files_of(out) == files_of(tmp_path / "whole")


def test_a_disk_too_small_is_said_before_the_first_row(
    teacher: SentenceEncoder, make_corpus: MakeCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = partial.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(partial.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DataError, match=r"needs 0\.0 MB, the disk has 0\.0 MB free"):
        extract(teacher, make_corpus(38), tmp_path / "out", SETTINGS, CPU)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    return processes.fork_server()


def test_killed_at_five_random_moments_the_file_is_the_same(
    teacher: SentenceEncoder,
    make_corpus: MakeCorpus,
    tmp_path: Path,
    context: ForkServerContext,
) -> None:
    corpus, out = make_corpus(600), tmp_path / "out"
    extract(teacher, corpus, tmp_path / "whole", SETTINGS, CPU, window_rows=WINDOW_ROWS)
    arguments = (teacher.source, corpus.folder, out, os.environ["DISTILCSE_HOME"], SETTINGS, CPU, WINDOW_ROWS)
    for moment in sorted(random.Random(0).sample(range(1, 500), 5)):
        process = context.Process(target=processes.extract, args=arguments)
        process.start()
        while partial_rows(out) < moment and process.is_alive():
            process.join(0.002)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not (out / "embeddings.npy").exists()
    store = extract(teacher, corpus, out, SETTINGS, CPU, window_rows=WINDOW_ROWS)
    assert 0 < store.num_extracted < 600
    assert files_of(out) == files_of(tmp_path / "whole")


def test_two_extractions_do_not_write_to_one_folder_and_a_dead_one_does_not_block(
    teacher: SentenceEncoder,
    make_corpus: MakeCorpus,
    tmp_path: Path,
    context: ForkServerContext,
) -> None:
    corpus, out = make_corpus(20), tmp_path / "out"
    is_held, let_go = context.Event(), context.Event()
    process = context.Process(target=processes.hold_folder, args=(out, is_held, let_go))
    process.start()
    assert is_held.wait(60)
    with pytest.raises(DataError, match="another extraction is writing to"):
        extract(teacher, corpus, out, SETTINGS, CPU)
    process.kill()
    process.join()
    assert len(extract(teacher, corpus, out, SETTINGS, CPU)) == 20


def test_an_extraction_that_may_wait_says_so_and_takes_the_folder_when_it_is_free(
    teacher: SentenceEncoder,
    make_corpus: MakeCorpus,
    tmp_path: Path,
    context: ForkServerContext,
    capsys: pytest.CaptureFixture[str],
) -> None:
    corpus, out = make_corpus(20), tmp_path / "out"
    is_held, let_go = context.Event(), context.Event()
    process = context.Process(target=processes.hold_folder, args=(out, is_held, let_go))
    process.start()
    assert is_held.wait(60)
    threading.Timer(0.3, let_go.set).start()
    assert len(extract(teacher, corpus, out, SETTINGS, CPU, wait=True)) == 20
    assert f"waiting for another process that is extracting into {out}\n" in capsys.readouterr().err
    process.join()
    assert process.exitcode == 0
