import gc
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distilcse_cli.errors import ModelError
from distilcse_cli.evaluation.run import choose_eval_runtime, choose_models, evaluate_models
from distilcse_cli.evaluation.settings import EvalSettings
from distilcse_cli.models import reference
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.runtime import choose_runtime
from tests.evaluation.small import FP32, Tiny, data_of, sts, transfer

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many encoders there are whenever another one has been loaded; garbage is not collected by chance."""
    loaded: list[weakref.ref[Any]] = []
    counts: list[int] = []
    load = ModelRef.load

    def load_and_count(self: ModelRef, **settings: Any) -> Any:
        encoder = load(self, **settings)
        loaded.append(weakref.ref(encoder))
        counts.append(sum(reference() is not None for reference in loaded))
        return encoder

    monkeypatch.setattr(ModelRef, "load", load_and_count)
    gc.disable()
    yield counts
    gc.enable()


def test_models_are_in_memory_one_at_a_time_the_teacher_first(tiny: Tiny, alive: list[int]) -> None:
    choices = [ModelRef(ref=str(tiny()), pooler=pooler) for pooler in ("avg", "cls", "avg_top2")]
    teacher = ModelRef(ref=str(tiny(num_layers=2)), pooler="avg")
    report = evaluate_models([*choices, choices[0]], teacher, data_of(sts()), EvalSettings(), FP32)
    assert alive == [1, 1, 1, 1]
    # the one named twice is run once
    assert [one.pooler for one in report.evaluations] == ["avg", "cls", "avg_top2"]
    assert report.teacher is not None
    assert next(iter(report.by_label)) == "teacher"


def test_every_reference_is_resolved_before_a_model_is_loaded(tiny: Tiny, alive: list[int]) -> None:
    choices = [ModelRef(ref=str(tiny())), ModelRef(ref="no-such-model")]
    with pytest.raises(ModelError, match="no model no-such-model"):
        evaluate_models(choices, None, data_of(sts()), EvalSettings(), FP32)
    assert alive == []


@pytest.mark.parametrize("base", [False, True])
def test_a_reference_is_resolved_once(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: bool) -> None:
    resolved: list[str] = []
    find_weights = reference.find_weights

    def count(ref: str, revision: str | None = None) -> Path | None:
        resolved.append(ref)
        return find_weights(ref, revision)

    monkeypatch.setattr(reference, "find_weights", count)
    weights = tmp_path / "weights.safetensors"
    shutil.copy(tiny() / "model.safetensors", weights)
    refs = [str(tiny()), *([str(weights)] if base else [])]
    named = {"base": str(tiny()) if base else None, "tokenizer": None, "revision": None, "pooler": "avg"}
    models = choose_models(refs, **named)
    # --base is for the file alone
    assert [model.base for model in models] == [None, *([str(tiny())] if base else [])]
    report = evaluate_models(models, ModelRef(ref=str(tiny()), pooler="cls"), data_of(sts()), EvalSettings(), FP32)
    assert len(report.evaluations) == len(refs)
    assert sorted(resolved) == sorted([*refs, str(tiny())])  # the teacher is another reference to the first folder


def test_a_snapshot_of_the_hub_is_known_by_its_commit(tiny: Tiny, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--org--name" / "snapshots" / "c0ffee"
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(tiny())
    choices = [ModelRef(ref=str(snapshot), pooler="avg"), ModelRef(ref=str(tiny()), pooler="cls")]
    report = evaluate_models(choices, None, data_of(sts()), EvalSettings(), FP32)
    assert [one.revision for one in report.evaluations] == ["c0ffee", None]


def test_classifiers_get_embeddings_in_fp32_unless_another_format_is_asked_for() -> None:
    usual = choose_eval_runtime("cpu", "auto", data_of(sts()))
    assert usual == choose_runtime("cpu")
    assert choose_eval_runtime("cpu", "auto", data_of(sts(), transfer())).dtype == "float32"
    assert choose_eval_runtime("cpu", "bfloat16", data_of(transfer())).dtype == "bfloat16"
