"""The Python functions do what the commands do, and behave as a library: quiet, typed, without side effects."""

import ast
import asyncio
import inspect
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import distilcse_cli as library
from distilcse_cli import api
from distilcse_cli.training.distillation import Distillation
from distilcse_cli.training.settings import DistillSettings
from tests import stub
from tests.conftest import ROOT
from tests.evaluation.small import write_sts16
from tests.tiny import WORDS

Command = Callable[..., subprocess.CompletedProcess[str]]
Tiny = Callable[..., Path]
EXACT: Any = {"device": "cpu", "compute_dtype": "float32"}
SENTENCES = [f"the {WORDS[number % len(WORDS)]} {number} sleeps in a house" for number in range(60)]
QUICK: Any = {"batch_size": 16, "num_held_out": 3, "save_every": 2, **EXACT}


@pytest.fixture
def model(tiny: Tiny, home: Path) -> Path:  # noqa: ARG001
    return tiny("bert")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "sentences.txt"
    path.write_text("\n".join(SENTENCES) + "\n", encoding="utf-8")
    return path


def test_importing_it_loads_nothing_heavy_and_neither_does_looking_at_it() -> None:
    code = (
        "import sys, distilcse_cli as distilcse\n"
        "heavy = lambda: [one for one in ('torch', 'numpy', 'transformers', 'typer') if one in sys.modules]\n"
        "names = set(distilcse.__all__) <= set(dir(distilcse))\n"
        "print(heavy(), 'distilcse_cli.config' in sys.modules, distilcse.__version__, names)\n"
        "distilcse.distill.__doc__\n"
        "print(heavy())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"[] False {library.__version__} True\n[]\n"


def test_what_editors_see_is_what_there_is() -> None:
    """If this fails, run `python -m tests.stub`."""
    written, now = (_functions(text) for text in (stub.STUB.read_text(encoding="utf-8"), stub.stub()))
    assert written == now
    assert written.keys() | {"__version__", "Model"} | {name for name in library.__all__ if "Error" in name} == set(
        library.__all__
    )


def _functions(text: str) -> dict[str, tuple[str, str, str | None]]:
    return {
        node.name: (ast.unparse(node.args), ast.unparse(node.returns or ast.Constant(None)), ast.get_docstring(node))
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize("name", [name for name, module in library._MODULE_OF.items() if module == api.__name__])
def test_every_keyword_is_explained(name: str) -> None:
    function = getattr(library, name)
    explained = re.findall(r"^    (\w+): \S", inspect.getdoc(function) or "", re.MULTILINE)
    assert set(inspect.signature(function).parameters) <= set(explained)


def test_distill_with_sentences_in_memory_trains_what_the_command_trains(
    distilcse: Command, model: Path, corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ("--batch-size", 16, "--held-out", 3, "--device", "cpu", "--compute-dtype", "float32", "--layers", 2)
    typed = ("--teacher", model, "--student", model, "--corpus", corpus, "--out", "typed", "--json", *options)
    said = json.loads(distilcse("distill", *typed).stdout)
    state, threads = _generators(), torch.get_num_threads()
    called = library.distill(
        teacher=model, student=model, layers=2, corpus=iter(SENTENCES), out=tmp_path / "called", **QUICK
    )
    assert capfd.readouterr() == ("", "")
    assert (_generators(), torch.get_num_threads()) == (state, threads)
    assert _weights(tmp_path / "called") == _weights(tmp_path / "typed")
    for name, value in called.as_dict().items():
        assert name in ("folder", "seconds") or value == said[name], name


def _generators() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return random.getstate(), name, keys.tolist(), rest, torch.get_rng_state().tolist()


def _weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_ctrl_c_leaves_a_run_that_resume_continues(
    model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job: Any = {"teacher": str(model), "student": str(model), "corpus": corpus, "keep_layers": [0, 2], **QUICK}
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        _kill_in_first_step(patch, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt, match=r"student\.run") as stopped:
            library.distill(**job, out=tmp_path / "student")
    assert str(stopped.value).endswith("(the same call with resume=True continues from there)")
    assert signal.getsignal(signal.SIGINT) == handler
    resumed = library.distill(**job, out=tmp_path / "student", resume=True)
    library.distill(**job, out=tmp_path / "whole")
    assert _weights(resumed.folder) == _weights(tmp_path / "whole")
    assert library.distill(**job, out=tmp_path / "student", resume=True) == resumed


def test_sigterm_acts_as_in_the_program_once_progress_is_saved(
    model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        _kill_in_first_step(monkeypatch, signal.SIGTERM)
        with pytest.raises(library.DistilCSEError, match="stopped after step 1"):
            library.distill(teacher=model, student=model, corpus=corpus, out=tmp_path / "student", **QUICK)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
    assert any((tmp_path / "student.run").glob("checkpoint*"))


def _kill_in_first_step(patch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    backward = Distillation.backward

    def stop(*arguments: Any) -> torch.Tensor:
        os.kill(os.getpid(), number)
        return backward(*arguments)

    patch.setattr(Distillation, "backward", stop)


def test_a_run_in_a_thread_fine_tunes_on_triples_in_memory(model: Path, tmp_path: Path) -> None:
    triples = [(f"cat {number}", f"a cat {number}", f"dog {number}") for number in range(40)]
    table = tmp_path / "triples.csv"
    table.write_text("anchor,positive,negative\n" + "".join(",".join(one) + "\n" for one in triples), encoding="utf-8")
    reports: list[Any] = []

    def tune(given: Any, name: str) -> None:
        settings = QUICK | {"num_held_out": 0}
        reports.append(library.finetune(student=model, triplets=given, out=tmp_path / name, **settings))

    thread = threading.Thread(target=tune, args=(iter(triples), "of memory"))
    thread.start()
    thread.join()
    tune([table], "of a table")
    rows = [dict(zip(("anchor", "positive", "negative"), one, strict=True)) for one in triples]
    tune(rows, "of rows")
    assert [report.num_triples for report in reports] == [40, 40, 40]
    assert len({_weights(report.folder) for report in reports}) == 1


def test_a_loaded_model_gives_the_rows_of_the_command(
    distilcse: Command, model: Path, corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    distilcse("encode", corpus, "--model", model, "--out", "rows.npy", "--device", "cpu")
    loaded = library.load(model, device="cpu")
    rows = loaded.encode(line for line in SENTENCES)
    assert rows.dtype == np.float32
    assert rows.tobytes() == np.load(tmp_path / "rows.npy").tobytes()
    assert (loaded.dimension, loaded.max_length, loaded.encode([]).shape) == (16, 64, (0, 16))
    assert (loaded.encode(SENTENCES[0]) == loaded.encode(SENTENCES[:1])[0]).all()
    prompted = loaded.encode(["dog"], prompt="the cat ")
    assert (prompted == loaded.encode(["the cat dog"])).all()
    assert (loaded.encode(["dog"]) != prompted).any()
    assert loaded.similarity(rows[:2], rows[:3]).diagonal() == pytest.approx(1)
    # [CLS], the words, [SEP]
    assert loaded.num_tokens(["the cat", "cat " * 100]).tolist() == [4, 102]
    assert not caplog.records
    loaded.encode(["the cat", "cat " * 100])
    assert [(one.name, one.levelno, one.getMessage()) for one in caplog.records] == [
        ("distilcse_cli", logging.WARNING, "1 of 2 sentences were cut to 64 tokens")
    ]
    with pytest.raises(TypeError, match="sentence 1 is int"):
        loaded.encode(["a", 1])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"a table \(dict\)"):
        loaded.encode({"text": ["a"]})
    with pytest.raises(library.DataError, match="sentence 1 is not UTF-8"):
        loaded.encode(["a", "a\ud800"])


def test_progress_is_drawn_where_it_is_wanted_also_in_a_running_event_loop(
    model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def cell() -> np.ndarray:
        return library.load(model, device="cpu").encode(SENTENCES, progress=True)

    assert asyncio.run(cell()).shape == (60, 16)
    out, err = capfd.readouterr()
    assert out == ""
    assert "encode: 100%" in err


def test_scores_are_those_of_json_and_are_shown_as_tables(model: Path, tmp_path: Path) -> None:
    write_sts16(tmp_path)
    report = library.evaluate([model], teacher=model, tasks=["STS16"], data=tmp_path, **EXACT)
    said = report.as_dict()
    assert report.scores["teacher"]["STS16"] == said["teacher"]["tasks"]["STS16"]["spearman"]
    assert report.scores["teacher"]["avg_sts"] == said["teacher"]["avg_sts"]
    assert repr(report) == report.text()
    html = report._repr_html_()
    assert html.count("<table") == 1
    assert f"{said['teacher']['tasks']['STS16']['spearman']:.2f}" in html


def test_a_comparison_judges_without_raising_and_is_shown_as_a_table(model: Path) -> None:
    quick: Any = {"memory": False, "num_pairs": 50, "num_queries": 20, **EXACT}
    result = library.compare(
        teacher=model, student=model, corpus=SENTENCES, keep_layers=[0], least={"shared10": 0.999}, **quick
    )
    assert list(result.faults().values()) != [()]
    with pytest.raises(library.VerdictError, match=r"shared10 .* < 0\.999"):
        result.require()
    assert "<table" in result._repr_html_()
    assert "not good enough" in repr(result)
    with pytest.raises(library.UsageError, match="there is no metric 'shared11'"):
        library.compare(teacher=model, student=model, corpus=SENTENCES, least={"shared11": 1})


def test_an_error_speaks_of_keywords_and_shows_its_hint() -> None:
    with pytest.raises(library.UsageError) as error:
        library.distill(student="a", teacher="b", lr=0)
    assert error.value.message == "lr is 0, but must be a positive number"
    with pytest.raises(library.UsageError) as error:
        library.distill(student="a")
    assert error.value.message == "no teacher is given"
    assert error.value.hint == "name a model, or a store of its rows with embeddings"
    assert error.value.__notes__ == [f"hint: {error.value.hint}"]
    with pytest.raises(TypeError, match=r"distill\(\) got an unexpected keyword argument 'epcohs'"):
        library.distill(student="a", teacher="b", epcohs=1)  # type: ignore[call-arg]
    settings = api._made(DistillSettings, {"lr": np.float32(0.5), "max_steps": np.int64(3)})
    assert json.loads(json.dumps([settings.lr, settings.max_steps])) == [0.5, 3]
    for values, says in (
        ({"max_steps": "3"}, "max_steps is '3', but must be a whole number"),
        ({"max_steps": 3.0}, "max_steps is 3.0, but must be a whole number"),
        ({"lr": "1e-4"}, "lr is '1e-4', but must be a number"),
        ({"loss": ["mse"]}, "loss is ['mse'], but must be one of "),
    ):
        with pytest.raises(library.UsageError, match=re.escape(says)):
            library.distill(student="a", teacher="b", **values)  # type: ignore[arg-type]
    with pytest.raises(library.UsageError, match="int8 is 'no', but must be True or False"):
        library.export_onnx("a", int8="no")  # type: ignore[arg-type]


def test_the_page_runs(model: Path, tmp_path: Path) -> None:
    """Its models stand under the names that it uses; each block builds on those before it."""
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    (tmp_path / "all-minilm-l6").symlink_to(model)
    (tmp_path / "sentences.txt").write_text("\n".join(SENTENCES) + "\n", encoding="utf-8")
    write_sts16(tmp_path / "data" / "senteval")
    environment = os.environ | {"DISTILCSE_DATA": str(tmp_path / "data"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
