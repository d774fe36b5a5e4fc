"""The user's own labels: how they are read, and scores derived by hand."""

import json
from math import log2
from pathlib import Path

import numpy as np
import pytest

from distilcse_cli.errors import DataError
from distilcse_cli.evaluation.labelled import read_pairs, read_retrieval
from distilcse_cli.evaluation.retrieval import retrieval_scores


def _beir(
    folder: Path, qrels: str = "query-id\tcorpus-id\tscore\nq1\td2\t1\nq2\td1\t2\nq2\td2\t0\n"
) -> tuple[Path, ...]:
    queries = [{"_id": "q1", "text": "a cat"}, {"_id": "q2", "text": "a dog"}, {"_id": "q3", "text": "nobody asks"}]
    documents = [{"_id": "d1", "title": "Dogs", "text": "They bark."}, {"_id": "d2", "title": "", "text": "Cats purr."}]
    for name, records in (("queries.jsonl", queries), ("corpus.jsonl", documents)):
        (folder / name).write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    (folder / "qrels.tsv").write_text(qrels, encoding="utf-8")
    return tuple(folder / name for name in ("queries.jsonl", "corpus.jsonl", "qrels.tsv"))


def test_the_layout_of_beir(tmp_path: Path) -> None:
    found = read_retrieval(*_beir(tmp_path))
    assert found.queries == ["a cat", "a dog"]
    assert found.num_without == 1
    assert found.documents == ["Dogs They bark.", "Cats purr."]
    # the score of 0 says that d2 does not answer q2
    assert found.relevant == [{1: 1.0}, {0: 2.0}]


def test_the_same_in_csv_with_numbers_for_ids(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("id,text\n7,a cat\n", encoding="utf-8")
    (tmp_path / "d.csv").write_text('text,id\n"Cats, of course",1\nDogs,2\n', encoding="utf-8")
    (tmp_path / "r.csv").write_text("query-id,corpus-id,score\n7,1,1\n", encoding="utf-8")
    found = read_retrieval(*(tmp_path / name for name in ("q.csv", "d.csv", "r.csv")))
    assert (found.documents, found.relevant) == (["Cats, of course", "Dogs"], [{0: 1.0}])


HEADER = "query-id\tcorpus-id\tscore\n"


@pytest.mark.parametrize(
    ("qrels", "said"),
    [
        (HEADER + "q1\td1\t1\nq1\td9\t1\n", "qrels.tsv, line 3: {folder}/corpus.jsonl has no document 'd9'"),
        (HEADER + "q9\td1\t1\n", "qrels.tsv, line 2: {folder}/queries.jsonl has no query 'q9'"),
        (HEADER + "q1\td1\t1\nq1\td1\t2\n", "line 3: this query and document are in {folder}/qrels.tsv, line 2"),
        (HEADER + "q1\td1\tyes\n", "line 2: the score is 'yes', which is no number"),
        (HEADER + "q1\td1\t0\n", "names no right document for any query"),
        (HEADER + "q1\t\t1\n", "line 2: id is blank"),
        ("q1\td1\t1\n", "line 1 has no column query-id: it has q1, d1, 1"),
    ],
)  # fmt: skip
def test_faults_of_the_answers_are_named_with_file_and_line(tmp_path: Path, qrels: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        read_retrieval(*_beir(tmp_path, qrels))
    assert said.format(folder=tmp_path) in caught.value.message


def test_an_id_that_is_there_twice_is_named(tmp_path: Path) -> None:
    queries, documents, qrels = _beir(tmp_path)
    with documents.open("a", encoding="utf-8") as file:
        file.write('{"_id": "d1", "text": "again"}\n')
    with pytest.raises(DataError, match=r"line 3: the id 'd1' is in .*corpus.jsonl, line 1 already"):
        read_retrieval(queries, documents, qrels)


def test_scored_pairs(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("score,Sentence1,sentence2\n4.5,a cat,the cat\n0,a cat,a market\n", encoding="utf-8")
    found = read_pairs(path)
    assert (found.first, found.second, found.scores.tolist()) == (["a cat"] * 2, ["the cat", "a market"], [4.5, 0.0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sentence1,sentence2,score\na,b,1\na,,2\n", "pairs.csv, line 3: sentence2 is blank"),
        ("sentence1,sentence2,score\na,b,1\na,c,nan\n", "pairs.csv, line 3: the score is 'nan', which is no number"),
        ("sentence1,sentence2,score\na,b,1\na,c,1\n", "has 2 pairs, all of one score"),
        ("sentence1,sentence2,score\n", "has 0 pairs"),
        ("one,two,score\na,b,1\n", "line 1 has no column sentence1: it has one, two, score"),
    ],
)  # fmt: skip
def test_faults_of_pairs_are_named_with_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "pairs.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_pairs(tmp_path / "pairs.csv")
    assert said in caught.value.message


def test_lines_and_parquet_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("a cat\n", encoding="utf-8")
    with pytest.raises(DataError, match="holds lines: sentence1, sentence2, score are read from csv, tsv and jsonl"):
        read_pairs(tmp_path / "pairs.txt")


def test_ndcg_and_recall_by_hand() -> None:
    # query 0: documents 5 (grade 2) and 9 (grade 1) are right; 5 is found second, 9 not among twelve
    # query 1: document 0 is right and found first
    found = np.array([[3, 5, 4, 0, 1, 2, 6, 7, 8, 10, 11, 12], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]])
    scores = retrieval_scores(found, [{5: 2.0, 9: 1.0}, {0: 1.0}])
    first = (2 / log2(3)) / (2 / log2(2) + 1 / log2(3))
    assert scores == pytest.approx(
        {"ndcg10": (first + 1) / 2, "recall1": (0 + 1) / 2, "recall10": (1 / 2 + 1) / 2, "recall100": (1 / 2 + 1) / 2}
    )


def test_an_answer_in_the_eleventh_place_counts_for_recall_at_100_alone() -> None:
    scores = retrieval_scores(np.arange(20)[None], [{10: 1.0}])
    assert scores == {"ndcg10": 0.0, "recall1": 0.0, "recall10": 0.0, "recall100": 1.0}


def test_more_right_documents_than_ten_can_still_score_one() -> None:
    scores = retrieval_scores(np.arange(12)[None], [dict.fromkeys(range(12), 1.0)])
    assert scores["ndcg10"] == pytest.approx(1)
    assert scores["recall10"] == pytest.approx(10 / 12)
