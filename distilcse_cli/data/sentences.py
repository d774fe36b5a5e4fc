"""Split articles into sentences with a short rule set for English.

A sentence ends at `.`, `!`, `?` or an ellipsis, closing quotes and brackets included, if a space
and then no lower-case letter follow. A single period must also not belong to an abbreviation.
Quotations are split like all other text, so that one missing quotation mark cannot glue the rest
of an article together. When in doubt, the rules leave two sentences as one.
"""

import re

_PARAGRAPH = re.compile(r"\n[^\S\n]*+\n")
# a run of marks matches from its start only, without backtracking: linear on any input
_END = re.compile(
    r"""(?<![.!?…]) (?P<marks>[.!?…]++) (?P<closers>["'”’»)\]]*+)
    # news archives that lost their Unicode have .- for a no-break space, ."? for a curly quote and a space
    (?: -*+[ ] | (?<=")\?(?=[A-Z]) )""",
    re.VERBOSE,
)
_OPENERS = "\"'“‘«([¿¡"
_NEXT = re.compile(r"""["'“‘«(\[¿¡]*+(?P<word>[^\W_]*)(?P<dot>\.?)""")
_ACRONYM = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]|Ph\.D|M\.Sc|B\.Sc")

_NEVER_LAST = frozenset(
    "Adm Amb Brig Capt Cmdr Col Cpl Det Dr Fr Ft Gen Gov Hon Insp Lt Maj Messrs Mr Mrs Ms Mt Pres Prof Rep Reps Rev "
    "Sen Sens Sgt Sr St Supt e.g i.e viz vs".split()
)
"""Abbreviations before a name or an explanation: they never end a sentence."""
_BEFORE_NUMBER = frozenset(
    "Apr Art Aug Ch Chap Dec Eq Eqs Feb Fig Figs Jan Jul Jun Mar No Nos Nov Oct Sec Sect Sep Sept Vol "
    "art ch chap eq eqs fig figs no nos p para pp sec sect vol".split()
)
"""Abbreviations that do not end a sentence if a number follows."""
_MAYBE_LAST = frozenset(
    "Ala Ariz Ark Assn Ave Blvd Bros Calif Co Colo Conn Corp Del Dept Dist Fla Ga Ill Inc Ind Jr Kan Ky La LLC Ltd "
    "Mass Md Mich Minn Miss Mo Mont Neb Nev Okla Ont Ore Pa Plc Rd Tenn Tex Univ Va Vt Wash Wis Wyo".split()
)
"""Abbreviations that, like acronyms and initials, end a sentence only before one of `_STARTERS`."""
_STARTERS = frozenset(
    "A After All Also Although An And Another As At Because Before Both But By Despite During Each Even For From He "
    "Her Here His How However I If In It Its Last Many Meanwhile More Most Moreover My No Not Now On Once One Only "
    "Or Other Our Others She Since So Some Such That The Their Then There These They This Those Though Under Until "
    "We What When Where Whether Which While Who Why With Yet You Your".split()
)
"""Words that often begin a sentence."""


def split_sentences(article: str) -> list[str]:
    """Return the sentences of an English article.

    White space within a sentence becomes single spaces. A blank line always ends a sentence. Nothing
    else changes or is lost. A blank article has no sentences.
    """
    sentences = []
    for paragraph in _PARAGRAPH.split(article):
        text = " ".join(paragraph.split())
        start = 0
        for end in _END.finditer(text):
            if _is_last(text, start, end):
                sentences.append(text[start : end.end()].rstrip())
                start = end.end()
        if start < len(text):
            sentences.append(text[start:])
    return sentences


def _is_last(text: str, start: int, end: re.Match[str]) -> bool:
    """Whether the marks at `end` close the sentence that began at `start`."""
    following = _NEXT.match(text, end.end())
    word = following["word"] if following else ""
    if word[:1].islower() and not word[1:2].isupper():  # iPhone begins a sentence, "she said" does not
        return False
    if end["marks"] != "." or end["closers"]:
        return True
    first = max(start, text.rfind(" ", start, end.start()) + 1)
    token = text[first : end.start()].lstrip(_OPENERS)
    if token.isdigit() and len(token) <= 2 and first == start:  # "3." before an item of a list
        return False
    token = token.rpartition("-")[2]  # "ex-Sen."
    if token in _NEVER_LAST or (word[:1].isdigit() and token in _BEFORE_NUMBER):
        return False
    if token in _MAYBE_LAST or _ACRONYM.fullmatch(token):
        # "J. A. Smith": the A of a name, not the one that begins a sentence
        return word in _STARTERS and not (following and following["dot"])
    return True
