"""sentence-transformers' students: what is shipped, what is tuned, and what the command line changes."""

from pathlib import Path

import pytest

from benchmarks import rivals
from distilcse_cli.errors import UsageError

START = ["--corpus", "c.txt", "--out", "s", "--recipe"]


def test_shipped_is_the_example_and_tuned_has_our_care() -> None:
    shipped = rivals.chosen(rivals.new_parser().parse_args([*START, "shipped"]))
    assert (shipped["keep_layers"], shipped["lr"], shipped["batch_size"], shipped["loss"]) == ("0,2,4", 1e-4, 64, "mse")
    tuned = rivals.chosen(rivals.new_parser().parse_args([*START, "tuned", "--lr", "3e-4", "--loss", "cosine"]))
    assert (tuned["keep_layers"], tuned["lr"], tuned["loss"]) == ("0,4,5", 3e-4, "cosine")
    assert (tuned["dropout"], tuned["eager"]) == (False, True)


def test_a_folder_that_is_there_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["rivals", "--recipe", "tuned", "--corpus", "missing.txt", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(UsageError, match="is there already"):
        rivals.main()
