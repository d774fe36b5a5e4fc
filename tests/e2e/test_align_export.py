"""`distilcse align` and `distilcse export`, as a user types them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Typed
from tests.tiny import WORDS

pytestmark = pytest.mark.e2e


@pytest.fixture
def teacher(typed: Typed, tmp_path: Path, home: Path, tiny: Callable[..., Path]) -> Path:  # noqa: ARG001
    """A model, and its rows of 576 sentences in `store`."""
    text = "\n".join(f"{one} {other}" for one in WORDS for other in WORDS)
    (tmp_path / "text.txt").write_text(text + "\n", encoding="utf-8")
    model = ("--teacher", tiny("bert"), "--pooler", "avg")
    typed("extract", *model, "--corpus", "text.txt", "--out", "store")
    return tiny("bert")


def test_a_cut_of_the_teacher_is_aligned_queries_its_index_and_is_exported_beside_it(
    typed: Typed, teacher: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut"
    from distilcse_cli.models.encoder import load_encoder
    from distilcse_cli.models.folder import save_student

    save_student(load_encoder(str(teacher), pooler="avg", keep_layers=(0, 1)), cut, card="", settings={})
    typed("index", "store", "--out", "index")
    refused = typed("search", "--index", "index", "--model", cut, "the cat", code=2)
    assert f"distilcse align {cut} --to STORE" in refused.err
    report = json.loads(typed("align", cut, "--to", "store", "--out", "aligned", "--sentences", 400, "--json").out)
    assert report["after"]["neighbor_overlap"] > report["before"]["neighbor_overlap"]
    assert report["num_held_out"] == len(WORDS) ** 2 - 400
    typed("search", "--index", "index", "--model", "aligned", "the cat", "-k", 1)
    exported = ("--asymmetric", "--teacher", teacher, "--teacher-pooler", "avg", "--out", "both")
    assert "queries through aligned" in typed("export", "aligned", *exported).out
    assert (tmp_path / "both" / "router_config.json").is_file()


def test_what_goes_wrong_is_one_line(typed: Typed, teacher: Path, tmp_path: Path) -> None:
    worse = typed("align", teacher, "--pooler", "avg", "--to", "store", "--out", "aligned", code=7)
    assert "is no better aligned to store" in worse.err.splitlines()[-1]
    assert not (tmp_path / "aligned").exists()
    small = typed("align", teacher, "--to", "store", "--out", "aligned", "--sentences", 560, code=3)
    assert "store has 576 rows, but 580 are needed" in small.err.splitlines()[-1]
    assert "--asymmetric" in typed("export", teacher, "--out", "both", code=2).err
    assert "--teacher REF" in typed("export", teacher, "--asymmetric", "--out", "both", code=2).err
