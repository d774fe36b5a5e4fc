"""`distilcse plan`: its formulas against what is written and what was measured, its arithmetic, and odd input."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest

from distilcse_cli.commands.plan import _whole
from distilcse_cli.config import CorpusSettings, EncodeSettings
from distilcse_cli.data.corpus import prepare_corpus, sample_corpus
from distilcse_cli.data.tokens import tokenize_corpus
from distilcse_cli.errors import UsageError
from distilcse_cli.evaluation import costs
from distilcse_cli.evaluation import plan as plan_module
from distilcse_cli.evaluation.pace import Pace
from distilcse_cli.evaluation.plan import PlanReport, amount, plan
from distilcse_cli.evaluation.stages import Basis, Download, Text, stages_of
from distilcse_cli.evaluation.stated import stated_pace
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.runtime import Runtime, choose_runtime
from distilcse_cli.serving.encode import encode_file
from distilcse_cli.teacher.extract import extract
from distilcse_cli.training.distill import DistillSources, run
from distilcse_cli.training.run_folder import RunFolder
from distilcse_cli.training.settings import DistillSettings
from tests.training.conftest import write_corpus

CPU = Runtime(device="cpu", dtype="bfloat16", reason="of the test")
SIZE = costs.ModelSize(
    num_parameters=22_713_216, num_layers=6, hidden=384, width=384, linear=6 * 1_769_472, num_bytes=0, mean_tokens=23.4
)
"""all-MiniLM-L6."""


def cut(num_layers: int) -> costs.ModelSize:
    rest = 22_713_216 - 6 * 1_774_464
    return costs.ModelSize(
        **vars(SIZE)
        | {
            "num_layers": num_layers,
            "linear": num_layers * 1_769_472,
            "num_parameters": rest + num_layers * 1_774_464,
        }
    )


@pytest.fixture
def sources(tiny: Callable[..., Path], tmp_path: Path, home: Path) -> DistillSources:  # noqa: ARG001
    write_corpus(tmp_path / "lines.txt", 300)
    model = ModelRef(ref=str(tiny("bert", num_layers=6)))
    return DistillSources(teacher=model, student=model, corpus=(str(tmp_path / "lines.txt"),))


def num_bytes(*paths: Path) -> int:
    return sum(path.stat().st_size for path in paths)


def test_the_formulas_of_the_disk_give_the_bytes_that_are_written(sources: DistillSources, tmp_path: Path) -> None:
    corpus, model, runtime = prepare_corpus(sources.corpus, CorpusSettings()), sources.student.load(), CPU
    num, mean_bytes = len(corpus), float(np.mean([len(line) for line in corpus]))
    header = 200  # of a .npy file, with the end of its offsets
    text = num_bytes(corpus.folder / "sentences.txt", corpus.folder / "offsets.npy")
    assert 0 <= text - costs.text_bytes(num, mean_bytes) <= header

    tokens = tokenize_corpus(corpus, model.tokenizer, 64)
    found = num_bytes(tokens.folder / "ids.npy", tokens.folder / "offsets.npy")
    assert 0 <= found - costs.token_bytes(num, tokens.lengths.mean(), tokens.ids.dtype) <= 2 * header

    runtime = choose_runtime("cpu", "float32")
    extract(model, corpus, tmp_path / "store", EncodeSettings(), runtime)
    store = num_bytes(tmp_path / "store" / "embeddings.npy", tmp_path / "store" / "sentences.txt")
    assert 0 <= store - costs.store_bytes(num, model.embedding_dim, mean_bytes) <= header
    encode_file(Path(sources.corpus[0]), model, tmp_path / "rows.npy", EncodeSettings(), runtime)
    assert 0 <= num_bytes(tmp_path / "rows.npy") - costs.row_bytes(num, model.embedding_dim) <= header


def test_a_run_takes_the_disk_that_its_formula_says(
    sources: DistillSources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunFolder, "remove_work", lambda _: None)
    settings = DistillSettings(loss="ckd", batch_size=32, bank_size=100, max_steps=4, save_every=1)
    run(sources, tmp_path / "out", settings, corpus_settings=CorpusSettings(), device="cpu", compute_dtype="float32")
    student = sources.student.load()
    size = costs.size_of(student, sources.student.locate(), 5.0)
    bank = costs.bank_bytes(128, student.embedding_dim, settings, choose_runtime("cpu", "float32"))
    assert bank == 100 * (16 * 4 + 8)
    (newest, *others) = sorted((tmp_path / "out.run" / "checkpoints").iterdir(), reverse=True)
    assert len(others) == 1, "two are kept"
    checkpoint = 12 * student.num_parameters + bank
    written = num_bytes(*newest.glob("*.safetensors"))
    assert checkpoint <= written <= checkpoint + 60_000, "with random generators, and the names of the tensors"
    peak, kept = costs.run_bytes(size, 4, bank)
    assert peak == 3 * checkpoint + kept, "a third one, while it is written"
    assert kept - 8 * student.num_parameters == pytest.approx(num_bytes(tmp_path / "out" / "metrics.jsonl"), rel=0.25)


@pytest.mark.parametrize(
    ("formula", "gigabytes"),
    [
        (costs.encoding_memory(SIZE, CPU), 0.722),
        *((costs.training_memory(cut(layers), 64 * 64, CPU, 4 * 22_713_216), peak)
          for layers, peak in ((1, 1.87), (2, 2.14), (3, 2.33))),
    ],
)  # fmt: skip
def test_the_formulas_of_memory_are_near_the_peaks_of_real_runs(formula: float, gigabytes: float) -> None:
    # `/usr/bin/time` of extract and of distill over 60,000 sentences on one thread of an Intel Xeon with AMX
    assert formula == pytest.approx(1e9 * gigabytes, rel=0.1)


def basis(**changed: Any) -> Basis:
    pace = Pace(
        teacher=0.002, student=0.001, training=0.008, bank=0.0, bank_size=1, loading=3.0, length=58.0,
        settings=DistillSettings(num_held_out=0, batch_size=100, eval_every=0), triple=0.05,
    )  # fmt: skip
    text = Text(
        preparing=np.array([1e-5, 2e-5]),
        tokenizing=np.array([1e-4, 2e-4]),
        mean_bytes=99.0,
        lengths=np.full(64, 10),
        dtype=np.dtype(np.uint16),
    )
    known = {"num_sentences": 1_000_000, "num_triples": 0, "devices": 1, "kind": None, "settings": pace.settings}
    known |= {"runtime": CPU, "start": 2.0, "clock": pace, "cpu": pace, "teacher": SIZE, "student": cut(3)}
    return Basis(**known | {"download": Download(names="m", num_bytes=7, seconds=0.0), "text": text} | changed)


def test_the_stages_by_hand() -> None:
    stages = {stage.name: stage for stage in stages_of(basis(devices=4, num_triples=1280))}
    assert list(stages) == ["download", "text", "tokens", "extract", "distill", "finetune", "eval", "encode"]
    seconds = {name: (stage.seconds, stage.cpu_seconds) for name, stage in stages.items()}
    assert seconds["text"] == (10, 20)
    assert seconds["tokens"] == (100, 200), "one process tokenizes, whatever the devices"
    assert seconds["extract"] == (2 + 3 + 2000 / 4, 2 + 3 + 2000)
    # two development scores on 1,500 sentences
    assert seconds["distill"] == (2 + 3 + (8000 + 3) / 4, 2 + 3 + 8000 + 3)
    assert seconds["eval"][1] == 2 + 3 + 1_508_032 / 58 * 0.001
    assert seconds["encode"] == (2 + 3 + 1000 / 4, 2 + 3 + 1000)
    assert stages["distill"].what == "2,500 steps of 400, mse, 3 layers"
    assert stages["finetune"].what == "3 steps of 512 triples"
    assert stages["tokens"].disk_bytes == 1_000_000 * (10 * 2 + 8)
    assert stages["extract"].disk_bytes == 1_000_000 * (384 * 4 + 100)


@pytest.mark.parametrize(
    ("settings", "speed"),
    [
        (DistillSettings(batch_size=128), 8_722),
        (DistillSettings(batch_size=2048), 75_048),
        (DistillSettings(batch_size=1024, loss="ckd"), 15_690),
    ],
)
def test_stated_speeds_come_out_for_the_model_that_they_were_measured_with(
    settings: DistillSettings, speed: float
) -> None:
    pace = stated_pace("h200", SIZE, cut(3), settings, 100.0)
    assert 1 / (pace.training + pace.bank) == pytest.approx(speed, rel=0.02)
    assert 1 / pace.teacher == pytest.approx(27_294, rel=0.01)
    # three layers: half the arithmetic of 1 / 34,415 s, an eighth of it all
    assert 34_415 < 1 / pace.student < 34_415 * 1.1


def test_a_sample_is_spread_over_the_whole_corpus(tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"line {number}\n" for number in range(10_000)), encoding="utf-8")
    sample = sample_corpus([str(lines)], CorpusSettings(), 100, lambda: False)
    assert sample.sentences == [f"line {number}" for number in range(0, 10_000, 64)]
    assert (sample.num_kept, sample.is_whole) == (10_000, True)
    (tmp_path / "more.txt").write_text("one more\n", encoding="utf-8")
    sample = sample_corpus([str(lines), str(tmp_path / "more.txt")], CorpusSettings(), 10_000, lambda: True)
    assert (len(sample.sentences), sample.is_whole) == (10_000, False), "enough after the first file"


@pytest.mark.parametrize(("text", "number"), [("5e6", 5_000_000), ("5_000_000", 5_000_000), ("1e12", 10**12)])
def test_large_numbers_as_people_type_them(text: str, number: int) -> None:
    assert _whole("--sentences", text) == number


@pytest.mark.parametrize("text", ["0", "1e-3", "-5", "2.5", "nan", "inf", "1e13", "1e999999999", "many", "5,000", ""])
def test_other_numbers_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"must be a whole number from 1 to 1e12"):
        _whole("--sentences", text)


def test_amounts_of_bytes() -> None:
    shown = [amount(one) for one in (0, 92_000_000, 1_234_567_890, 9.99e12, 3.1e20)]
    assert shown == ["0.0 kB", "92 MB", "1.2 GB", "10.0 TB", "310,000 PB"]


def test_a_plan_measures_and_writes_nothing(
    sources: DistillSources, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "_MEASURING_SECONDS", 0.02)
    report = plan(sources, DistillSettings(layers=3, loss="ckd"), CorpusSettings(), num_triples=100, kind="cpu")
    assert report.num_sentences == 300, "those of the corpus"
    assert all(one.seconds is not None and one.seconds >= 0 for one in report.stages)
    assert not home.exists()
    assert report.as_dict()["fits"]
    assert "as 300 evenly spread over all 300 sentences of the corpus" in str(report)


def test_one_sentence_and_a_large_batch_are_measured_all_the_same(
    sources: DistillSources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "_MEASURING_SECONDS", 0.02)
    Path(sources.corpus[0]).write_text("the cat sleeps\n", encoding="utf-8")
    report = plan(sources, DistillSettings(batch_size=600), CorpusSettings(), num_sentences=10**12, kind="cpu")
    assert report.stages[4].what == "1,666,666,665 steps of 600, mse, 6 layers"
    assert not report.as_dict()["fits"]
    assert "TOO LITTLE" in str(report)
    assert f"{tmp_path}" in str(report)


def test_a_corpus_that_goes_on_needs_a_number(sources: DistillSources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "_READING_SECONDS", -1.0)
    with pytest.raises(UsageError, match="300 sentences were read, and there are more"):
        plan(sources, DistillSettings(), CorpusSettings(), kind="h200")


def test_the_command_says_what_is_stated(
    distilcse: Callable[..., CompletedProcess[str]], sources: DistillSources
) -> None:
    options = ["plan", "--teacher", sources.student.ref, "--student", sources.student.ref, "--keep-layers", "0,5"]
    options += ["--corpus", sources.corpus[0], "--device-kind", "h200", "--devices", 8, "--sentences", "5e6"]
    report = json.loads(distilcse(*options, "--json").stdout)
    assert (report["num_sentences"], report["devices"], report["device"]) == (
        5_000_000, 8, "one NVIDIA H200 with 16 cores",
    )  # fmt: skip
    assert {stage["name"]: stage["cpu_seconds"] for stage in report["stages"]}["extract"] is None
    assert any("stated, not measured here" in note for note in report["notes"])
    assert any("8 devices" in note for note in report["notes"])
    for wrong, code, said in (
        (["--sentences", "1e-3"], 2, "--sentences is '1e-3', but must be a whole number"),
        (["--teacher", "no-such-model"], 4, "no model no-such-model"),
        (["--corpus", "missing.txt"], 3, "missing.txt"),
        (["--layers", 2], 2, "--layers chooses the layers that --keep-layers names"),
        (["--device-kind", "abacus"], 2, "must be one of cpu, cuda, h200"),
    ):
        assert said in distilcse(*options, *wrong, code=code).stderr


def test_a_plan_is_a_table() -> None:
    report = PlanReport(
        num_sentences=1, devices=1, device="cpu", stages=stages_of(basis(cpu=None)), disks=[], notes=["note"]
    )
    lines = str(report).splitlines()
    assert lines[-1] == "note"
    (row,) = [line for line in lines if line.startswith("| extract")]
    assert [cell.strip() for cell in row.split("|")][1:-1] == [
        "extract", "1,000,000 rows of 384", "1.6 GB", "1.6 GB", "762 MB", "33m25s", "-",
    ]  # fmt: skip
