"""Every student that we write is read rightly by a program, or its card and a warning say that it is not."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from distilcse_cli.config import POOLINGS
from distilcse_cli.models.card import Card, front_matter, model_card
from distilcse_cli.models.encoder import SentenceEncoder, load_encoder
from distilcse_cli.models.folder import save_student
from distilcse_cli.models.pooling import Dense
from distilcse_cli.models.static import static_encoder
from tests.contracts.rules import read, verdicts
from tests.tiny import ARCHITECTURES

TEI = "text-embeddings-inference"
ROW = re.compile(r"^\| ([\w.\- ]+) \| (yes|other vectors|no)(?:: (.*))? \|$", re.MULTILINE)


def saved(encoder: SentenceEncoder, folder: Path) -> dict[str, str]:
    """Save a student; check its card against the rules, and return what the rules say of each program."""
    save_student(encoder, folder, card=model_card(encoder, Card(title="A", made="by hand."), folder), settings={})
    found, text = verdicts(folder), (folder / "README.md").read_text(encoding="utf-8")
    assert {name: verdict for name, verdict, _ in ROW.findall(text)} == found
    assert all(why for _, verdict, why in ROW.findall(text) if verdict != "yes")
    is_tagged = TEI in front_matter(folder / "README.md")["tags"]
    assert is_tagged == ("docker run" in text) == (found[TEI] == "yes")
    # docker would take a relative path for the name of a volume
    assert is_tagged == ('-v "$(realpath "path/to/this/folder")":/model' in text)
    return found


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_pooling_is_served_or_warned_of(
    tiny: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], architecture: str
) -> None:
    encoder, found, warned = load_encoder(str(tiny(architecture)), pooler="avg"), {}, {}
    for name in POOLINGS:
        encoder.pooling, encoder.dense = name, nn.Sequential(Dense(nn.Linear(16, 16))) if name == "cls" else None
        capsys.readouterr()
        found[name], warned[name] = saved(encoder, tmp_path / name), capsys.readouterr().err
    has_class = {reader for reader, verdict in found["avg"].items() if verdict == "yes"}
    assert {TEI, "transformers.js", "transformers 4"} <= has_class
    # the dense layer of `cls`, and classes that a program does not have, stand in the card alone
    assert found["cls_before_pooler"] == found["avg"]
    for name in POOLINGS:
        is_served = name in ("cls", "cls_before_pooler", "avg")
        assert is_served == (found[name][TEI] == "yes") == (warned[name] == "")
        if not is_served:
            line, end = warned[name].split("\n")
            assert (line.startswith(f"warning: pooling {name}: "), end) == (True, "")
            assert line.endswith(": serve it with sentence-transformers, or train with --pooler avg")
            fails = {reader for reader in has_class if found[name][reader] != "yes"}
            assert {reader for reader in found[name] if reader in line} == fails


def test_what_each_program_makes_of_dense_layers(
    tiny: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = load_encoder(str(tiny("bert")), pooler="avg")
    capsys.readouterr()
    encoder.dense = nn.Sequential(Dense(nn.Linear(16, 24, bias=False), "Identity"), Dense(nn.Linear(24, 8), "Tanh"))
    dropped = dict.fromkeys(("llama.cpp", "Ollama", "transformers.js"), "other vectors")
    kept = dict.fromkeys((TEI, "vLLM", "transformers 4"), "yes")
    assert saved(encoder, tmp_path / "two") == kept | dropped
    assert capsys.readouterr().err == ""
    encoder.dense = nn.Sequential(Dense(nn.Linear(16, 24), "GELU"))
    assert saved(encoder, tmp_path / "gelu") == kept | dropped | {TEI: "no"}
    assert f"a dense layer with GELU: {TEI} cannot load it" in capsys.readouterr().err


def test_a_modernbert_is_served_as_long_as_its_layers_have_a_period(
    tiny: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deep = str(tiny("modernbert", num_layers=7))  # layers 0, 3 and 6 attend to all tokens
    keys = ("global_attn_every_n_layers", "global_rope_theta", "local_rope_theta")
    for layers, period in {(0, 3, 6): 1, (0, 1, 3, 4): 2, (0, 1, 2, 3): 3, (0, 1, 2, 4): 4}.items():
        encoder = load_encoder(deep, pooler="avg", keep_layers=layers)
        found = saved(encoder, tmp_path / str(period))
        assert set(found.items()) == {("Ollama", "no"), *((name, "yes") for name in found if name != "Ollama")}
        again = load_encoder(str(tmp_path / str(period)))
        assert again.fingerprint == encoder.fingerprint  # these keys are said twice, and count once
        written = read(tmp_path / str(period), "config.json")
        assert [written[key] for key in keys] == [period, 160000.0, 10000.0]
    assert "warning" not in capsys.readouterr().err

    odd = saved(load_encoder(deep, pooler="avg", keep_layers=(0, 3, 4, 5)), tmp_path / "odd")
    assert {name for name, verdict in odd.items() if verdict == "other vectors"} == {"llama.cpp", "transformers 4"}
    assert odd[TEI] == "no"  # it would start with these keys, and compute something else
    assert not set(keys) & read(tmp_path / "odd", "config.json").keys()
    warned = capsys.readouterr().err
    assert "at irregular intervals: llama.cpp and transformers 4 would compute other vectors" in warned


def test_only_sentence_transformers_loads_a_static_student(tiny: Callable[..., Path], tmp_path: Path) -> None:
    encoder = static_encoder(load_encoder(str(tiny("bert")), pooler="avg"))
    assert set(saved(encoder, tmp_path / "student").values()) == {"no"}
