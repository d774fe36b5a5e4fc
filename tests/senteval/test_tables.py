"""Rows and columns as in the papers."""

import pytest

from senteval import STS_TASKS, TRANSFER_TASKS, RegressorScore, Results, StsScore, TransferScore
from senteval.results import Score
from senteval.tables import format_score, other_table, sts_table, transfer_table


def sts(spearman: float | None) -> StsScore:
    return StsScore(spearman=spearman, pearson=None, num_pairs=1)


def transfer(devacc: float, acc: float) -> TransferScore:
    return TransferScore(devacc=devacc, acc=acc, num_dev=1, num_test=1)


def results(mode: str = "test", **scores: Score) -> Results:
    return Results(mode=mode, aggregation="all", scores=scores)  # type: ignore[arg-type]


def test_the_sts_table_has_the_seven_tasks_and_their_unrounded_mean() -> None:
    values = [70.004, 70.004, 70.004, 70.004, 70.004, 70.004, 70.014]
    table = sts_table(results(**{task: sts(value) for task, value in zip(STS_TASKS, values, strict=True)}))
    assert table.header == (*STS_TASKS, "Avg.")
    # (6 * 70.004 + 70.014) / 7 = 70.00543 rounds to 70.01; the mean of rounded values would be 70.00
    assert table.rows == (("70.00",) * 6 + ("70.01", "70.01"),)


def test_a_task_that_was_not_run_is_a_dash_and_so_is_the_average() -> None:
    table = sts_table(results(STS12=sts(70.0)))
    assert table.rows == (("70.00", "-", "-", "-", "-", "-", "-", "-"),)


def test_an_undefined_correlation_is_a_dash_and_so_is_the_average() -> None:
    table = sts_table(results(**{task: sts(None if task == "STS14" else 50.0) for task in STS_TASKS}))
    assert table.rows == (("50.00", "50.00", "-", "50.00", "50.00", "50.00", "50.00", "-"),)


def test_the_dev_table_has_the_two_tasks_with_a_development_set() -> None:
    table = sts_table(results("dev", STSBenchmark=sts(80.0), SICKRelatedness=sts(70.0)))
    assert table.header == ("STSBenchmark", "SICKRelatedness")
    assert table.rows == (("80.00", "70.00"),)


@pytest.mark.parametrize(("mode", "shown"), [("test", "81.00"), ("fasttest", "81.00"), ("dev", "91.00")])
def test_the_transfer_table_shows_dev_or_test_accuracies(mode: str, shown: str) -> None:
    table = transfer_table(results(mode, **{task: transfer(91.0, 81.0) for task in TRANSFER_TASKS}))
    assert table.header == ("MR", "CR", "SUBJ", "MPQA", "SST2", "TREC", "MRPC", "Avg.")
    assert table.rows == ((shown,) * 8,)


def test_several_models_have_names_and_a_difference_to_the_teacher() -> None:
    teacher = results(**{task: sts(80.0) for task in STS_TASKS})
    student = results(**{task: sts(78.5) for task in STS_TASKS[:-1]})
    table = sts_table({"large": teacher, "small": student}, baseline="large")
    assert table.header[0] == "Model"
    assert table.rows == (
        ("large", *("80.00",) * 8),
        ("small", *("78.50",) * 6, "-", "-"),
        ("small - large", *("-1.50",) * 6, "-", "-"),
    )


def test_tasks_outside_the_two_tables_have_their_own_without_an_average() -> None:
    finetuned = RegressorScore(dev_spearman=1.0, spearman=84.0, pearson=85.0, mse=0.3, num_pairs=1379)
    one = results(**{"STSBenchmark-finetune": finetuned, "SST5": transfer(40.0, 42.0), "MR": transfer(1.0, 2.0)})
    table = other_table(one)
    assert table is not None
    assert (table.header, table.rows) == (("SST5", "STSBenchmark-finetune"), (("42.00", "84.00"),))
    assert other_table(results(MR=transfer(1.0, 2.0))) is None


def test_results_of_two_modes_do_not_share_a_table() -> None:
    with pytest.raises(ValueError, match="one mode, not of 2"):
        sts_table({"a": results("dev"), "b": results("test")})


def test_a_baseline_must_be_among_the_results() -> None:
    with pytest.raises(ValueError, match="'big' is not among a"):
        sts_table({"a": results()}, baseline="big")


def test_a_difference_has_a_sign_and_no_number_is_minus_zero() -> None:
    assert format_score(0.125, signed=True) == "+0.12"
    assert format_score(-0.001, signed=True) == "+0.00"
    assert format_score(-0.001) == "0.00"
    assert format_score(None) == "-"
