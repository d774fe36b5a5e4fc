"""Stage 1 in the paper's settings against the loss curves of the authors' own code."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distilcse_cli.config import EncodeSettings
from distilcse_cli.data.tokens import tokenize
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.ranks import ALONE, Ranks
from distilcse_cli.runtime import Runtime
from distilcse_cli.training.bank import MemoryBank
from distilcse_cli.training.distillation import Distillation
from distilcse_cli.training.loop import train
from distilcse_cli.training.model import StudentModel
from distilcse_cli.training.settings import DistillSettings
from distilcse_cli.training.state import TrainState
from distilcse_cli.training.steps import StepRecord
from distilcse_cli.training.teacher_rows import StoredTeacher
from tests.training.test_bank import newest_first

pytestmark = pytest.mark.golden

FP32 = Runtime(device="cpu", dtype="float32", reason="golden values are fp32")
RUNS = ("ckd_cls_queue32", "ckd_cls_noqueue", "ckd_cbp_queue20_bs12", "ckd_plus_mse")
POOLERS = {"cls": "cls", "cbp": "cls_before_pooler"}


def train_golden(
    golden_dir: Path, golden: dict[str, Any], ranks: Ranks = ALONE
) -> tuple[StudentModel, MemoryBank, list[StepRecord]]:
    published = golden["settings"]
    settings = DistillSettings(
        loss="ckd+mse" if published["mse_added"] else "ckd",
        mse_raw=True,
        epochs=published["epochs"],
        batch_size=published["batch_size"] // ranks.world_size,
        bank_size=published["queue_len"],
        lr=published["lr"],
        logit_scale=math.exp(published["logit_scale_init"]),
        max_length=published["max_length"],
        grad_clip=published["grad_clip"],
        shuffle=False,
    )
    pooler = POOLERS[published["pooler"]]
    teacher = load_encoder(str(golden_dir / "tiny-teacher"), pooler=pooler)
    student = load_encoder(str(golden_dir / "tiny-student"), pooler=pooler)
    sentences = (golden_dir / "sentences.txt").read_text(encoding="utf-8").split("\n")[:96]
    rows = tokenize(sentences, teacher.tokenizer, 64)
    wanted = Embedder(teacher, FP32, EncodeSettings(batch_tokens=1024, normalize=False)).rows(rows)

    objective = Distillation(
        tokens=tokenize(sentences, student.tokenizer, 64),
        teacher=StoredTeacher(wanted, FP32),
        rows=np.arange(len(rows)),
        settings=settings,
        runtime=FP32,
        ranks=ranks,
        student=student,
    )
    model, bank = objective.new_model(), objective.new_bank()
    assert bank is not None
    assert model.projection is not None
    model.projection.load_state_dict(
        {"weight": torch.tensor(golden["projection_weight"]), "bias": torch.tensor(golden["projection_bias"])}
    )
    records: list[StepRecord] = []
    train(objective, TrainState(model, bank), records.append)
    return model, bank, records


@pytest.mark.parametrize("name", RUNS)
def test_stage_1_reproduces_the_authors_run(golden_dir: Path, name: str) -> None:
    golden = json.loads((golden_dir / "ckd_reference.json").read_text())[name]
    model, bank, records = train_golden(golden_dir, golden)

    assert [record.loss for record in records] == pytest.approx(golden["loss"], rel=1e-4)
    assert [record.scale for record in records] == pytest.approx(golden["scale"], rel=1e-5)
    assert [record.lr for record in records] == pytest.approx(golden["lr"], rel=1e-9)

    assert len(bank) == golden["queue_rows_after"]
    if len(bank):
        kept = newest_first(bank)
        assert kept[0].tolist() == pytest.approx(golden["queue_first_row"], abs=1e-5)
        assert kept[-1].tolist() == pytest.approx(golden["queue_last_row"], abs=1e-5)

    sentences = (golden_dir / "sentences.txt").read_text(encoding="utf-8").split("\n")[:4]
    ids, mask = tokenize(sentences, model.encoder.tokenizer, 64).pad(np.arange(4), model.encoder.pad_id)
    model.eval()
    with torch.no_grad():
        pooled = model.encoder(ids, mask)
        projected = model.projected(pooled)
    assert pooled.flatten().tolist() == pytest.approx(np.ravel(golden["student_embeddings_first4"]).tolist(), abs=2e-4)
    assert projected.flatten().tolist() == pytest.approx(np.ravel(golden["projected_first4"]).tolist(), abs=2e-4)
