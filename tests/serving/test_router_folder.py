import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from distilcse_cli.config import EncodeSettings
from distilcse_cli.errors import UsageError
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.folder import save_student
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.runtime import Runtime
from distilcse_cli.serving.align import with_map
from distilcse_cli.serving.router_folder import export_router
from distilcse_cli.teacher.space import own_space

CPU = Runtime(device="cpu", dtype="float32", reason="test")
TEXTS = ["the cat sleeps", "a dog runs to the river", "red", "a man, a woman and a child in the big house " * 9]


def in_space_of(teacher: ModelRef, student: ModelRef, folder: Path) -> ModelRef:
    """The student behind a linear map to the teacher's width, in a folder that declares the teacher's space."""
    loaded, encoder = teacher.load(), student.load()
    draw = np.random.default_rng(0)
    weight = draw.normal(size=(loaded.embedding_dim, encoder.embedding_dim))
    mapped = with_map(encoder, weight, draw.normal(size=len(weight)), normalize=loaded.normalize)
    save_student(mapped, folder, card="", settings={"result": {"space": own_space(loaded).as_dict()}})
    return ModelRef(ref=str(folder))


def require_equal(folder: Path, student: ModelRef, teacher: ModelRef) -> None:
    """Both sides of the folder give our vectors, under sentence-transformers."""
    both = SentenceTransformer(str(folder), device="cpu")
    ours = [Embedder(one.load(), CPU, EncodeSettings()).sentences(TEXTS) for one in (student, teacher)]
    np.testing.assert_allclose(both.encode_query(TEXTS), ours[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(both.encode_document(TEXTS), ours[1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(both.encode(TEXTS), ours[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "poolings", "prompts"),
    [
        ("bert", ("avg", "cls"), (None, None)),
        ("distilbert", ("avg_first_last", "avg"), ("query: ", "passage: ")),
        ("roberta", ("cls_before_pooler", "avg_top2"), (None, "the ")),
    ],
)
def test_both_routes_give_our_vectors(
    architecture: str,
    poolings: tuple[str, str],
    prompts: tuple[str | None, str | None],
    tiny: Callable[..., Path],
    tmp_path: Path,
) -> None:
    teacher = ModelRef(ref=str(tiny("bert", width=24)), pooler=poolings[1], prompt=prompts[1])
    small = ModelRef(ref=str(tiny(architecture)), pooler=poolings[0], prompt=prompts[0])
    student = in_space_of(teacher, small, tmp_path / "student")
    report = export_router(student, teacher, tmp_path / "both")
    assert report["width"] == 24
    require_equal(tmp_path / "both", student, teacher)
    config = json.loads((tmp_path / "both" / "router_config.json").read_text())
    assert list(config["structure"]) == ["query", "document"]
    assert config["structure"]["query"][-1].endswith("_Dense")
    folders = {path.name for path in (tmp_path / "both").iterdir() if path.is_dir()}
    assert folders == set(config["types"])


def test_a_student_outside_the_teachers_space_is_refused(tiny: Callable[..., Path], tmp_path: Path) -> None:
    teacher, other = (ModelRef(ref=str(tiny("bert", seed=seed)), pooler="avg") for seed in (0, 1))
    with pytest.raises(UsageError, match=r"documents get vectors of .*, but .* makes vectors of") as caught:
        export_router(other, teacher, tmp_path / "both")
    assert "distilcse align" in str(caught.value.hint)
    assert not (tmp_path / "both").exists()


@pytest.mark.real_model
def test_a_cut_of_minilm_beside_its_teacher(minilm: Path, tmp_path: Path) -> None:
    teacher = ModelRef(ref=str(minilm))
    student = in_space_of(teacher, ModelRef(ref=str(minilm), keep_layers=(0, 5)), tmp_path / "student")
    export_router(student, teacher, tmp_path / "both")
    require_equal(tmp_path / "both", student, teacher)
