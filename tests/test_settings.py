"""Settings describe and check themselves: every field has a `Setting`, and each limit holds."""

from dataclasses import dataclass
from typing import Annotated

import pytest

from distilcse_cli.config import CorpusSettings, EncodeSettings, MachineSettings, TripletSettings
from distilcse_cli.errors import UsageError
from distilcse_cli.evaluation.settings import EvalSettings
from distilcse_cli.setting import PANELS, Setting, check, option_name, settings_of
from distilcse_cli.training.settings import DistillSettings, FinetuneSettings

KINDS = (
    CorpusSettings,
    DistillSettings,
    EncodeSettings,
    EvalSettings,
    FinetuneSettings,
    MachineSettings,
    TripletSettings,
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_describes_itself_in_a_sentence_under_a_known_heading(kind: type) -> None:
    for name, setting in settings_of(kind).items():
        assert setting.help.endswith("."), name
        assert setting.panel in PANELS, name


def test_a_subclass_that_changes_a_default_keeps_description_and_limits() -> None:
    assert settings_of(FinetuneSettings)["lr"] is settings_of(DistillSettings)["lr"]
    assert (DistillSettings().rate, FinetuneSettings().rate) == (5e-4, 5e-5)
    with pytest.raises(UsageError, match="--lr is 0, but must be a positive number"):
        FinetuneSettings(lr=0)
    # None stands for a default in stage 1 alone
    with pytest.raises(UsageError, match="lr is None, but must have a value"):
        FinetuneSettings(lr=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("num_layers", "rate"), [(0, 5e-3), (1, 1e-3), (2, 1e-3), (3, 5e-4), (12, 5e-4), (None, 5e-4)])
def test_the_fewer_layers_are_kept_the_higher_the_learning_rate(num_layers: int | None, rate: float) -> None:
    assert DistillSettings().with_rate(num_layers).rate == rate
    assert DistillSettings(lr=2e-5).with_rate(num_layers).rate == 2e-5


def test_a_field_without_a_setting_is_a_bug() -> None:
    @dataclass
    class Forgotten:
        count: int = 1

    with pytest.raises(TypeError, match="Forgotten: no Setting for count"):
        settings_of(Forgotten)


@dataclass(frozen=True)
class Limits:
    share: Annotated[float | None, Setting("A share.", at_least=0, at_most=1)] = None
    count: Annotated[int, Setting("A count.", option="--number", at_least=2)] = 2
    rate: Annotated[float, Setting("A rate.", positive=True)] = 1.0
    color: Annotated[str, Setting("A color.", choices=("red", "blue"))] = "red"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Limits(share=1.5), "--share is 1.5, but must be within 0 and 1"),
        (Limits(share=float("nan")), "--share is nan, but must be within 0 and 1"),
        (Limits(count=1), "--number is 1, but must be at least 2"),
        (Limits(rate=float("inf")), "--rate is inf, but must be a positive number"),
        (Limits(rate=0.0), "--rate is 0.0, but must be a positive number"),
        (Limits(color="green"), "--color is 'green', but must be one of red, blue"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_option(settings: Limits, message: str) -> None:
    with pytest.raises(UsageError) as error:
        check(settings)
    assert error.value.message == message


def test_values_within_their_limits_and_none_pass() -> None:
    check(Limits(share=None))
    check(Limits(share=1.0, count=2, rate=1e-9, color="blue"))


def test_an_option_is_named_after_its_field_or_by_its_setting() -> None:
    assert option_name("max_length", Setting("x.")) == "--max-length"
    assert option_name("header", Setting("x.", option="--header/--no-header")) == "--header"


@pytest.mark.parametrize("loss", ["ckd", "ckd+mse", "kl"])
def test_a_loss_that_needs_negatives_is_refused_without_any(loss: str) -> None:
    with pytest.raises(UsageError, match=r"leaves .* no negatives"):
        DistillSettings(loss=loss, batch_size=1, bank_size=0)
    DistillSettings(loss="mse", batch_size=1, bank_size=0)
