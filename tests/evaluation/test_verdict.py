import pytest

from distilcse_cli.errors import UsageError, VerdictError
from distilcse_cli.evaluation.verdict import GATE, METRICS, Fault, faults, parse_limits, require


def test_limits_are_typed_as_name_and_value_and_the_higher_of_two_counts() -> None:
    assert parse_limits(["shared10=0.6", " spearman = .9", "shared10=0.5"]) == {"shared10": 0.6, "spearman": 0.9}
    assert parse_limits([]) == {}


@pytest.mark.parametrize("typed", ["shared11=0.6", "=0.6", "", "seconds_per_million=3"])
def test_an_unknown_metric_is_one_line_with_all_of_them(typed: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_limits([typed])
    assert caught.value.hint == f"one of {', '.join(METRICS)}"


@pytest.mark.parametrize("typed", ["shared10", "shared10=", "shared10=much", "shared10=nan", "shared10=inf"])
def test_a_limit_is_a_number(typed: str) -> None:
    with pytest.raises(UsageError, match="is no number"):
        parse_limits([typed])


def test_a_value_at_its_limit_is_enough_and_what_was_not_measured_is_not() -> None:
    metrics = {"spearman": 0.9, "shared10": 0.59999, "cosine": None}
    found = faults(metrics, {"cosine": 0.1, "spearman": 0.9, "shared10": 0.6})
    assert found == (
        Fault(metric="cosine", value=None, least=0.1),
        Fault(metric="shared10", value=0.59999, least=0.6),
    )
    # rounded to three digits it would be 0.600 < 0.6
    assert list(map(str, found)) == ["cosine could not be measured, and 0.1 is asked for", "shared10 0.59999 < 0.6"]
    assert len(faults({"spearman": float("nan")}, {"spearman": 0.0})) == 1


def test_the_first_student_that_fails_is_named() -> None:
    bad = Fault(metric="shared10", value=0.25, least=0.6)
    require({"a": (), "b": ()})
    with pytest.raises(VerdictError) as caught:
        require({"a": (), "b": (bad,), "c": (bad, bad)})
    assert caught.value.message == "b is not good enough: shared10 0.250 < 0.6; 2 of 3 students failed"
    assert caught.value.exit_code == 7


def test_the_gate_is_made_of_metrics() -> None:
    assert set(GATE) <= set(METRICS)
