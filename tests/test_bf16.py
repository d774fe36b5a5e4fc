"""The format of `auto` follows a measurement, which is kept; its figures are injected here."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from distilcse_cli import bf16, runtime
from distilcse_cli.bf16 import Speed
from distilcse_cli.runtime import choose_runtime

Measured = Callable[..., Speed | None]
FLAGS = ["avx512_bf16"]


@pytest.fixture
def figures(home: Path, bf16_speed: Measured, monkeypatch: pytest.MonkeyPatch) -> list[Speed]:
    """What the next measurements find, on a CPU with bf16 instructions and an empty data home."""
    assert not home.exists()
    found: list[Speed] = []
    monkeypatch.setattr(bf16, "speed", bf16_speed)
    monkeypatch.setattr(bf16, "measure", lambda: found.pop(0))
    monkeypatch.setattr(runtime, "bf16_cpu_flags", lambda: FLAGS)
    return found


def test_auto_takes_the_faster_format_and_names_the_figures(figures: list[Speed]) -> None:
    figures += [Speed(float32=0.02, bfloat16=0.03)]
    chosen = choose_runtime("cpu")
    assert chosen.dtype == "float32"
    assert chosen.reason == "measured here: 30.0 ms in bfloat16, 20.0 ms in float32"


def test_a_second_run_computes_like_the_first_whatever_it_would_measure(figures: list[Speed]) -> None:
    figures += [Speed(float32=0.03, bfloat16=0.02), Speed(float32=0.02, bfloat16=0.03)]
    assert choose_runtime("cpu") == choose_runtime("cpu")
    assert choose_runtime("cpu").dtype == "bfloat16"
    assert len(figures) == 1


def test_other_threads_are_measured_anew(figures: list[Speed], monkeypatch: pytest.MonkeyPatch) -> None:
    figures += [Speed(float32=0.03, bfloat16=0.02), Speed(float32=0.02, bfloat16=0.03)]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert choose_runtime("cpu").dtype == "bfloat16"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert choose_runtime("cpu").dtype == "float32"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert choose_runtime("cpu").dtype == "bfloat16"


def test_what_is_typed_is_not_measured(figures: list[Speed], home: Path) -> None:
    assert choose_runtime("cpu", "bfloat16").reason == "asked for"
    assert not home.exists()
    assert not figures


def test_a_cpu_without_bf16_is_not_measured(figures: list[Speed], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "bf16_cpu_flags", list)
    assert choose_runtime("cpu").dtype == "float32"
    assert not home.exists()
    assert not figures


@pytest.mark.parametrize("content", ["", "{", "[]", '{"x": 1}', '{"x": {"float32": 1}}', '{"x": {"y": 1}}'])
def test_a_damaged_file_is_measured_anew(content: str, figures: list[Speed], home: Path) -> None:
    home.mkdir()
    (home / bf16.FILE).write_text(content, encoding="utf-8")
    figures += [Speed(float32=0.03, bfloat16=0.02)]
    assert choose_runtime("cpu").dtype == "bfloat16"
    assert choose_runtime("cpu").dtype == "bfloat16"


@pytest.mark.parametrize(("flags", "dtype"), [(FLAGS, "float32"), (["amx_bf16", *FLAGS], "bfloat16")])
def test_where_nothing_can_be_kept_the_flags_decide(
    flags: list[str], dtype: str, figures: list[Speed], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.write_text("no folder", encoding="utf-8")
    monkeypatch.setattr(runtime, "bf16_cpu_flags", lambda: flags)
    assert choose_runtime("cpu").dtype == dtype
    assert not figures


def test_a_measurement_leaves_the_random_generator_alone() -> None:
    before = torch.get_rng_state()
    found = bf16.measure()
    assert min(found.float32, found.bfloat16) > 0
    assert torch.equal(torch.get_rng_state(), before)
