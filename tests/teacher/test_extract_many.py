"""Several processes write one store: the same bytes as one process, whatever becomes of them on the way."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from distilcse_cli.config import EncodeSettings
from distilcse_cli.data.corpus import Corpus, open_corpus
from distilcse_cli.errors import ModelError
from distilcse_cli.models.encoder import SentenceEncoder, load_encoder
from distilcse_cli.ranks import joined
from distilcse_cli.runtime import Runtime
from distilcse_cli.teacher import extract as module
from distilcse_cli.teacher import partial
from tests.training.processes import run_all, start_group

CPU = Runtime(device="cpu", dtype="float32", reason="test")
SETTINGS = EncodeSettings(batch_tokens=64)
WINDOW_ROWS = 8
MakeCorpus = Callable[..., Corpus]


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def rows_done(folder: Path) -> int:
    """Rows that count. Rank 0 forgets a run without any if it notices the others' end before its own."""
    manifest = folder / "manifest.partial.json"
    return int(json.loads(manifest.read_text(encoding="utf-8"))["rows_done"]) if manifest.exists() else 0


@pytest.fixture
def corpus(make_corpus: MakeCorpus) -> Corpus:
    # windows of 8, 8, 8, 8 and 6 rows
    return make_corpus(38)


@pytest.fixture
def whole(teacher: SentenceEncoder, corpus: Corpus, tmp_path: Path) -> dict[str, bytes]:
    """The files of one process, which like those of a group has one thread."""
    out = tmp_path / "whole"
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    module.extract(teacher, corpus, out, SETTINGS, CPU, window_rows=WINDOW_ROWS)
    torch.set_num_threads(num_threads)
    return files_of(out)


def _extract(model: str, corpus: Path, out: Path, report: Path | None = None) -> None:
    encoder = load_encoder(model, pooler="avg")
    with joined(CPU) as ranks:
        store = module.extract(encoder, open_corpus(corpus), out, SETTINGS, CPU, window_rows=WINDOW_ROWS, ranks=ranks)
        if report and ranks.is_main:
            report.write_text(str(store.num_extracted))


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_write_the_bytes_of_one(
    teacher: SentenceEncoder, corpus: Corpus, whole: dict[str, bytes], tmp_path: Path, world_size: int
) -> None:
    out = tmp_path / "out"
    assert run_all(start_group(world_size, _extract, teacher.source, corpus.folder, out)) == [0] * world_size
    assert files_of(out) == whole


def _die_at(victim: int, write: int, after: bool, *arguments: object) -> None:
    """Let this rank be killed before or after its so-manieth write."""
    if int(os.environ["RANK"]) == victim:
        original, left = partial.write, [write]

        def wrapped(*of_write: object) -> None:
            left[0] -= 1
            if left[0] == 0 and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            original(*of_write)  # type: ignore[arg-type]
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        partial.write = wrapped  # type: ignore[assignment]
    _extract(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("victim", "write", "after", "num_counted"),
    # rank 0's first write is the header; in the first round windows 0 and 1 are written, in the second 2 and 3
    [(0, 2, False, 0), (0, 3, True, 16), (1, 1, True, 0), (1, 2, False, 16)],
)
@pytest.mark.parametrize("resumed_by", [1, 2])
def test_a_killed_worker_ends_the_run_and_the_next_one_goes_on_to_the_same_bytes(
    teacher: SentenceEncoder,
    corpus: Corpus,
    whole: dict[str, bytes],
    tmp_path: Path,
    victim: int,
    write: int,
    after: bool,
    num_counted: int,
    resumed_by: int,
) -> None:
    arguments = (teacher.source, corpus.folder, tmp_path / "out")
    codes = run_all(start_group(2, _die_at, victim, write, after, *arguments))
    assert codes[victim] == -signal.SIGKILL
    assert all(codes)
    assert rows_done(tmp_path / "out") == num_counted
    report = tmp_path / "report"
    assert run_all(start_group(resumed_by, _extract, *arguments, report)) == [0] * resumed_by
    assert int(report.read_text()) == 38 - num_counted
    assert files_of(tmp_path / "out") == whole


def _extract_broken(model: str, corpus: Path, out: Path, bad_sentence: str) -> None:
    """Rank 1 meets a sentence that its model gives no number for; ranks end as the command would."""
    forward = SentenceEncoder.forward

    def broken(self: SentenceEncoder, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        rows = forward(self, input_ids, attention_mask)
        bad = torch.tensor(self.tokenizer(bad_sentence)["input_ids"])
        found = [ids[: len(bad)].equal(bad) for ids in input_ids]
        return torch.where(torch.tensor(found)[:, None], torch.nan, rows)

    SentenceEncoder.forward = broken  # type: ignore[method-assign]
    if os.environ["RANK"] == "0":
        with pytest.raises(ModelError, match="NaN or infinity for row 25, "):
            _extract(model, corpus, out)
        os._exit(4)
    _extract(model, corpus, out)


def test_an_error_of_one_worker_is_told_by_rank_0_behind_the_last_sound_window(
    teacher: SentenceEncoder, corpus: Corpus, tmp_path: Path
) -> None:
    # row 25 is in window 3, rank 1's second
    arguments = (teacher.source, corpus.folder, tmp_path / "out", corpus.take([25])[0])
    assert run_all(start_group(2, _extract_broken, *arguments)) == [4, 4]
    assert rows_done(tmp_path / "out") == 24
