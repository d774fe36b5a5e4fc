"""The command lines that people type first, as they are typed, in an empty folder."""

import csv
import gzip
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distilcse_cli import catalogue
from distilcse_cli.jobs.defaults import short_name
from distilcse_cli.models.reference import ModelRef
from tests.download.conftest import hub_environment
from tests.download.fake_hub import FakeHub, Repo
from tests.e2e.conftest import Typed
from tests.hostile.conftest import TRIPLES
from tests.training.conftest import write_corpus

pytestmark = pytest.mark.e2e
Command = Callable[..., subprocess.CompletedProcess[str]]
Download = Callable[[str, Path], Path]

MODEL = "all-minilm-l6"
TEXT = "the cat sleeps\na dog runs to the river\n"
ARTICLE = "The cat sleeps in the house. A dog runs to the big red river! Too short. The man eats in the market, {}."


@pytest.fixture(autouse=True)
def _no_model_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISTILCSE_MODEL", raising=False)
    monkeypatch.delenv("DISTILCSE_DATA", raising=False)


@pytest.fixture
def small(tmp_path: Path, download: Download, tiny: Callable[..., Path]) -> Path:
    """A folder to work in, and a data home with a tiny model and a few articles under the catalogue's names."""
    download(MODEL, tiny("bert"))
    articles = tmp_path / "articles.csv"
    with articles.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        writer.writerows([number, ARTICLE.format(number)] for number in range(30))
    download("news-articles", articles)
    articles.unlink()
    return tmp_path


def test_encode_writes_a_file_named_after_the_text_and_never_over_one(distilcse: Command, small: Path) -> None:
    (small / "file.txt").write_text(TEXT, encoding="utf-8")
    done = distilcse("encode", "file.txt")
    assert done.stdout.startswith("file.npy: 2 rows of 16 float32 in ")
    rows = np.load(small / "file.npy")
    assert rows.shape == (2, 16)

    (small / "file.txt").write_text("other\n", encoding="utf-8")
    refused = distilcse("encode", "file.txt", code=3)
    assert refused.stderr == (
        "error: file.npy exists already (--overwrite replaces it, --out FILE writes another one)\n"
    )
    np.testing.assert_array_equal(np.load(small / "file.npy"), rows)
    distilcse("encode", "file.txt", "--overwrite")
    assert np.load(small / "file.npy").shape == (1, 16)


def test_distill_takes_the_articles_and_names_the_student_after_the_models(distilcse: Command, small: Path) -> None:
    done = distilcse("distill", "--teacher", MODEL, "--student", MODEL)
    name = f"{MODEL}-from-{MODEL}"
    path = catalogue.present("news-articles")
    assert f"no --corpus is given: using news-articles [{path}]\n" in done.stderr
    assert f"no --out is given: writing to {name}\n" in done.stderr
    # two of the sentences are the same in all articles, one has fewer than five words
    assert "corpus: 30 articles split: 120 read, 32 kept" in done.stderr
    assert done.stdout.startswith(f"{name}: 1 steps over 31 sentences")
    asked = json.loads((small / name / "distilcse.json").read_text(encoding="utf-8"))
    assert asked["corpus"]["settings"] == {
        "text_column": "text",
        "split_sentences": True,
        "encoding": None,
        "min_words": 5,
        "max_words": 60,
        "on_bad_line": "stop",
    }
    again = distilcse("distill", "--teacher", MODEL, "--student", MODEL, code=3)
    assert "--overwrite" in again.stderr.splitlines()[-1]
    cut = distilcse("distill", "--teacher", MODEL, "--student", MODEL, "--keep-layers", "0,2", "--min-words", "1")
    # --min-words is typed, so it counts, though 1 is the default elsewhere
    assert cut.stdout.startswith(f"{MODEL}-layers-0-2-from-{MODEL}: 1 steps over 32 sentences")


def test_news5m_comes_before_the_articles_and_is_read_line_by_line(
    distilcse: Command, small: Path, download: Download
) -> None:
    write_corpus(small / "news.txt", 40)
    path = download("news5m", small / "news.txt")
    done = distilcse("extract", "--teacher", MODEL)
    assert f"no --corpus is given: using news5m [{path}]\n" in done.stderr
    assert done.stdout.startswith(f"{MODEL}-embeddings: 40 rows of 16 float32; 40 of them computed now")
    assert (small / f"{MODEL}-embeddings" / "embeddings.npy").is_file()


def test_finetune_takes_the_nli_triples(distilcse: Command, small: Path, download: Download) -> None:
    (small / "triples.csv").write_text(TRIPLES, encoding="utf-8")
    path = download("nli", small / "triples.csv")
    done = distilcse("finetune", "--student", MODEL)
    assert f"no --triplets are given: using nli [{path}]\n" in done.stderr
    assert done.stdout.startswith(f"{MODEL}-finetuned: 1 steps over 31 triples")
    assert (small / f"{MODEL}-finetuned" / "model.safetensors").is_file()


def test_eval_scores_the_default_model(distilcse: Command, small: Path, data_dir: Path) -> None:
    assert small.is_dir()
    environment = os.environ | {"DISTILCSE_DATA": str(data_dir)}
    done = distilcse("eval", "--pooler", "cls", "--task-set", "sts", env=environment)
    lines = done.stdout.splitlines()
    assert lines[0] == "------ test ------"
    assert f"model {MODEL}, mode test, pooler cls" in lines[1]
    assert "STSBenchmark" in lines[3]


