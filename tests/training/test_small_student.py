"""A student with a smaller vocabulary, in fewer bytes: chosen once, the same after a stop and in every process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from distilcse_cli.errors import UsageError
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.training.steps import Interrupted
from tests.models.test_encoder import SENTENCES, embed
from tests.training.conftest import Job
from tests.training.processes import run_all, start_group

SIZE = 150
"""Of 164 entries, 141 of which have to stay."""


@pytest.fixture
def small(job: Job, tmp_path: Path) -> Job:
    return job.to(tmp_path / "small", vocab_size=SIZE)


def _bytes(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in ("tokenizer.json", "model.safetensors", "metrics.jsonl")}


def test_it_is_a_folder_like_any_other_and_says_what_was_left(small: Job) -> None:
    report = small.run()
    assert report.vocab_size == SIZE
    student = load_encoder(str(small.out))
    assert len(student.tokenizer) == len(student.backbone.get_input_embeddings().weight) == SIZE
    theirs = SentenceTransformer(str(small.out), device="cpu").encode(SENTENCES)
    np.testing.assert_allclose(theirs, embed(student, SENTENCES).numpy(), atol=1e-5, rtol=0)
    cut = json.loads((small.out / "distilcse.json").read_text(encoding="utf-8"))["student"]["vocabulary"]
    assert (cut["size"], cut["full_size"]) == (SIZE, 164)
    assert cut["num_tokens"] > cut["num_tokens_before"]
    assert "| vocabulary | 150 of 164 entries, chosen by the corpus" in (small.out / "README.md").read_text("utf-8")


def test_the_teachers_rows_are_those_of_the_full_vocabulary(job: Job, small: Job, home: Path) -> None:
    job.run()
    stores = {path: path.read_bytes() for path in home.rglob("embeddings.npy")}
    assert len(stores) == 1
    small.run()
    assert {path: path.read_bytes() for path in home.rglob("embeddings.npy")} == stores
    # the corpus is tokenized with the teacher's, the student's full and its small vocabulary, and the first two agree
    assert len(list((home / "tokens").glob("*/manifest.json"))) == 2


def test_repeated_and_after_a_stop_it_is_the_same(small: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small.run()
    again = small.to(tmp_path / "again")
    stopped_at(again, 7, monkeypatch)
    again.run(resume=True)
    assert _bytes(again.out) == _bytes(small.out)
    with pytest.raises(UsageError, match="vocab_size was 150, is 151"):
        small.to(small.out, vocab_size=151).run(resume=True)


def stopped_at(job: Job, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from distilcse_cli.training.distill import Distillation

    after_step: Callable[..., None] = Distillation.after_step

    def stop(self: Distillation, state: Any, rows: np.ndarray) -> None:
        after_step(self, state, rows)
        if state.step == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Distillation, "after_step", stop)
        with pytest.raises(Interrupted):
            job.run()


def _run(job: Job) -> None:
    job.run()


def test_two_processes_choose_what_one_does(small: Job, tmp_path: Path) -> None:
    small.run()
    two = small.to(tmp_path / "two", batch_size=4)
    assert run_all(start_group(2, _run, two)) == [0, 0]
    assert (two.out / "tokenizer.json").read_bytes() == (small.out / "tokenizer.json").read_bytes()


@pytest.mark.parametrize(("size", "message"), [(140, "is too small"), (165, "is more than")])
def test_an_impossible_size_leaves_nothing(job: Job, tmp_path: Path, size: int, message: str) -> None:
    with pytest.raises(UsageError, match=f"--vocab-size {size} {message}"):
        job.to(tmp_path / "none", vocab_size=size).run()
    assert not list(tmp_path.glob("none*"))


def test_half_precision_is_for_the_folder_alone(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job.run()
    half = job.to(tmp_path / "half", save_dtype="float16")
    # a checkpoint has all digits, so the run may change its mind
    stopped_at(job.to(half.out), 7, monkeypatch)
    half.run(resume=True)
    full, saved = load_file(job.out / "model.safetensors"), load_file(half.out / "model.safetensors")
    assert {name: tensor.half() for name, tensor in full.items()}.keys() == saved.keys()
    assert all(torch.equal(tensor.half(), saved[name]) for name, tensor in full.items())
    assert (half.out / "metrics.jsonl").read_bytes() == (job.out / "metrics.jsonl").read_bytes()
    with pytest.raises(UsageError, match="save_dtype was 'float16', is 'float32'"):
        job.to(half.out).run(resume=True)
