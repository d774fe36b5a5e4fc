"""The head of a card: what somebody has stated, in the hub's own format, and nothing else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from distilcse_cli import catalogue
from distilcse_cli.config import CorpusSettings
from distilcse_cli.models.card import Card, Origin, hub_data, model_card, origin
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.training.distill import DistillSources, run
from distilcse_cli.training.report import _LEARNED, DistillReport
from distilcse_cli.training.settings import LOSSES, DistillSettings
from tests.training.conftest import write_corpus

HUB = "sentence-transformers/all-MiniLM-L6-v2"
MATTER = "---\nlanguage: en\nlicense: apache-2.0\ndatasets:\n- s2orc\n- a/b\ntags: [sentence-transformers]\n---\n# A\n"
STATEMENTS = [
    {"where": "METADATA, License", "says": "MIT"},
    {"where": "model/README.md, license", "says": "apache-2.0"},
    {"where": "DESCRIPTION", "says": "see [the text](LICENSE)"},
]


@pytest.fixture
def packaged(home: Path, tiny: Callable[..., Path]) -> Path:
    """A data home with a tiny model as the download of that name, whose package and card disagree on the license."""
    entry = catalogue.entry("all-minilm-l6")
    assert entry.folder.is_relative_to(home)
    shutil.copytree(tiny("bert"), entry.folder)
    (entry.folder / "README.md").write_text(MATTER, encoding="utf-8")
    files = [{"path": path.name, "bytes": path.stat().st_size} for path in entry.folder.iterdir()]
    record = {"source": entry.source.label, "files": files, "licenses": STATEMENTS}
    (entry.folder / "source.json").write_text(json.dumps(record), encoding="utf-8")
    return entry.folder


def head(text: str) -> dict[str, object]:
    """Front matter, as the hub's client reads it."""
    return ModelCard(text).data.to_dict()


