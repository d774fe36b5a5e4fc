"""The command line of stage 1: the preset, the authors' names, and their order of precedence."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from distilcse_cli.commands.presets import AUTHORS_NAMES, translate
from distilcse_cli.training.settings import DistillSettings
from tests.training.conftest import write_corpus


def test_the_authors_names_become_ours() -> None:
    given = [
        "distill",
        "--data_path",
        "a.txt",
        "--start_model=tiny",
        "--temp",
        "1",
        "--pooler_type",
        "cls",
        "--lr",
        "1",
    ]
    expected = ["distill", "--corpus", "a.txt", "--student=tiny", "--logit-scale", repr(math.e), "--pooler", "cls"]
    assert translate(given, AUTHORS_NAMES) == [*expected, "--lr", "1"]
    # the exponent p starts the scale at e^p, also behind an equals sign
    assert translate(["--temp=0"], AUTHORS_NAMES) == ["--logit-scale=1.0"]


@pytest.mark.e2e
def test_help_does_not_show_the_authors_names(distilcse: Callable) -> None:
    shown = distilcse("distill", "--help").stdout
    assert "--bank-size" in shown
    assert "--queue_len" not in shown


@pytest.mark.e2e
def test_the_preset_is_printed_and_what_is_typed_wins(
    distilcse: Callable, tiny: Callable, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISTILCSE_DATA", raising=False)
    assert not home.exists()
    write_corpus(tmp_path / "corpus.txt", 40)
    done = distilcse(
        *("distill", "--teacher", tiny(), "--start_model", tiny(num_layers=2)),
        *("--data_path", tmp_path / "corpus.txt", "--out", tmp_path / "out", "--preset", "paper"),
        *("--batch_size", "16", "--temp", "2", "--epochs", "1", "--compute-dtype", "float32"),
    )
    table = {row[0]: row[1:] for row in re.findall(r"\| +(\S+) +\| +(\S+) +\| +(as typed|preset) +\|", done.stderr)}
    assert table["loss"] == ("ckd", "preset")
    assert table["lr"] == ("0.0002", "preset")
    assert table["bank-size"] == ("65536", "preset")
    assert table["dropout"] == ("True", "preset")
    assert table["batch-size"] == ("16", "as typed")
    assert table["logit-scale"] == (repr(math.exp(2)), "as typed")
    assert '"pooling_mode_cls_token": true' in (tmp_path / "out" / "1_Pooling" / "config.json").read_text()


@pytest.mark.e2e
def test_options_of_negatives_are_not_ignored_in_silence(distilcse: Callable) -> None:
    required = ["distill", "--teacher", "nosuch/teacher", "--student", "s", "--corpus", "c", "--out", "d"]
    said = distilcse(*required, "--queue_len", "8", "--temp=1", "--no-mask-same-text", code=4).stderr
    assert "warning: --loss mse does not read --bank-size, --mask-same-text, --logit-scale; --loss ckd does" in said
    for quiet in (["--lr", "1"], ["--bank-size", "8", "--loss", "ckd"], ["--bank-size", "8", "--preset", "paper"]):
        assert "does not read" not in distilcse(*required, *quiet, code=4).stderr


@pytest.mark.e2e
def test_an_unknown_preset_is_a_usage_error(distilcse: Callable) -> None:
    done = distilcse(*"distill --teacher a --student b --corpus c --out d --preset article".split(), code=2)
    assert "must be paper" in done.stderr


def test_settings_out_of_range_are_named() -> None:
    from distilcse_cli.errors import UsageError

    for name, value in (("bank", "mine"), ("micro_batch_tokens", 0), ("patience", 0.0), ("false_negative_cosine", 2.0)):
        with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} is"):
            DistillSettings(**{name: value})
