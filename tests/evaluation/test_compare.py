"""Students beside their teacher: tiny models, stores, labels, the page, and what a default gate lets through."""

import gzip
import json
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distilcse_cli.config import CorpusSettings, EncodeSettings
from distilcse_cli.data.corpus import prepare_corpus
from distilcse_cli.errors import DataError, UsageError, VerdictError
from distilcse_cli.evaluation import compare as comparing
from distilcse_cli.evaluation.compare import compare
from distilcse_cli.evaluation.compared import LABELS, CompareResult
from distilcse_cli.evaluation.html_report import MEANINGS, page
from distilcse_cli.evaluation.labelled import RetrievalData, ScoredPairs
from distilcse_cli.evaluation.settings import CompareSettings
from distilcse_cli.evaluation.verdict import GATE, METRICS, faults
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.models.ridge import ridge_map
from distilcse_cli.teacher.closeness import closeness, draw_sample, look
from distilcse_cli.teacher.extract import extract
from tests.evaluation.small import FP32, Tiny
from tests.tiny import WORDS

QUICK = CompareSettings(memory=False, device="cpu", compute_dtype="float32", num_pairs=300)
HOSTILE = "<script>alert('x')</script> & \"the cat\""


def _lines(num: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [f"{' '.join(draw.choices(WORDS, k=draw.randint(3, 12)))} {number}" for number in range(num)]


@pytest.fixture
def corpus(tmp_path: Path, home: Path) -> str:  # noqa: ARG001
    path = tmp_path / "sentences.txt"
    path.write_text("\n".join([*_lines(119), HOSTILE]) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def teacher(tiny: Tiny) -> ModelRef:
    return ModelRef(ref=str(tiny("bert")), pooler="avg")


def _cut(teacher: ModelRef, *layers: int) -> ModelRef:
    return ModelRef(ref=teacher.ref, pooler="avg", keep_layers=layers)


def _store(teacher: ModelRef, corpus: str, out: Path) -> ModelRef:
    extract(teacher.load(), prepare_corpus([corpus], CorpusSettings()), out, EncodeSettings(), FP32)
    return ModelRef(ref=str(out))


def test_the_teacher_itself_is_as_good_as_can_be_and_a_cut_is_not(
    teacher: ModelRef, corpus: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = compare(teacher, [teacher, _cut(teacher, 0)], [corpus], settings=QUICK)
    same, cut = result.students
    for name, value in same.closeness.as_dict().items():
        assert value == pytest.approx(1, abs=1e-6), name
    assert same.rank_ratio == pytest.approx(1)
    assert (same.same_space, cut.same_space) == (True, False)
    assert (cut.num_layers, result.teacher.num_layers) == (1, 3)
    assert cut.closeness.shared10 is not None
    assert cut.closeness.shared10 < 0.9
    assert cut.bytes_on_disk == 4 * cut.num_parameters  # type: ignore[operator]
    assert len(same.worst) == 50
    assert all(one.shared10 == 10 and one.teacher_nearest == one.student_nearest for one in same.worst)
    assert [one.shared10 for one in cut.worst] == sorted(one.shared10 for one in cut.worst)
    assert result.counts == {"num_queries": 120, "num_random_pairs": 300, "num_near_pairs": 1200}
    name = Path(teacher.ref).name
    assert [one.name for one in (result.teacher, same, cut)] == [
        f"{teacher.ref}, avg", f"{teacher.ref}, avg (2)", f"{name}, layers 0, avg"
    ]  # fmt: skip
    # nothing is printed, and the rows of students are gone
    assert capsys.readouterr().out == ""
    assert list((home / "compare").iterdir()) == []
    assert len(list((home / "embeddings").iterdir())) == 1


def test_what_a_metric_is_called_is_what_json_has_and_a_limit_takes(teacher: ModelRef, corpus: str) -> None:
    settings = CompareSettings(**vars(QUICK) | {"price_per_hour": 0.36})
    result = compare(teacher, [_cut(teacher, 0, 2)], [corpus], settings=settings, least={"shared1": 1.0, "ndcg10": 0.1})
    found = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    (student,) = found["students"]
    assert set(METRICS) <= set(student)
    assert student["cost_per_million"] == pytest.approx(student["seconds_per_million"] * 0.36 / 3600)
    assert student["seconds_per_million"] == pytest.approx(1e6 / student["sentences_per_second"])
    assert sum(student["random_histogram"]) == 300
    assert len(found["histogram_edges"]) == len(student["near_histogram"]) + 1
    assert (student["good_enough"], [one["metric"] for one in student["faults"]]) == (False, ["shared1", "ndcg10"])
    with pytest.raises(VerdictError, match="is not good enough: shared1 "):
        result.require()
    # one line for each figure, one for each student's verdict
    assert "| 10 nearest shared" in result.table()
    assert result.table().splitlines()[-1].endswith("ndcg10 could not be measured, and 0.1 is asked for")


def test_a_store_stands_for_its_teacher(teacher: ModelRef, corpus: str, tmp_path: Path) -> None:
    student, store = _cut(teacher, 0, 2), _store(teacher, corpus, tmp_path / "store")
    by_model = compare(teacher, [student], [corpus], settings=QUICK)
    by_store = compare(store, [student], settings=QUICK)
    assert by_store.students[0].closeness == by_model.students[0].closeness
    assert by_store.teacher.spread == by_model.teacher.spread
    assert (by_store.teacher.sentences_per_second, by_store.teacher.num_layers) == (None, None)
    assert compare(store, [teacher], settings=QUICK).students[0].same_space
    # sentences of the store, in another order
    some = tmp_path / "some.txt"
    some.write_text("\n".join(reversed(_lines(40))) + "\n", encoding="utf-8")
    on_some = compare(store, [student], [str(some)], settings=QUICK).students[0]
    expected = compare(teacher, [student], [str(some)], settings=QUICK).students[0]
    for name, value in on_some.closeness.as_dict().items():
        assert value == pytest.approx(getattr(expected.closeness, name), abs=1e-5), name
    some.write_text("\n".join([*_lines(5), "no row has this"]) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="has no row for 1 of 6 sentences; the first is 'no row has this'"):
        compare(store, [student], [str(some)], settings=QUICK)
    with pytest.raises(UsageError, match="holds rows"):
        compare(ModelRef(ref=store.ref, pooler="avg"), [student], settings=QUICK)


def test_an_interrupted_comparison_goes_on_with_the_rows_it_has(
    teacher: ModelRef, corpus: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr(comparing, "_measure", stop)
        with pytest.raises(KeyboardInterrupt):
            compare(teacher, [_cut(teacher, 0)], [corpus], settings=QUICK)
    (folder,) = (home / "compare").iterdir()
    capsys.readouterr()
    compare(teacher, [_cut(teacher, 0)], [corpus], settings=QUICK)
    assert f"{folder} is complete already (120 rows)" in capsys.readouterr().err


def test_what_cannot_be_compared_is_said(teacher: ModelRef, tmp_path: Path, home: Path) -> None:  # noqa: ARG001
    with pytest.raises(UsageError, match="no student"):
        compare(teacher, [], ["x.txt"], settings=QUICK)
    with pytest.raises(UsageError, match="no sentences to compare on"):
        compare(teacher, [teacher], settings=QUICK)
    (tmp_path / "two.txt").write_text("a cat\na dog\n", encoding="utf-8")
    with pytest.raises(DataError, match="2 sentences are too few"):
        compare(teacher, [teacher], [str(tmp_path / "two.txt")], settings=QUICK)


def test_own_labels_are_scored(teacher: ModelRef, corpus: str) -> None:
    words = list(WORDS[:6])
    pairs = ScoredPairs(first=words[:3], second=[words[0], *words[4:6]], scores=np.array([5.0, 1.0, 0.0]))
    # each query is one of the documents, whose cosine with itself is 1
    retrieval = RetrievalData(queries=words[2:4], documents=words, relevant=[{2: 1.0}, {3: 1.0, 5: 1.0}], num_without=0)
    result = compare(teacher, [_cut(teacher, 0, 2)], [corpus], settings=QUICK, pairs=pairs, retrieval=retrieval)
    for labels in (result.teacher.labels, result.students[0].labels):
        assert labels.labels_spearman in (pytest.approx(1.0), pytest.approx(0.5))  # the equal pair comes first
        assert labels.recall1 == pytest.approx((1 + 1 / 2) / 2)
        assert labels.recall10 == labels.recall100 == 1.0
        assert labels.ndcg10 is not None
        assert 0.9 < labels.ndcg10 <= 1


class _Page(HTMLParser):
    """Tags that are open, all tags, and attributes that could load something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [name for name, _ in attrs if name in ("src", "href", "xlink:href", "srcset") or name[:2] == "on"]
        if tag not in ("meta", "path", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_loads_nothing_and_escapes_every_text(teacher: ModelRef, corpus: str, tmp_path: Path) -> None:
    folder = tmp_path / "<b>student & co"
    shutil.copytree(teacher.ref, folder)
    result = compare(teacher, [ModelRef(ref=str(folder), pooler="cls"), _cut(teacher, 0)], [corpus], settings=QUICK)
    text = page(result)
    parser = _Page()
    parser.feed(text)
    assert parser.open == []
    assert parser.loads == []
    assert not parser.tags & {"script", "b", "link", "img", "iframe"}
    assert "url(" not in text
    assert "@import" not in text
    assert "&lt;b&gt;student &amp; co, cls" in text
    assert text.count("<svg ") == 4  # quality against speed, a scatter for each student, the histogram
    assert text.count("<circle ") == 3
    assert "prefers-color-scheme: dark" in text
    assert text.count("<dt>shared</dt>") == 100
    assert set(MEANINGS) == set(LABELS)
    assert "<code>spearman_near</code>" in text
    assert "<code>ndcg10</code>" not in text  # was not measured
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in page(_with_hostile_sentence(result))


def _with_hostile_sentence(result: CompareResult) -> CompareResult:
    from dataclasses import replace

    student = result.students[0]
    return replace(result, students=(replace(student, worst=(replace(student.worst[0], sentence=HOSTILE),)),))


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.e2e
def test_the_command_prints_a_table_writes_a_page_and_ends_with_its_own_code(
    distilcse: Command, tiny: Tiny, corpus: str, tmp_path: Path
) -> None:
    base = ("compare", "--teacher", tiny(), "--student", tiny(), "--corpus", corpus, "--device", "cpu")
    words = (*base, "--teacher-pooler", "avg", "--pooler", "avg", "--keep-layers", "0")
    done = distilcse(*words, "--report", "report.html", "--no-memory", "--fail-under", "shared10=0.999", code=7)
    assert re.search(r"\| 10 nearest shared +\| +- \| +0\.\d{3} \|", done.stdout)
    error = done.stderr.splitlines()[-1]
    assert re.match(r"error: .*, layers 0, avg is not good enough: shared10 0\.\d+ < 0\.999 \(", error)
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    # without a limit it is a verdict, not a failure
    found = json.loads(distilcse(*words, "--no-memory", "--json").stdout)
    assert set(found["least"]) == {"spearman_random", "spearman_near", "rank_ratio"}
    same = json.loads(distilcse(*base, "--teacher-pooler", "avg", "--pooler", "avg", "--gate", "--json").stdout)
    assert same["students"][0]["good_enough"] is True
    # a process with torch takes more than that, and less than this
    assert 1e8 < same["students"][0]["peak_memory_bytes"] < 4e9


@pytest.mark.e2e
def test_usage_errors_come_before_any_work(distilcse: Command, tmp_path: Path) -> None:
    base = ("compare", "--teacher", "nowhere", "--student", "nowhere")
    said = distilcse(*base, "--fail-under", "quality=1", code=2).stderr
    assert said == f"error: --fail-under quality=1: there is no metric 'quality' (one of {', '.join(METRICS)})\n"
    said = distilcse(*base, "--queries", "q.jsonl", code=2).stderr
    assert said == "error: --queries, --documents and --qrels go together (name all three)\n"
    (tmp_path / "pairs.csv").write_text("sentence1,sentence2,score\na,b,x\n", encoding="utf-8")
    said = distilcse(*base, "--labels", "pairs.csv", code=3).stderr
    assert said.startswith("error: pairs.csv, line 2: the score is 'x', which is no number")


@pytest.fixture(scope="module")
def captions(data_dir: Path) -> list[str]:
    with gzip.open(data_dir / "news" / "captions.en.txt.gz", "rt", encoding="utf-8") as file:
        return [line.strip() for line in islice(file, 900)]


@pytest.mark.real_model
def test_the_gate_tells_sabotaged_students_of_a_real_teacher_from_honest_ones(
    captions: list[str], minilm: Path
) -> None:
    def rows(**how: Any) -> np.ndarray:
        return Embedder(ModelRef(ref=str(minilm), **how).load(), FP32).sentences(captions)

    teacher, cut = rows(), rows(keep_layers=(0, 3, 5))
    # an honest student: the cut, fitted to the teacher's rows of 600 sentences, judged on the other 300
    weight, bias = ridge_map(cut[:600], teacher[:600])
    judged = teacher[600:]
    draw = np.random.default_rng(0)
    middle = judged.mean(axis=0)
    directions = np.linalg.svd(judged, full_matrices=False)
    few = (directions.U[:, :8] * directions.S[:8]) @ directions.Vh[:8]
    sample = draw_sample(judged, num_queries=300, num_pairs=20_000, seed=0)
    theirs = look(judged, sample, is_teacher=True)

    def lacks(student: np.ndarray) -> set[str]:
        own = look(student, sample)
        metrics = closeness(student, judged, own, theirs, sample).as_dict() | {
            "rank_ratio": own.spread.effective_rank / min(theirs.spread.effective_rank, student.shape[1])
        }
        return {fault.metric for fault in faults(metrics, GATE)}

    assert lacks(judged) == set()
    assert lacks(cut[600:] @ weight.T + bias) == set()
    # other numbers for the same cosines are as good
    assert lacks(-3 * judged) == set()
    assert "spearman_random" in lacks(cut[600:])
    assert "spearman_random" in lacks(rows(keep_layers=(0, 2, 4))[600:])
    assert "spearman_random" in lacks(rows(pooler="cls")[600:])
    assert lacks(judged[draw.permutation(300)]) == {"spearman_random", "spearman_near"}
    assert lacks(judged / 10 + middle / np.linalg.norm(middle)) == {"rank_ratio"}
    assert "rank_ratio" in lacks(few)
