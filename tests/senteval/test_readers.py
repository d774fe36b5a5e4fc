"""Each file format with its odd bytes."""

from pathlib import Path

import pytest

from senteval import readers
from senteval.errors import DataError
from senteval.readers import Rows


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file"


def test_one_class_files_are_latin_1(file: Path) -> None:
    file.write_bytes(b"un d\xe9j\xe0 vu\n")
    assert readers.read_one_class([file], label=1) == Rows(["un déjà vu"], None, [1])


def test_utf_8_in_a_latin_1_file_is_misread_as_senteval_misreads_it(file: Path) -> None:
    # é is C3 A9 in UTF-8, which latin-1 reads as two letters
    file.write_bytes("café\n".encode())
    assert readers.read_one_class([file], label=0).sentences == ["cafÃ©"]


def test_an_empty_line_is_an_empty_sentence_and_counts(file: Path) -> None:
    file.write_bytes(b"good\n\n  \nbad\n")
    assert readers.read_one_class([file], label=0) == Rows(["good", "", "", "bad"], None, [0, 0, 0, 0])


def test_a_one_class_file_is_cut_where_splitlines_cuts(file: Path) -> None:
    # 85 is NEL and 0C a form feed; A0, the no-break space, only separates tokens
    file.write_bytes(b"a\x85b\x0cc\xa0d")
    assert readers.read_one_class([file], label=1).sentences == ["a", "b", "c d"]


def test_white_space_is_folded_into_single_spaces(file: Path) -> None:
    file.write_bytes(b"  two\t words  \n")
    assert readers.read_one_class([file], label=1).sentences == ["two words"]


def test_sts_pairs_without_a_gold_score_are_dropped(tmp_path: Path) -> None:
    pairs, gold = tmp_path / "input", tmp_path / "gs"
    pairs.write_text("a\tb\nnot\tannotated\nc d\te\n", encoding="utf-8")
    gold.write_text("5\n\n0.25\n", encoding="utf-8")
    assert readers.read_sts([pairs, gold]) == Rows(["a", "c d"], ["b", "e"], [5.0, 0.25])


def test_sts_files_of_unequal_length_are_refused_by_name(tmp_path: Path) -> None:
    pairs, gold = tmp_path / "input", tmp_path / "gs"
    pairs.write_text("a\tb\nc\td\n", encoding="utf-8")
    gold.write_text("5\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"input has 2 lines and .*gs has 1") as caught:
        readers.read_sts([pairs, gold])
    assert caught.value.files == (pairs, gold)


def test_an_sts_line_without_a_tab_is_refused_by_number(tmp_path: Path) -> None:
    pairs, gold = tmp_path / "input", tmp_path / "gs"
    pairs.write_text("a\tb\nno tab\n", encoding="utf-8")
    gold.write_text("5\n4\n", encoding="utf-8")
    with pytest.raises(DataError, match="input, line 2: not a row of this format"):
        readers.read_sts([pairs, gold])


def test_sts_benchmark_is_tab_separated_with_quotes_and_commas_as_text(file: Path) -> None:
    file.write_text(
        'main-news\tMSRpar\t2012\t1\t3.800\t"Yes, he said.\tYes "he" said, too.\n'
        "main-news\theadlines\t2015\t2\t0\tFirst\tSecond\tlicence\tsource\n",
        encoding="utf-8",
    )
    expected = Rows(['"Yes, he said.', "First"], ['Yes "he" said, too.', "Second"], [3.8, 0.0])
    assert readers.read_sts_benchmark([file]) == expected


def test_a_unicode_line_separator_does_not_cut_a_row_of_sts_benchmark(file: Path) -> None:
    file.write_text("g\tf\ty\t1\t5\tone\u2028line\tb\n", encoding="utf-8")
    # it is white space to split(), though
    assert readers.read_sts_benchmark([file]).sentences == ["one line"]


def test_sick_has_a_header_and_may_have_crlf(file: Path) -> None:
    file.write_bytes(b"pair_ID\tA\tB\tscore\tjudgment\r\n6\tTwo dogs\tA Dog\t3.2\tCONTRADICTION\r\n")
    assert readers.read_sick_relatedness([file]) == Rows(["Two dogs"], ["A Dog"], [3.2])
    assert readers.read_sick_entailment([file]) == Rows(["Two dogs"], ["A Dog"], [0])


def test_sick_classes_are_numbered_as_in_senteval(file: Path) -> None:
    rows = "".join(f"1\ta\tb\t1\t{label}\n" for label in ("CONTRADICTION", "NEUTRAL", "ENTAILMENT"))
    file.write_text("header\n" + rows, encoding="utf-8")
    assert readers.read_sick_entailment([file]).labels == [0, 1, 2]


def test_mrpc_starts_with_a_byte_order_mark_and_keeps_its_quotes(file: Path) -> None:
    file.write_bytes(
        b"\xef\xbb\xbfQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"
        b'1\t1\t2\t" Never , " she said\tShe said " never\r\n'
        b"0\t3\t4\tplain\ttext\r\n"
    )
    expected = Rows(['" Never , " she said', "plain"], ['She said " never', "text"], [1, 0])
    assert readers.read_mrpc([file]) == expected


def test_trec_is_latin_1_and_keeps_only_the_coarse_class(file: Path) -> None:
    file.write_bytes(b"DESC:manner How ?\nLOC:other Where is S\xe3o : Paulo ?\nNUM:date When\n")
    expected = Rows(["How ?", "Where is São : Paulo ?", "When"], None, [1, 4, 5])
    assert readers.read_trec([file]) == expected


def test_sst2_has_the_class_behind_a_tab_and_sst5_in_front(file: Path) -> None:
    file.write_text("a fine film \t1\n", encoding="utf-8")
    assert readers.read_sst2([file]) == Rows(["a fine film"], None, [1])
    file.write_text("4 a fine film\n", encoding="utf-8")
    assert readers.read_sst5([file]) == Rows(["a fine film"], None, [4])


def test_a_missing_final_line_feed_loses_nothing(file: Path) -> None:
    file.write_text("one\t0\ntwo\t1", encoding="utf-8")
    assert readers.read_sst2([file]).sentences == ["one", "two"]


def test_a_row_that_does_not_parse_is_refused_by_file_and_line(file: Path) -> None:
    file.write_text("fine\t1\nno label\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"file, line 2: not a row"):
        readers.read_sst2([file])


def test_a_header_counts_as_a_line(file: Path) -> None:
    file.write_text("header\n1\ta\tb\tmuch\tNEUTRAL\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 2: .*'much'"):
        readers.read_sick_relatedness([file])


def test_bytes_that_are_not_utf_8_are_refused_by_file_and_place(file: Path) -> None:
    file.write_bytes(b"ab\xff\t1\n")
    with pytest.raises(DataError, match="file is not utf-8 at byte 2"):
        readers.read_sst2([file])
