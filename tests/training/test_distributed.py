"""Two processes do what one would: the same loss, gradient and curve, and they end together."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from distilcse_cli.errors import DataError
from distilcse_cli.ranks import joined
from distilcse_cli.runtime import Runtime
from distilcse_cli.training import loop
from tests.training import test_golden_ckd
from tests.training.conftest import Job
from tests.training.processes import run_all, start_group

FP32 = Runtime(device="cpu", dtype="float32", reason="test")
COUNTED = ("loss", "num_sentences", "num_tokens", "num_hidden", "lr", "teacher_cosine", "scale")


def _steps(out: Path) -> np.ndarray:
    lines = (json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines())
    return np.array([[line[name] for name in COUNTED] for line in lines if line["kind"] == "step"])


def _run(job: Job) -> None:
    job.run()


def _first_gradient(job: Job, report: Path) -> None:
    def save_and_stop(state: Any, *arguments: Any) -> list[float]:
        numbers = over_ranks(state, *arguments)
        grads = {
            name: parameter.grad for name, parameter in state.model.named_parameters() if parameter.grad is not None
        }
        if os.environ.get("RANK", "0") == "0":
            save_file({**grads, "loss": torch.tensor(numbers[0])}, report)
        raise DataError("seen enough")

    over_ranks = loop._over_ranks
    loop._over_ranks = save_and_stop  # type: ignore[assignment]
    with pytest.raises(DataError, match="seen enough"):
        job.run()


@pytest.mark.parametrize("loss", ["ckd", "kl", "mse", "ckd+mse"])
def test_two_processes_have_the_loss_and_gradient_of_one(job: Job, tmp_path: Path, loss: str) -> None:
    changes = {"loss": loss, "dropout": False, "logit_scale": 8.0}
    reports = {size: tmp_path / f"{size}.safetensors" for size in (1, 2)}
    for size, report in reports.items():
        share = job.to(tmp_path / f"{size}", batch_size=8 // size, **changes)
        assert run_all(start_group(size, _first_gradient, share, report)) == [0] * size
    one, two = (load_file(report) for report in reports.values())
    assert one.keys() == two.keys()
    for name, gradient in one.items():
        assert torch.allclose(gradient, two[name], atol=1e-6), name


def test_two_processes_train_as_one_would_when_shares_are_uneven(job: Job, tmp_path: Path) -> None:
    # 84 sentences in batches of 2 x 5 end with one of 4; 3 micro-batches or so a step
    one = job.to(tmp_path / "one", dropout=False, batch_size=10, max_steps=None)
    two = one.to(tmp_path / "two", batch_size=5, micro_batch_tokens=40)
    assert run_all([*start_group(2, _run, two)]) == [0, 0]
    one.run()
    assert np.allclose(_steps(one.out), _steps(two.out), rtol=1e-4)
    assert len(_steps(one.out)) == 18


def test_three_processes_share_two_sentences(job: Job, tmp_path: Path) -> None:
    job.corpus.write_text("the cat\na dog\n")
    small = job.to(tmp_path / "small", num_held_out=0, epochs=3, max_steps=None, batch_size=1)
    assert run_all(start_group(3, _run, small)) == [0, 0, 0]
    # one process has nothing to do in any step
    assert _steps(small.out)[:, 1].tolist() == [2, 2, 2]


def test_early_stop_ends_all_processes_at_the_same_step(job: Job, tmp_path: Path) -> None:
    # nothing improves at such a small rate, so the first evaluation stays the best
    flat = job.to(tmp_path / "flat", lr=1e-12, batch_size=4, eval_every=2, patience=0.3, dropout=False)
    assert run_all(start_group(2, _run, flat)) == [0, 0]
    # an epoch has 11 steps: 0.3 of one are 3.3, over at the second evaluation behind the first
    assert len(_steps(flat.out)) == 6


def test_an_error_of_rank_0_ends_the_others_with_its_code(job: Job) -> None:
    job.corpus.unlink()
    assert run_all(start_group(2, _exit_like_main, job)) == [3, 3]


def _exit_like_main(job: Job) -> None:
    try:
        job.run()
    except DataError as error:
        sys.exit(error.exit_code)


@pytest.mark.golden
@pytest.mark.parametrize("name", ["ckd_cls_queue32", "ckd_cbp_queue20_bs12"])
def test_two_processes_reproduce_the_authors_run(golden_dir: Path, tmp_path: Path, name: str) -> None:
    golden = json.loads((golden_dir / "ckd_reference.json").read_text())[name]
    report = tmp_path / "losses.json"
    assert run_all(start_group(2, _train_golden, golden_dir, golden, report)) == [0, 0]
    assert json.loads(report.read_text()) == pytest.approx(golden["loss"], rel=1e-4)


def _train_golden(golden_dir: Path, golden: dict[str, Any], report: Path) -> None:
    with joined(FP32) as ranks:
        _, _, records = test_golden_ckd.train_golden(golden_dir, golden, ranks)
        if ranks.is_main:
            report.write_text(json.dumps([record.loss for record in records]))


@pytest.mark.e2e
def test_two_torchrun_agents_meet_on_loopback_as_two_nodes(job: Job, tmp_path: Path) -> None:
    two = job.to(tmp_path / "two", batch_size=4, dropout=False)
    one = job.to(tmp_path / "one", dropout=False)
    one.run()
    port = 29_000 + os.getpid() % 1000
    agents = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={node}"),
                *("--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={port}"),
                *("-m", "distilcse_cli", *two.command()),
            ],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for node in (0, 1)
    ]
    outputs = [agent.communicate() for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], outputs
    assert "20 steps" in outputs[0][0]
    assert outputs[1][0] == ""  # only rank 0 speaks
    assert np.allclose(_steps(one.out), _steps(two.out), rtol=1e-4)


def _sum_a_table(report: Path) -> None:
    from distilcse_cli import ranks as module

    module.MANY_ROWS = 8
    with joined(FP32) as ranks:
        table, other = (torch.nn.Parameter(torch.zeros(rows, 2)) for rows in (9, 3))
        if ranks.rank == 0:
            table.grad = torch.zeros(9, 2)
            table.grad[[1, 4]] = torch.tensor([[1.0, 2.0], [0.0, 5.0]])
        other.grad = torch.full((3, 2), 1.0 + ranks.rank)
        if ranks.rank == 1:
            table.grad = torch.zeros(9, 2)
            table.grad[[4, 8]] = torch.tensor([[7.0, 0.0], [-1.0, 0.0]])
        total = module.sum_gradients(ranks, [table, other], torch.tensor([1.0, float(ranks.rank)]))
        assert table.grad is not None
        assert other.grad is not None
        sums = {"table": table.grad, "other": other.grad, "total": total}
        save_file(sums, report.with_suffix(f".{ranks.rank}"))


def test_of_an_embedding_table_the_rows_in_use_are_summed(tmp_path: Path) -> None:
    report = tmp_path / "sums"
    assert run_all(start_group(3, _sum_a_table, report)) == [0, 0, 0]
    wanted = torch.zeros(9, 2)
    # row 1 is rank 0's, row 8 rank 1's, row 4 of both; rank 2 has no gradient at all
    wanted[[1, 4, 8]] = torch.tensor([[1.0, 2.0], [7.0, 5.0], [-1.0, 0.0]])
    for rank in range(3):
        sums = load_file(report.with_suffix(f".{rank}"))
        assert torch.equal(sums["table"], wanted)
        assert torch.equal(sums["other"], torch.full((3, 2), 6.0))
        assert sums["total"].tolist() == [3.0, 3.0]