@pytest.mark.real_model
def test_the_lines_with_the_packaged_model_and_the_first_articles(
    distilcse: Command, tmp_path: Path, download: Download, data_dir: Path, minilm: Path
) -> None:
    download(MODEL, minilm)
    (tmp_path / "file.txt").write_text(TEXT, encoding="utf-8")
    assert distilcse("encode", "file.txt").stdout.startswith("file.npy: 2 rows of 384 float32")
    articles = tmp_path / "articles.csv"
    with gzip.open(data_dir / "news" / "news.en.txt.gz", "rt", encoding="utf-8") as lines:
        texts = [[line.strip()] for line in itertools.islice(lines, 400)]
    with articles.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *texts])
    download("news-articles", articles)
    done = distilcse("distill", "--teacher", MODEL, "--student", MODEL)
    assert done.stdout.startswith(f"{MODEL}-from-{MODEL}: ")
    environment = os.environ | {"DISTILCSE_DATA": str(data_dir)}
    scored = distilcse("eval", "--pooler", "cls", "--task-set", "sts", env=environment)
    assert len(re.findall(r"\d\d\.\d\d", scored.stdout)) == 8, "seven tasks and their average"


MISSING = {
    "encode": (["encode", "file.txt"], f"distilcse download {MODEL}"),
    "eval": (["eval"], f"distilcse download {MODEL}"),
    "distill": (["distill", "--teacher", "t", "--student", "s"], "distilcse download news-articles"),
    "extract": (["extract", "--teacher", "t"], "distilcse download news-articles"),
    "finetune": (["finetune", "--student", "s"], "distilcse download nli"),
}


@pytest.mark.parametrize("name", MISSING)
def test_what_is_missing_is_one_line_that_ends_with_the_command_to_fetch_it(
    typed: Typed, tmp_path: Path, home: Path, name: str
) -> None:
    line, remedy = MISSING[name]
    (tmp_path / "file.txt").write_text(TEXT, encoding="utf-8")
    said = typed(*line, code=2)
    assert said.err.count("\n") == 1
    assert said.err.endswith(f", or run: {remedy})\n")
    assert not home.exists()


@pytest.mark.real_model
def test_the_command_named_for_a_missing_model_fetches_it(
    typed: Typed, distilcse: Command, tmp_path: Path, home: Path, minilm: Path
) -> None:
    assert minilm.is_dir()
    (tmp_path / "file.txt").write_text(TEXT, encoding="utf-8")
    remedy = MISSING["encode"][1].split()[1:]
    assert " ".join(remedy) in typed("encode", "file.txt", code=2).err
    assert distilcse(*remedy, cold=True).stdout == f"{home / 'models' / MODEL}\n"
    distilcse("encode", "file.txt")


@pytest.mark.real_model
def test_the_command_named_for_a_missing_corpus_fetches_it(
    typed: Typed, distilcse: Command, home: Path, tiny: Callable[..., Path]
) -> None:
    remedy = MISSING["extract"][1].split()[1:]
    assert " ".join(remedy) in typed("extract", "--teacher", tiny(), code=2).err
    assert distilcse(*remedy, cold=True).stdout.startswith(f"{home / 'datasets' / 'news-articles'}")
    # the corpus is there now, so the next mistake is found
    assert "--nproc is 0" in typed("extract", "--teacher", tiny(), "--nproc", 0, code=2).err


def test_the_command_named_for_missing_triples_fetches_them(
    typed: Typed, distilcse: Command, tmp_path: Path, home: Path, tiny: Callable[..., Path]
) -> None:
    remedy = MISSING["finetune"][1].split()[1:]
    assert " ".join(remedy) in typed("finetune", "--student", tiny(), code=2).err
    with FakeHub().serve() as hub:
        files = {"nli_for_simcse.csv": TRIPLES.encode(), "README.md": b"# NLI\n"}
        hub.repos["datasets/princeton-nlp/datasets-for-simcse"] = Repo(files)
        environment = hub_environment(hub, tmp_path / "hf") | {"DISTILCSE_HOME": str(home)}
        done = distilcse(*remedy, env=environment, cold=True)
    assert done.stdout == f"{catalogue.present('nli')}\n"
    assert "31 triples" in distilcse("finetune", "--student", tiny(), "--out", "better").stdout


@pytest.mark.parametrize(
    ("answer", "fetched"), [("\n", True), ("y\n", True), ("n\n", False), ("what\n", False), ("", False)]
)
def test_on_a_terminal_the_default_model_is_asked_for_and_fetched(
    typed: Typed,
    tmp_path: Path,
    home: Path,
    download: Download,
    tiny: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    fetched: bool,
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return answer

    assert not home.exists()
    (tmp_path / "file.txt").write_text(TEXT, encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(catalogue, "fetch", lambda name: catalogue.present(name) or download(name, tiny("bert")))
    said = typed("encode", "file.txt", "--compute-dtype", "float32", code=0 if fetched else 2)
    assert said.err.startswith(f"Download {MODEL} (83.5 MB)? [Y/n] ")
    assert (tmp_path / "file.npy").exists() == fetched


@pytest.mark.parametrize(
    ("ref", "name"),
    [
        ("all-minilm-l6", "all-minilm-l6"),
        ("owner/a model", "a-model"),
        ("models/large/", "large"),
        ("weights/CKD-Tiny.pth", "CKD-Tiny"),
        ("modèle*", "mod-le"),
        ("/", "model"),
    ],
)
def test_a_model_gives_its_name_to_a_folder(ref: str, name: str) -> None:
    assert short_name(ModelRef(ref=ref)) == name
    assert short_name(ModelRef(ref=ref, keep_layers=(0, 3, 5))) == f"{name}-layers-0-3-5"


def test_stdin_needs_a_name_for_the_output(typed: Typed) -> None:
    for line in (["encode"], ["encode", "-"]):
        said = typed(*line, code=2)
        assert said.err == "error: text from stdin has no name to call the output by (name it: --out FILE.npy)\n"
