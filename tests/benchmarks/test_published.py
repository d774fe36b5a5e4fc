"""The published loop that stage 1 is measured against computes what the authors' own code did."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.sides import PublishedLoop
from distilcse_cli.data.tokens import tokenize
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.training.model import Scale, StudentModel


@pytest.mark.golden
def test_the_published_loop_gives_the_authors_losses(golden_dir: Path) -> None:
    golden = json.loads((golden_dir / "ckd_reference.json").read_text())["ckd_cls_queue32"]
    published = golden["settings"]
    teacher = load_encoder(str(golden_dir / "tiny-teacher"), pooler="cls")
    student = load_encoder(str(golden_dir / "tiny-student"), pooler="cls")
    model = StudentModel(student, Scale(math.exp(published["logit_scale_init"]), 100.0), 24)
    assert model.projection is not None
    model.projection.load_state_dict(
        {"weight": torch.tensor(golden["projection_weight"]), "bias": torch.tensor(golden["projection_bias"])}
    )
    loop = PublishedLoop(
        teacher,
        model,
        bank=torch.empty(0, 24),
        bank_size=published["queue_len"],
        grad_clip=published["grad_clip"],
        dropout=False,
    )
    sentences = (golden_dir / "sentences.txt").read_text(encoding="utf-8").split("\n")[:96]
    rows = tokenize(sentences, student.tokenizer, 64)
    size = published["batch_size"]
    losses = []
    for step, lr in enumerate(golden["lr"][: 96 // size]):
        batch = rows.pad(np.arange(step * size, (step + 1) * size), student.pad_id, 64)
        losses.append(loop.step(batch, batch, lr))

    assert losses == pytest.approx(golden["loss"][: len(losses)], rel=1e-4)
    assert len(loop.bank) == 32
