"""The document of speeds holds what the measured results draw."""

import pytest

from benchmarks.tables import BEGIN, DOCUMENT, END, draw, with_tables


def test_the_document_is_what_the_results_draw() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert with_tables(document, draw()) == document, "run python -m benchmarks.tables"


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    assert with_tables(f"a\n{BEGIN}old{END}\nb", "new") == f"a\n{BEGIN}\n\nnew\n\n{END}\nb"


def test_a_lost_marker_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks"):
        with_tables(f"a {BEGIN}", "new")
