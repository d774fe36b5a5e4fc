"""Articles into sentences."""

import re

from sentencex import segment

_PARAGRAPH = re.compile(r"\n[ \t\r]*\n")


def split_sentences(article: str) -> list[str]:
    """Return the sentences of an English `article`; a blank line ends one too."""
    paragraphs = _PARAGRAPH.split(article)
    return [sentence for paragraph in paragraphs for sentence in segment("en", paragraph.replace("\n", " "))]
