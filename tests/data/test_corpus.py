"""From files to a fingerprinted corpus: cleaning, report, cache, and what is refused."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.corpus import open_corpus, prepare_corpus
from distilcse_cli.errors import DataError, DistilCSEError, UsageError

pytestmark = pytest.mark.usefixtures("home")
STOP = CorpusSettings()
SKIP = CorpusSettings(on_bad_line="skip")


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def test_odd_text_becomes_clean_lines_and_an_honest_report(tmp_path: Path) -> None:
    long = "x" * 100_000
    lines = ["\ufeffA cat.", "", "  A dog.\t", "tab\tand\x00nul", "line\u2028sep", long, " \u3000 ", "A cat."]
    corpus = prepare_corpus([write(tmp_path / "a.txt", "\r\n".join(lines).encode())], STOP)
    assert corpus.sentences_path.read_bytes() == f"A cat.\nA dog.\ntab and nul\nline sep\n{long}\n".encode()
    assert (corpus.report.num_read, corpus.report.num_kept) == (8, 5)
    assert corpus.report.dropped == {"blank": 2, "duplicate": 1}
    assert str(corpus.report) == "8 read, 5 kept, 3 dropped (2 blank, 1 duplicate)"
    assert corpus.fingerprint == hashlib.sha256(corpus.sentences_path.read_bytes()).hexdigest()


def test_a_corpus_is_read_in_order_and_by_row(tmp_path: Path) -> None:
    sentences = [f"sentence ü{i}" for i in range(25)]
    corpus = prepare_corpus([write(tmp_path / "a.txt", "\n".join(sentences).encode())], STOP)
    assert len(corpus) == corpus.num_sentences == 25
    assert list(corpus) == sentences
    assert corpus.take([3, 0, 24, 3]) == [sentences[i] for i in (3, 0, 24, 3)]
    assert corpus.take([]) == []
    for row in (-1, 25):
        with pytest.raises(IndexError):
            corpus.take([0, row])


def test_several_inputs_follow_each_other_and_share_their_duplicates(tmp_path: Path) -> None:
    first = write(tmp_path / "a.txt", b"one\ntwo")
    second = write(tmp_path / "b.jsonl.gz", gzip.compress(b'{"text": "two"}\n{"text": "three"}\n'))
    corpus = prepare_corpus([first, second], STOP)
    assert list(corpus) == ["one", "two", "three"]
    assert corpus.report.dropped == {"duplicate": 1}
    assert list(prepare_corpus([second, first], STOP)) == ["two", "three", "one"]


def test_articles_are_split_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b'id,text\n1,"It rained. Mr. Smith left."\n2,\n3,It rained. So did he.\n')
    corpus = prepare_corpus([path], CorpusSettings(split_sentences=True))
    assert list(corpus) == ["It rained.", "Mr. Smith left.", "So did he."]
    assert str(corpus.report) == "3 articles split: 5 read, 3 kept, 2 dropped (1 blank, 1 duplicate)"


def test_lines_that_are_not_utf8_are_counted_when_skipped(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"one\ncaf\xe9\n\xff\ntwo\n")
    with pytest.raises(DataError, match=r"a\.txt, line 2 is not UTF-8"):
        prepare_corpus([path], STOP)
    corpus = prepare_corpus([path], SKIP)
    assert list(corpus) == ["one", "two"]
    assert corpus.report.dropped == {"unreadable": 2}
    assert corpus.report.num_read == 4


def test_the_same_bytes_and_settings_are_prepared_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = prepare_corpus([write(tmp_path / "a.txt", b"one\ntwo")], STOP)
    assert "prepared before" not in capsys.readouterr().err
    # another name, the same bytes
    again = prepare_corpus([write(tmp_path / "b.txt", b"one\ntwo")], STOP)
    assert "2 read, 2 kept, 0 dropped, prepared before" in capsys.readouterr().err
    assert again == corpus == open_corpus(corpus.folder)
    others = [
        prepare_corpus([write(tmp_path / "c.txt", b"one\ntwo\n")], STOP),
        prepare_corpus([str(tmp_path / "a.txt")], CorpusSettings(max_words=9)),
        prepare_corpus([write(tmp_path / "d.tsv", b"one\ntwo")], STOP),  # "one" names the column
    ]
    assert len({corpus.folder, *(other.folder for other in others)}) == 4


def test_bytes_decide_whether_a_file_is_unzipped_also_in_the_cache(tmp_path: Path) -> None:
    content = gzip.compress(b"one\ntwo\n", mtime=0)
    zipped = prepare_corpus([write(tmp_path / "a.txt.gz", content)], STOP)
    assert list(zipped) == ["one", "two"]
    assert prepare_corpus([write(tmp_path / "a.txt", content)], STOP).folder == zipped.folder


@pytest.mark.parametrize("name", ["sentences.txt", "offsets.npy", "manifest.json"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.txt", b"one\ntwo\nthree")
    corpus = prepare_corpus([path], STOP)
    damaged = corpus.folder / name
    damaged.write_bytes(damaged.read_bytes()[:-3])
    with pytest.raises(DataError):
        open_corpus(corpus.folder)
    assert list(prepare_corpus([path], STOP)) == ["one", "two", "three"]
    assert "is damaged and is made again" in capsys.readouterr().err


def test_a_cache_of_a_later_release_is_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"one")
    manifest = prepare_corpus([path], STOP).folder / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format_version": 99}))
    with pytest.raises(DataError, match="has format version 99, and this release reads up to 1"):
        prepare_corpus([path], STOP)


NO_CORPUS = {
    "missing": ("absent.txt", None, "no file 'absent.txt'"),
    "missing without suffix": ("absent", None, "no file 'absent'"),
    "empty": ("a.txt", b"", "no sentence in a.txt: 0 read"),
    "blank": ("a.txt", b"\n \n\r\n\t", "no sentence in a.txt: 4 read, 0 kept, 4 dropped (4 blank)"),
    "mark only": ("a.txt", b"\xef\xbb\xbf", "no sentence in a.txt"),
    "empty gzip": ("a.txt.gz", gzip.compress(b""), "no sentence in a.txt.gz"),
    "empty gz file": ("a.txt.gz", b"", "no sentence in a.txt.gz"),
    "header only": ("a.csv", b"text\n", "no sentence in a.csv"),
    "empty csv": ("a.csv", b"", "no sentence in a.csv"),
    "null byte in name": ("a\0b", None, "'a\\x00b'"),
    "name too long": ("a" * 5000, None, "File name too long"),
}


@pytest.mark.parametrize("case", NO_CORPUS)
def test_what_holds_no_sentence_is_one_clear_error(
    tmp_path: Path, home: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, content, message = NO_CORPUS[case]
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        prepare_corpus([name], STOP)
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert not [path for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_missing_file_is_answered_with_a_similar_one_or_with_a_download(tmp_path: Path) -> None:
    write(tmp_path / "sentences.txt", b"one")
    with pytest.raises(DataError, match=r"no file .*sentence\.txt") as caught:
        prepare_corpus([str(tmp_path / "sentence.txt")], STOP)
    assert caught.value.hint == f"did you mean {tmp_path / 'sentences.txt'}?"
    with pytest.raises(DataError, match="no file") as caught:
        prepare_corpus([str(tmp_path / "nowhere" / "news.csv")], STOP)
    assert "distilcse download news-articles" in str(caught.value.hint)


def test_folders_pipes_and_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder"):
        prepare_corpus([str(tmp_path)], STOP)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is no regular file"):
        prepare_corpus([str(tmp_path / "pipe")], STOP)
    with pytest.raises(UsageError, match="no corpus"):
        prepare_corpus([], STOP)


def test_damaged_offsets_are_one_error(tmp_path: Path, home: Path) -> None:
    corpus = prepare_corpus([write(tmp_path / "a.txt", b"one\ntwo\n")], STOP)
    file = corpus.folder / "offsets.npy"
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(DataError, match="is damaged") as caught:
        corpus.take([1])
    assert caught.value.hint == "remove the folder and run again"
    assert home.is_dir()


def test_a_file_name_that_is_no_utf8_is_no_trouble(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")
    assert list(prepare_corpus([write(Path(name), b"one")], STOP)) == ["one"]


PREPARE = """
import resource, sys
from distilcse_cli.errors import DataError
from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.corpus import prepare_corpus
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    corpus = prepare_corpus([sys.argv[1]], CorpusSettings())
except DataError as error:
    sys.exit(f"DataError: {error}")
