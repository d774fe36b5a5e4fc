"""Stage 2 in the paper's settings against the loss curves of the authors' own code."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distilcse_cli.config import TripletSettings
from distilcse_cli.data.tokens import TokenRows, tokenize
from distilcse_cli.data.triplets import prepare_triplets
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.ranks import Ranks, joined
from distilcse_cli.runtime import Runtime
from distilcse_cli.training.loop import train
from distilcse_cli.training.model import StudentModel
from distilcse_cli.training.settings import FinetuneSettings
from distilcse_cli.training.state import TrainState
from distilcse_cli.training.steps import StepRecord
from distilcse_cli.training.triples import Triples
from tests.training.processes import run_all, start_group

pytestmark = [pytest.mark.golden, pytest.mark.usefixtures("home")]

FP32 = Runtime(device="cpu", dtype="float32", reason="golden values are fp32")
RUNS = ("nli_cls", "nli_cbp_bs12", "nli_cls_exp")
POOLERS = {"cls": "cls", "cbp": "cls_before_pooler"}


def _golden(golden_dir: Path, name: str) -> dict[str, Any]:
    return json.loads((golden_dir / "nli_reference.json").read_text())[name]


def _is_exponential(golden: dict[str, Any]) -> bool:
    """Whether the golden run learned the scale's exponent; then what its values call scale is the exponent."""
    return golden["settings"]["scale"] == "learned, exp(value)"


def _train(
    golden_dir: Path, name: str, ranks: Ranks, micro_batch_tokens: int | None
) -> tuple[list[StepRecord], StudentModel, TokenRows, np.ndarray]:
    golden = _golden(golden_dir, name)
    published = golden["settings"]
    start = published["scale_init"]
    settings = FinetuneSettings(
        epochs=published["epochs"],
        batch_size=published["batch_size"] // ranks.world_size,
        micro_batch_tokens=micro_batch_tokens,
        lr=published["lr"],
        logit_scale=math.exp(start) if _is_exponential(golden) else start,
        exponential_scale=_is_exponential(golden),
        grad_clip=published["grad_clip"],
        shuffle=False,
    )
    triplets = prepare_triplets([str(golden_dir / "triplets.csv")], TripletSettings())
    encoder = load_encoder(str(golden_dir / "tiny-student"), pooler=POOLERS[published["pooler"]])
    tokens = tokenize(list(triplets.sentences), encoder.tokenizer, 64)
    objective = Triples(
        tokens=tokens, rows=triplets.rows, settings=settings, runtime=FP32, ranks=ranks, student=encoder
    )
    model = objective.new_model()
    records: list[StepRecord] = []
    train(objective, TrainState(model), records.append)
    return records, model, tokens, triplets.rows


@pytest.mark.parametrize("micro_batch_tokens", [None, 200], ids=["whole", "cached"])
@pytest.mark.parametrize("name", RUNS)
def test_stage_2_reproduces_the_authors_run(golden_dir: Path, name: str, micro_batch_tokens: int | None) -> None:
    golden = _golden(golden_dir, name)
    records, model, tokens, triples = _train(golden_dir, name, Ranks(), micro_batch_tokens)

    assert triples.shape == (96, 3)  # the header is none of them
    assert [record.loss for record in records] == pytest.approx(golden["loss"], rel=1e-4)
    scales = [math.exp(value) for value in golden["scale"]] if _is_exponential(golden) else golden["scale"]
    assert [record.scale for record in records] == pytest.approx(scales, rel=1e-5)
    assert [record.lr for record in records] == pytest.approx(golden["lr"], rel=1e-9)

    ids, mask = tokens.pad(triples[0], model.encoder.pad_id)
    with torch.no_grad():
        embeddings = model.encoder.eval()(ids, mask)
    assert embeddings.flatten().tolist() == pytest.approx(np.ravel(golden["embeddings_first_row"]).tolist(), abs=2e-4)


def _train_rank(golden_dir: Path, name: str, report: Path) -> None:
    with joined(FP32) as ranks:
        records, *_ = _train(golden_dir, name, ranks, 200)
        if ranks.is_main:
            report.write_text(json.dumps([record.loss for record in records]))


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_follow_the_authors_loss_curve(golden_dir: Path, tmp_path: Path, name: str) -> None:
    assert run_all(start_group(2, _train_rank, golden_dir, name, tmp_path / "losses.json")) == [0, 0]
    losses = json.loads((tmp_path / "losses.json").read_text())
    assert losses == pytest.approx(_golden(golden_dir, name)["loss"], rel=1e-4)
