"""The worked example of docs/architecture.md: a third objective in one file trains a student."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.training.losses import LOSSES, Targets
from distilcse_cli.training.settings import CONTRASTIVE_LOSSES
from distilcse_cli.training.settings import LOSSES as NAMES
from tests.conftest import ROOT
from tests.training.conftest import write_corpus


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    code = page.partition("### A third objective")[2].partition("```python\n")[2].partition("```")[0]
    assert code.count("\n") < 100
    (tmp_path / "relational.py").write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("relational", tmp_path / "relational.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "relational", module)
    spec.loader.exec_module(module)
    return module


def test_the_example_of_the_page_trains_a_student(
    example: ModuleType, tiny: Any, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISTILCSE_DATA", raising=False)
    assert not home.exists()
    write_corpus(tmp_path / "corpus.txt", 64)
    teacher, student = (ModelRef(ref=str(tiny("bert", num_layers=2, seed=seed)), pooler="avg") for seed in (1, 2))
    settings = example.RelationalSettings(max_steps=20, epochs=5, batch_size=16)
    out = tmp_path / "student"
    report = example.run(student, teacher, (str(tmp_path / "corpus.txt"),), out, settings)
    losses = [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == report.num_steps == 20
    assert np.mean(losses[-4:]) < 0.5 * np.mean(losses[:4])
    assert load_encoder(str(out)).num_layers == 2
    assert "| `power` | 2.0 |" in (out / "README.md").read_text(encoding="utf-8")


def test_settings_and_the_table_of_losses_have_the_same_names() -> None:
    assert tuple(LOSSES) == NAMES
    assert set(CONTRASTIVE_LOSSES) < set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_losses_that_read_the_bank_are_those_that_get_one(name: str) -> None:
    class Watched(Targets):
        read = False

        def __getattribute__(self, field: str) -> object:
            if field == "bank":
                Watched.read = True
            return super().__getattribute__(field)

    rows = torch.eye(3)
    LOSSES[name].compute(rows, Watched(teacher=rows, own=torch.arange(3), bank=rows[:0], scale=torch.ones(())))
    assert Watched.read == (name in CONTRASTIVE_LOSSES)