assert len(list(corpus)) == len(corpus)
print(corpus.fingerprint)
"""


def test_three_processes_at_once_make_one_corpus(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"\n".join(b"sentence %d" % i for i in range(50_000)))
    command = [sys.executable, "-c", PREPARE, path]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    results = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], results
    assert len({out for out, _ in results}) == 1
    # one made it, the others found it
    assert sum("prepared before" in err for _, err in results) == 2


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, home: Path) -> None:
    path = write(tmp_path / "a.txt", b"\n".join(b"sentence %d" % i for i in range(50_000)))
    # the sentences take 700 kB, and no file may grow beyond 100
    done = subprocess.run([sys.executable, "-c", PREPARE, path, "100000"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("DataError: cannot write ")
    assert "File too large" in done.stderr
    assert [file for file in home.rglob("*") if file.suffix != ".lock"] == [home / "corpora"]
    assert len(prepare_corpus([path], STOP)) == 50_000


@given(
    content=st.binary(max_size=300)
    | st.lists(st.sampled_from([b"a", b" ", b"\n", b"\r", b"\t", b"\0", b"\xe2\x80\xa8", b"\xc2\x85", b"\xff"])).map(
        b"".join
    ),
    suffix=st.sampled_from([".txt", ".jsonl", ".csv", ".tsv", ".gz", ".parquet"]),
    how=st.builds(CorpusSettings, on_bad_line=st.sampled_from(["stop", "skip"]), split_sentences=st.booleans()),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
def test_any_bytes_give_an_error_or_unique_lines(
    tmp_path: Path, content: bytes, suffix: str, how: CorpusSettings
) -> None:
    path = write(tmp_path / f"fuzz{suffix}", content)
    try:
        corpus = prepare_corpus([path], how)
    except DistilCSEError:
        return
    sentences = list(corpus)
    assert 0 < len(sentences) == len(set(sentences)) == len(corpus)
    assert all(sentence.strip() == sentence != "" for sentence in sentences)
    assert all(len(sentence.splitlines()) == 1 for sentence in sentences)
    assert corpus.report.num_read == len(corpus) + sum(corpus.report.dropped.values())
    assert corpus.take(range(len(corpus))) == sentences


def test_real_news_lines_are_kept_as_they_are(data_dir: Path, tmp_path: Path) -> None:
    with gzip.open(data_dir / "news" / "news.en.txt.gz", "rb") as file:
        lines = [next(file) for _ in range(3000)]
    once = prepare_corpus([write(tmp_path / "news.txt", b"".join(lines))], STOP)
    twice = prepare_corpus([write(tmp_path / "twice.txt.gz", gzip.compress(b"".join(lines + lines)))], STOP)
    # distinct, clean sentences: the corpus is the file
    assert once.sentences_path.read_bytes() == b"".join(lines)
    assert once.report.dropped == {}
    assert twice.report.dropped == {"duplicate": 3000}
    assert twice.fingerprint == once.fingerprint
