"""What a demo does to the student of an earlier one, and says when it is interrupted; on a tiny teacher."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distilcse_cli import catalogue
from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.corpus import prepare_corpus
from distilcse_cli.errors import DataError
from distilcse_cli.evaluation import demo as demo_module
from distilcse_cli.evaluation.demo import ARTICLES, TEACHER, run_demo
from distilcse_cli.evaluation.pace import FEWEST, Pace, measure
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.runtime import choose_runtime
from distilcse_cli.training.distill import DistillSources
from distilcse_cli.training.settings import DistillSettings
from distilcse_cli.training.steps import Interrupted, NonFiniteLoss
from distilcse_cli.training.teacher_rows import StoredTeacher
from tests.training.conftest import write_corpus


@pytest.fixture
def demo(
    tiny: Callable[..., Path], tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, bytes]]:
    """Run a demo into `demo/`; the files of its student."""
    monkeypatch.delenv("DISTILCSE_DATA", raising=False)
    assert not home.exists()
    write_corpus(tmp_path / "lines.txt", 120)
    lines = (tmp_path / "lines.txt").read_text(encoding="utf-8").splitlines()
    articles = tmp_path / "articles.jsonl"
    articles.write_text("".join(json.dumps({"text": f"So {line}."}) + "\n" for line in lines), encoding="utf-8")
    places = {TEACHER: tiny("bert", num_layers=6), ARTICLES: articles}
    monkeypatch.setattr(catalogue, "fetch", places.__getitem__)

    def run(**asked: Any) -> dict[str, bytes]:
        run_demo(tmp_path / "demo", device="cpu", compute_dtype="float32", **asked)
        return files_of(tmp_path / "demo" / "student")

    return run


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_student_of_an_earlier_demo_stays_until_the_new_one_is_finished(
    demo: Callable[[], dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = demo()
    with monkeypatch.context() as patch:
        # the last thing before the student's folder is written
        patch.setattr("distilcse_cli.training.run.draw_curves", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            demo()
    assert files_of(tmp_path / "demo" / "student") == earlier

    def run_mark(files: dict[str, bytes]) -> str:
        return json.loads(files["distilcse.json"])["run"]

    assert run_mark(demo()) != run_mark(earlier)
    assert not (tmp_path / "demo" / "student.run").exists()


@pytest.mark.parametrize("wish", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_demo_says_what_helps_and_the_same_again_ends(
    demo: Callable[[], dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wish: signal.Signals
) -> None:
    rows = StoredTeacher.rows

    def stop(*arguments: Any) -> Any:
        os.kill(os.getpid(), wish)
        return rows(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(StoredTeacher, "rows", stop)
        with pytest.raises(Interrupted, match="interrupted during the distillation") as stopped:
            demo()
    assert stopped.value.exit_code == 128 + wish
    said = f"{stopped.value} {stopped.value.hint}"
    assert "the same command starts the distillation again" in said
    assert "--resume" not in said
    assert "is kept in" not in said, "nothing of the training is used again"
    assert demo().keys() >= {"model.safetensors", "distilcse.json"}
    assert not (tmp_path / "demo" / "student.run").exists()


def test_a_loss_that_is_not_finite_hints_at_no_option_that_the_demo_lacks(
    demo: Callable[[], dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = StoredTeacher.rows
    monkeypatch.setattr(StoredTeacher, "rows", lambda *arguments: rows(*arguments) * float("nan"))
    with pytest.raises(NonFiniteLoss, match="step 1") as stopped:
        demo()
    assert stopped.value.hint is None, "it runs in float32 as it is, and has no --lr"


def test_text_and_students_that_no_demo_made_stay(demo: Callable[[], dict[str, bytes]], tmp_path: Path) -> None:
    student, text = tmp_path / "demo" / "student", tmp_path / "demo" / "sentences.txt"
    student.mkdir(parents=True)
    # as README's five lines leave it
    asked = {"teacher": TEACHER, "student": TEACHER, "corpus": ["sentences.txt"], "keep_layers": None}
    facts = json.dumps({"stage": "distill", "asked": asked, "settings": {"layers": 3}})
    (student / "distilcse.json").write_text(facts, encoding="utf-8")
    with pytest.raises(DataError, match=r"student was not made by the demo"):
        demo()
    assert (student / "distilcse.json").read_text(encoding="utf-8") == facts

    shutil.rmtree(student)
    text.write_text("years of work\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"sentences\.txt was not made by the demo"):
        demo()
    assert text.read_text(encoding="utf-8") == "years of work\n"
    assert not student.exists()


def pace(**changed: float) -> Pace:
    """A machine that needs 10 ms a sentence, and 10 more with a full bank."""
    known = {"teacher": 0.002, "student": 0.001, "training": 0.008, "bank": 0.01, "loading": 1.0, "length": 100.0}
    return Pace(**(known | changed), bank_size=65_536, settings=DistillSettings())


def measured(pace: Pace) -> SimpleNamespace:
    return SimpleNamespace(clock=pace)


def test_a_demo_takes_as_many_sentences_as_end_in_time() -> None:
    taken = [pace().sentences_in(60 * minutes, 85_000, 0) for minutes in (0.01, 2, 5, 60)]
    assert taken[0] == FEWEST, "fewer train no student worth a look"
    assert FEWEST < taken[1] < taken[2] < taken[3] == 85_000
    assert taken[2] % 1000 == 0, "round numbers"
    assert sum(pace().parts(taken[2], 0)) <= 300 < sum(pace().parts(taken[2] + 1000, 0))
    assert pace().sentences_in(-5, 85_000, 0) == FEWEST, "the measurement alone took longer"
    assert pace().sentences_in(0.1, 120, 0) == 120, "there are no more"


def test_what_costs_time_leaves_fewer_sentences() -> None:
    usual = pace().sentences_in(300, 85_000, 0)
    for slower in (pace(passes=18.0), pace(teacher=0.01), pace(training=0.02), pace(bank=0.1), pace(loading=30.0)):
        assert slower.sentences_in(300, 85_000, 0) < usual
    assert pace().sentences_in(300, 85_000, 2_000_000) < usual, "STS is scored, too"
    assert len(pace().parts(usual, 2_000_000)) == len(pace().parts(usual, 0)) + 1


def test_a_measurement_encodes_and_trains_in_memory(tiny: Callable[..., Path], tmp_path: Path, home: Path) -> None:
    write_corpus(tmp_path / "lines.txt", 300)
    corpus = prepare_corpus([str(tmp_path / "lines.txt")], CorpusSettings())
    teacher = str(tiny("bert", num_layers=6))
    sources = DistillSources(teacher=ModelRef(ref=teacher), student=ModelRef(ref=teacher), corpus=())
    found = sorted(home.rglob("*"))
    settings, runtime = DistillSettings(layers=3, loss="ckd"), choose_runtime("cpu", "float32")
    measured = measure(sources, list(corpus), len(corpus), settings, runtime, seconds=0.05, with_triples=True)
    for pace in (measured.clock, measured.cpu):
        assert min(pace.teacher, pace.student, pace.training, pace.loading, pace.triple) > 0
        assert pace.bank >= 0
        assert pace.bank_size == len(corpus), "no fuller than it will be"
        assert pace.passes == 34 / 3, "passes of three layers, for the 20 subsets of three"
    assert (measured.teacher.num_layers, measured.student.num_layers) == (6, 3)
    assert sorted(home.rglob("*")) == found, "nothing is written"


def test_a_measured_demo_says_what_it_takes_and_makes_the_same_student(
    demo: Callable[..., dict[str, bytes]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    by_number = demo(num_sentences=100)
    said = capsys.readouterr().err.splitlines()
    names = [f"part {number} of 4: {name}" for number, name in enumerate(demo_module.PARTS, start=1)]
    assert [line for line in said if line.startswith("part ")] == names
    assert not any(line.startswith("this machine") for line in said)

    monkeypatch.setattr(demo_module, "measure", lambda *_: measured(pace(teacher=1.0)))
    monkeypatch.setattr("distilcse_cli.evaluation.pace.FEWEST", 100)
    by_time = demo(minutes=0.1)
    said = capsys.readouterr().err.splitlines()
    assert by_time["model.safetensors"] == by_number["model.safetensors"]
    (line,) = [line for line in said if line.startswith("this machine")]
    assert line.endswith("taking the first 100 of 120 sentences, about 2 min")
    assert [line for line in said if line.startswith("part ")] == [
        names[0],
        f"{names[1]}, about 2 min left",
        f"{names[2]}, about half a minute left",
        f"{names[3]}, about half a minute left",
    ]


def test_an_interrupted_measured_demo_names_the_sentences_whose_rows_are_kept(
    demo: Callable[..., dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = StoredTeacher.rows

    def stop(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return rows(*arguments)

    monkeypatch.setattr(demo_module, "measure", lambda *_: measured(pace()))
    monkeypatch.setattr(StoredTeacher, "rows", stop)
    with pytest.raises(Interrupted) as stopped:
        demo(minutes=5)
    assert "the same command with --sentences 120 starts the distillation again" in str(stopped.value.hint)
    with monkeypatch.context() as patch:
        patch.setattr(demo_module, "measure", measure)
        with pytest.raises(Interrupted, match="interrupted while it measured this machine"):
            demo(minutes=5)
