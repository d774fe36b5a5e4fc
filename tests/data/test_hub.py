"""A hub data set as a corpus, from the local cache of `datasets`: no test reaches outside."""

from pathlib import Path

import pytest

from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.corpus import prepare_corpus
from distilcse_cli.errors import DataError, NetworkError

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which `datasets` keeps what it has downloaded, with the network switched off."""
    import datasets.config
    import huggingface_hub.constants

    folder = tmp_path / "datasets"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # both libraries read the variables when they are imported
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return folder


def keep_downloaded(cache: Path, name: str, rows: dict[str, list[object]], split: str = "train") -> None:
    """Put a data set where `datasets` puts one that it has downloaded."""
    import datasets
    from datasets.arrow_writer import ArrowWriter

    owner, _, short = name.partition("/")
    folder = cache / f"{owner}___{short}" / "default" / "0.0.0" / "abc123"
    folder.mkdir(parents=True)
    table = datasets.Dataset.from_dict(rows)
    with ArrowWriter(path=str(folder / f"{short}-{split}.arrow"), features=table.features) as writer:
        writer.write_table(table.data.table)
        num_examples, num_bytes = writer.finalize()
    info = datasets.DatasetInfo(
        features=table.features,
        builder_name="parquet",
        dataset_name=short,
        config_name="default",
        version="0.0.0",
        splits={split: {"name": split, "num_bytes": num_bytes, "num_examples": num_examples, "dataset_name": short}},
    )
    info.write_to_directory(str(folder))


def test_a_downloaded_data_set_is_read_without_network(offline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep_downloaded(offline, "owner/news", {"id": [1, 2, 3, 4], "text": ["One cat.", None, "Two\ndogs.", "One cat."]})
    corpus = prepare_corpus(["owner/news"], CorpusSettings())
    assert list(corpus) == ["One cat.", "Two dogs."]
    assert corpus.report.dropped == {"blank": 1, "duplicate": 1}
    assert prepare_corpus(["owner/news"], CorpusSettings()) == corpus
    assert "prepared before" in capsys.readouterr().err


def test_the_column_of_a_data_set_is_asked_for(offline: Path) -> None:
    keep_downloaded(offline, "owner/news", {"id": [1], "body": ["One."]})
    with pytest.raises(DataError, match="which column of owner/news holds the text\\? it has id, body"):
        prepare_corpus(["owner/news"], CorpusSettings())
    assert list(prepare_corpus(["owner/news"], CorpusSettings(text_column="body"))) == ["One."]


def test_a_column_of_numbers_is_no_text(offline: Path) -> None:
    keep_downloaded(offline, "owner/news", {"id": [1]})
    with pytest.raises(DataError, match="owner/news, row 1: the text column is not text but int"):
        prepare_corpus(["owner/news"], CorpusSettings())


def test_a_data_set_without_train_split_says_what_it_has(offline: Path) -> None:
    keep_downloaded(offline, "owner/news", {"text": ["One."]}, split="test")
    with pytest.raises(DataError, match=r"cannot read the hub data set owner/news: .*test"):
        prepare_corpus(["owner/news"], CorpusSettings())


@pytest.mark.usefixtures("offline")
def test_neither_file_nor_reachable_is_said_in_one_line() -> None:
    with pytest.raises(NetworkError) as caught:
        prepare_corpus(["owner/absent"], CorpusSettings())
    says = "no file owner/absent, and --offline or HF_HUB_OFFLINE keeps us from looking on the hub"
    assert caught.value.message == says
    assert caught.value.hint == "without it, run distilcse download datasets/owner/absent; then name its file"
    assert caught.value.exit_code == 6


@pytest.mark.parametrize(
    "name", ["data/absent.txt", "data/absent.jsonl.gz", "absent", "/owner/absent", "a/b/c", "../x"]
)
def test_what_cannot_be_a_hub_id_never_asks_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket", None)
    with pytest.raises(DataError, match="no file"):
        prepare_corpus([name], CorpusSettings())


def test_a_file_wins_over_a_hub_id(offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_downloaded(offline, "owner/news", {"text": ["From the hub."]})
    monkeypatch.chdir(tmp_path)
    Path("owner").mkdir()
    Path("owner/news").write_text("From the file.")
    assert list(prepare_corpus(["owner/news"], CorpusSettings())) == ["From the file."]
