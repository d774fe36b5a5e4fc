import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from distilcse_cli.errors import DataError, UsageError
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.models.folder import save_student
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.teacher.space import Space, declared_space, own_space, require_space, space_of_model, space_of_store

TEACHER = Space("teacher", "a" * 64)


@pytest.fixture
def student(tiny: Callable[..., Path], tmp_path: Path) -> Path:
    """A folder that declares that it lives in the space of TEACHER."""
    folder = shutil.copytree(tiny("bert"), tmp_path / "student")
    (folder / "distilcse.json").write_text(json.dumps({"result": {"space": TEACHER.as_dict()}}))
    return folder


def test_a_stores_space_is_its_teacher() -> None:
    assert space_of_store({"teacher": "teacher", "teacher_fingerprint": "a" * 64}) == TEACHER
    assert str(TEACHER) == "teacher (aaaaaaaaaaaa…)"


def test_a_students_space_is_the_one_it_declares_as_long_as_it_is_read_as_it_was_saved(student: Path) -> None:
    for settings, expected in (({}, TEACHER), ({"pooler": "cls_before_pooler"}, None), ({"prompt": "a"}, None)):
        reference = ModelRef(ref=str(student), **settings)  # type: ignore[arg-type]
        encoder = reference.load()
        assert space_of_model(reference, encoder) == (expected or own_space(encoder))


def test_to_name_a_students_own_pooling_changes_nothing(tiny: Callable[..., Path], tmp_path: Path) -> None:
    settings = {"result": {"space": TEACHER.as_dict()}}
    save_student(load_encoder(str(tiny("bert")), pooler="avg"), tmp_path / "student", card="", settings=settings)
    for pooler, is_as_saved in (("avg", True), ("weighted_mean", False)):
        reference = ModelRef(ref=str(tmp_path / "student"), pooler=pooler)
        assert (space_of_model(reference, reference.load()) == TEACHER) is is_as_saved


@pytest.mark.parametrize("record", [{}, {"result": {}}, {"result": None}, {"result": {"space": None}}])
def test_other_records_declare_nothing(tmp_path: Path, record: dict[str, object]) -> None:
    assert declared_space(tmp_path) is None
    (tmp_path / "distilcse.json").write_text(json.dumps(record))
    assert declared_space(tmp_path) is None


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "distilcse.json").write_text('{"result": {"space": {"name": 3}}}')
    with pytest.raises(DataError, match=r"distilcse\.json: name is 3"):
        declared_space(tmp_path)


def test_a_model_may_query_its_own_rows_whatever_its_prompt_and_others_may_not(
    tiny: Callable[..., Path], student: Path
) -> None:
    passages = ModelRef(ref=str(tiny("bert")), pooler="avg", prompt="passage: ")
    rows = own_space(passages.load())
    queries = replace(passages, prompt="query: ")
    encoder = queries.load()
    require_space(queries, encoder, rows, prompt="passage: ", what="index holds rows of")
    assert encoder.prompts.used == "query: "
    other = ModelRef(ref=str(student))
    with pytest.raises(UsageError, match=rf"index holds rows of {rows.name} \(.*, but .*student makes .* of teacher"):
        require_space(other, other.load(), rows, prompt="passage: ", what="index holds rows of")
    require_space(other, other.load(), TEACHER, prompt="", what="index holds rows of")
