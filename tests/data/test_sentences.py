"""The splitter on what makes splitting hard. `|` marks where one sentence ends and the next begins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distilcse_cli.data.sentences import split_sentences

CASES = {
    "titles": "Mr. Smith met Dr. Jones, Sen. Warren and ex-Gov. Brown.|St. Louis won.",
    "initials": "J. K. Rowling wrote it.|John F. Kennedy did not.|J.R.R. Tolkien did.|J. A. Smith read it.",
    "acronym inside": "The U.N. Security Council met in the U.S. Capitol.|The U.K. left.",
    "acronym last": "He lives in the U.S.|He likes it.|She is in Washington, D.C.|But they are not.",
    "times": "It began at 3 p.m. on Friday.|Mr. Jones woke at 5 a.m. Friday.|He left at 6 p.m.|She stayed.",
    "decimals": "It cost $3.50 in 2016.|Shares rose 1.5 per cent to 2.25.|2,000 were sold.",
    "months": "It closed on Jan. 5 and reopened Feb. 12.|It is open now.",
    "numbers": "See fig. 3 and p. 12.|No. 5 is alive!|He said no.|Five left.",
    "companies": "Acme Inc. was sold to Bros. Ltd. in May.|The firm (Acme Corp.) agreed.|It joined Apple Inc.|The end.",
    "degrees": "She has a Ph.D. in physics.|His wife does too.",
    "latin": "Small animals, e.g. Norway rats, i.e. Rattus, vs. Cats etc. are shown.|Next.",
    "question and exclamation": "What?!|No!|Really?|Yes.",
    "ellipsis": "Wait... what?|I see…|He paused...|Then he went on.",
    "quote, then its speaker": '"Is it?" she asked.|"Yes," he said.|“Oh!” he cried.',
    "quoted sentences": '"I am tired.|I want to sleep," he said.|He added: "It is over."|Then he left.',
    "curly quotes": "“It works.”|“Good,” she said.|‘It is late.’|We left.",
    "brackets": "(It was long.)|We left (early, at 5 p.m.) and slept.|Good.",
    "lower case": "iPhone sales rose.|iPad sales fell.|Use example.com. or a.b@c.de. to ask.",
    "glued": "See www.example.com/a.html?b=1 and version 2.0.1.|Hello.World is one word.",
    "list": "Here it is.|1. Buy milk.|12. Sell milk.|It was 1990.|12 came.",
    "unbalanced quote": 'He said "it is over.|Then he left.|They came back.|"Why?',
    "ordinary words": "It was a near miss.|Smith agreed.|Bob's art.|Next.|We made it in the wash.|Police came.",
    "lost curly quote and no-break space": 'They fear "grizzlies."?|DeVos won"t.-|He can.',
    "one": "No mark at the end",
    "unicode": "Él llegó.|¿Qué pasó?|Ça va.|Ñandú!",
}


@pytest.mark.parametrize("case", CASES)
def test_sentences_end_where_a_reader_would_end_them(case: str) -> None:
    expected = CASES[case].split("|")
    article = " ".join(expected).replace('"? DeVos', '"?DeVos')  # as that archive writes it
    assert split_sentences(article) == expected


def test_a_blank_line_ends_a_sentence_and_a_newline_does_not() -> None:
    assert split_sentences("A headline\n\nIt rained\nall day. It\r\n \t\r\nstopped") == [
        "A headline",
        "It rained all day.",
        "It",
        "stopped",
    ]


@pytest.mark.parametrize("article", ["", " \n\n\t", "\u2028\x85"])
def test_a_blank_article_has_no_sentences(article: str) -> None:
    assert split_sentences(article) == []


@given(st.text(alphabet="aB1 .!?…\"'”)(-\n\t\u2028é", max_size=80) | st.text(max_size=60))
def test_nothing_but_white_space_is_changed(article: str) -> None:
    sentences = split_sentences(article)
    assert "".join("".join(sentences).split()) == "".join(article.split())
    assert all(sentence == " ".join(sentence.split()) != "" for sentence in sentences)


@pytest.mark.parametrize("piece", [".", '"', '. "', "Mr. ", "( ", "!? ", " ", "\n", ".- ", "a.b.", '."?A'])
def test_hostile_articles_take_linear_time(piece: str) -> None:
    # quadratic work on 200,000 marks would run into the suite's time limit
    split_sentences(piece * 200_000)