def test_a_distilled_student_names_what_it_is_from(
    packaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTILCSE_DATA", str(tmp_path))  # no development set, so no scores
    write_corpus(tmp_path / "text.txt", 40)
    model, out = ModelRef(ref="all-minilm-l6", pooler="avg"), tmp_path / "student"
    sources = DistillSources(teacher=model, student=model, corpus=(str(tmp_path / "text.txt"),))
    run(sources, out, DistillSettings(max_steps=1), corpus_settings=CorpusSettings(), device="cpu")
    text = (out / "README.md").read_text(encoding="utf-8")
    facts = json.loads((out / "distilcse.json").read_text(encoding="utf-8"))
    assert head(text) == {
        "base_model": HUB,
        "language": "en",
        "library_name": "sentence-transformers",
        "license": "apache-2.0",
        "pipeline_tag": "sentence-similarity",
        "tags": [
            *("sentence-transformers", "sentence-similarity", "feature-extraction", "distilcse"),
            *("knowledge-distillation", "text-embeddings-inference"),
        ],
    }
    stated = "MIT (METADATA, License); apache-2.0 (model/README.md, license); see the text (DESCRIPTION)"
    assert f"| license of all-minilm-l6 | {stated} |" in text
    assert "mean squared error" in text
    assert "ontrastive" not in text
    assert f"| fingerprint of the data | {facts['corpus']['fingerprint']} |" in text
    assert f"| machine | {facts['runtime']['machine']} |" in text
    assert "| command | `distilcse distill --config distilcse.toml --out DIR`, with the file in this folder |" in text

    # a model made from this folder inherits all that, and not the folder's path
    again = origin(ModelRef(ref=str(out)))
    assert (again.hub_ids, again.license, again.is_distilled) == ([HUB], {"license": "apache-2.0"}, True)
    assert origin(ModelRef(ref=str(packaged))).hub_ids == [HUB]


def test_no_local_path_and_no_invented_license_gets_into_the_head(
    tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(tiny("bert"), tmp_path / "base")
    (tmp_path / "out" / "mine").mkdir(parents=True)
    encoder = load_encoder(str(folder), pooler="avg")
    for written, hub_ids in {
        f"---\nbase_model: {folder}\n---\n": [],
        "---\nbase_model: out/mine\n---\n": [],  # a folder of this disk, though it looks like an id
        "---\nbase_model: [a/b, ./c, d/e]\n---\n": ["a/b", "d/e"],
        "---\nbase_model: [\n---\n": [],  # no YAML
        "no head": [],
    }.items():
        (folder / "README.md").write_text(written, encoding="utf-8")
        found = origin(ModelRef(ref=str(folder)))
        assert (found.hub_ids, found.license) == (hub_ids, {})
        text = model_card(encoder, Card(title="A", made="by hand.", base=found), tmp_path / "s")
        assert head(text).get("base_model") == (hub_ids or None)
        assert head(text).get("base_model_relation") == ("finetune" if hub_ids else None)
        assert "license" not in head(text)
        assert f"| license of {folder} | none is stated in its files |" in text


def test_odd_names_break_no_table_and_data_on_this_disk_is_not_named(
    tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my" / "data").mkdir(parents=True)
    folder = shutil.copytree(tiny("bert"), tmp_path / "a|b\n'c\": {d}")
    matter = f"---\ndatasets: [{tmp_path}/my, my/data, ../my, ./my, s2orc, a/b]\n---\n"
    (folder / "README.md").write_text(matter, encoding="utf-8")
    base = origin(ModelRef(ref=str(folder)))
    assert base.datasets == ["s2orc", "a/b"]
    card = Card(title="A", made="by hand.", base=base, rows=[("x|y", "1\n2")], settings={"prompt": "a|\nb"})
    text = model_card(load_encoder(str(folder), pooler="avg"), card, tmp_path / "s")
    assert str(tmp_path) not in str(head(text))
    name = str(folder).replace("|", r"\|").replace("\n", " ")
    for line in (r"| x\|y | 1 2 |", r"| `prompt` | a\| b |", f"| license of {name} | none is stated in its files |"):
        assert line in text.splitlines()


def test_a_score_is_given_as_the_hub_wants_it(tiny: Callable[..., Path], tmp_path: Path) -> None:
    base = Origin(name="a/b", license={"license": "other", "license_name": "mine", "license_link": "LICENSE"})
    card = Card(title="A", made="by hand.", base=base, sts_b_dev=86.5, datasets=["a/text", "a/text"])
    parsed = ModelCard(model_card(load_encoder(str(tiny("bert"))), card, tmp_path / "my student"))
    [score] = parsed.data.eval_results
    assert (score.task_type, score.metric_type, score.metric_value) == ("semantic-similarity", "spearman_cosine", 0.865)
    assert (score.dataset_name, score.dataset_split) == ("STS-B, development set", "dev")
    assert (parsed.data.model_name, parsed.data.datasets) == ("my-student", "a/text")
    assert (parsed.data.license, parsed.data["license_name"], parsed.data["license_link"]) == (
        "other",
        "mine",
        "LICENSE",
    )


def test_only_contrastive_losses_are_called_so() -> None:
    assert set(_LEARNED) == set(LOSSES)
    for loss, words in _LEARNED.items():
        assert ("contrastive" in words and "2112.05638" in words) == (loss in ("ckd", "ckd+mse"))
        assert words in DistillReport.made(None, {"settings": {"loss": loss}})  # type: ignore[arg-type]


def test_data_sets_are_named_by_their_ids_on_the_hub(home: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a\n", encoding="utf-8")
    nli = catalogue.entry("nli").path
    assert nli.is_relative_to(home)
    named = [str(tmp_path / "text.txt"), "owner/data", str(nli), "news5m", "news-articles"]
    assert hub_data(named) == ["owner/data", "princeton-nlp/datasets-for-simcse", "ffgcc/NEWS5M"]
